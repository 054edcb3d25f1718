"""`edgedenoise calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import edgedenoise
from edgedenoise.cli.common import NOISE_LEVEL, Output, cli_command
from edgedenoise.printable import one_line
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from edgedenoise.calibration.calibrate import CalibrationReport

_MOST_NAMED = 10  # dropped images; all of them are in the report and in the bundle


@cli_command
def command(
    output: Output,
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    data: Annotated[
        Path,
        typer.Option(help="Folder of noisy images like those to be denoised, or a text file with one path per line."),
    ],
    count: Annotated[int, typer.Option(help="Number of crops.")] = 128,
    seed: Annotated[int, typer.Option(help="Seed of the crops.")] = 0,
    crop: Annotated[int, typer.Option(help="Side of a crop in pixels.")] = 128,
    noise_level: Annotated[list[float] | None, typer.Option(help=NOISE_LEVEL)] = None,
    stratify: Annotated[
        str,
        typer.Option(help="none: evenly over the images. noise: evenly over noise levels, brightness and texture."),
    ] = "none",
    set_of: Annotated[
        Path | None,
        typer.Option(help="Bundle whose recorded crops are measured, instead of new ones. May be the same bundle."),
    ] = None,
) -> None:
    """Measure activation ranges on noisy images."""
    from edgedenoise.calibration.calibrate import calibration_report
    from edgedenoise.calibration.strata import checked_stratify

    with output.progress() as progress:
        calibrated = edgedenoise.calibrate(
            bundle,
            data,
            count=count,
            seed=seed,
            crop_px=crop,
            noise_levels=noise_level or (),
            stratify=checked_stratify(stratify),
            set_of=set_of,
            progress=progress,
        )
    report = calibration_report(calibrated)
    following = command_line("quantize", bundle, "--data", data)
    output.result(report, "\n".join([*_lines(report), f"next: {following}"]))


def _lines(report: CalibrationReport) -> list[str]:
    selected = f", selected from {report.candidates} by noise, brightness and texture" if report.candidates else ""
    lines = [f"measured ranges on {report.crops} crops of {report.images} images{selected}"]
    named = report.duplicates[:_MOST_NAMED]
    lines += [one_line(f"dropped {one.image}: the same {one.by} as {one.same_as}") for one in named]
    if len(named) < len(report.duplicates):
        lines.append(f"dropped {len(report.duplicates) - len(named)} more duplicate images")
    if report.overlapping:
        kind = "candidates" if report.candidates else "crops"
        lines.append(f"dropped {report.overlapping} {kind} at the same place as others")
    if report.trained_ranges:
        lines.append(
            f"the weights were trained with {report.trained_ranges} ranges, which `quantize` prefers to these; to use"
            " these: quantize --ignore-trained-ranges"
        )
    return lines
