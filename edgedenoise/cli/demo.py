"""The command `edgedenoise demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgedenoise.cli.common import Output, cli_command


@cli_command
def command(
    output: Output,
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")] = Path("build/demo"),
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of your noisy images; by default, free sample images with camera noise."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Train for seconds only: lower quality, same stages.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of noise, crops and training.")] = 0,
) -> None:
    """Run every step on sample images or on your own.

    The steps are train, export, calibrate, quantize, compile, verify, denoise and compare.
    """
    from edgedenoise.demo import demo_text, run_demo

    with output.progress() as progress:
        result = run_demo(out, data=data, quick=quick, seed=seed, progress=progress)
    output.result(result, demo_text(result))
