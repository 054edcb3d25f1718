"""`edgedenoise calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import edgedenoise
from edgedenoise.cli.common import NOISE_LEVEL, Output, verb


@verb
def command(
    output: Output,
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    data: Annotated[Path, typer.Option(help="Noisy photographs, as noisy as those to be denoised.")],
    count: Annotated[int, typer.Option(help="Number of crops.")] = 128,
    seed: Annotated[int, typer.Option(help="The same seed draws the same crops.")] = 0,
    crop: Annotated[int, typer.Option(help="Side of a crop in pixels.")] = 128,
    noise_level: Annotated[list[float] | None, typer.Option(help=NOISE_LEVEL)] = None,
) -> None:
    """Measure the range of every activation on noisy photographs and store it in the bundle."""
    with output.progress() as progress:
        calibrated = edgedenoise.calibrate_model(
            bundle, data, count=count, seed=seed, crop_px=crop, noise_levels=noise_level or (), progress=progress
        )
    known = calibrated.manifest.calibration
    text = "" if known is None else f"measured ranges on {known.crops} crops of {known.photographs} photographs"
    output.result(known, f"{text}\nnext: edgedenoise quantize {bundle} --data {data}")
