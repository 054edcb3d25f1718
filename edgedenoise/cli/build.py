"""`edgedenoise build`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import edgedenoise
from edgedenoise.cli.common import (
    ABOUT,
    CHECKPOINT,
    NOISE_LEVEL,
    SCHEME,
    NormalizationOption,
    Output,
    Which,
    Wide,
    cli_command,
    text_of,
)
from edgedenoise.cli.quantize import loss_line
from edgedenoise.cli.verify import variants_table
from edgedenoise.printable import one_line
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from edgedenoise.exporting.verify import NotBuilt


@cli_command
def command(
    output: Output,
    checkpoint: Annotated[Path, typer.Argument(help=CHECKPOINT)],
    data: Annotated[Path, typer.Option(help="Folder of noisy images to calibrate on.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Bundle folder to write, for example my.edge.")],
    which: Which = "last",
    count: Annotated[int, typer.Option(help="Number of calibration crops.")] = 128,
    seed: Annotated[int, typer.Option(help="Seed of the calibration crops.")] = 0,
    scheme: Annotated[str | None, typer.Option(help=SCHEME)] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="Backend to compile for besides ONNX Runtime. Repeatable. Default: all installed ones.",
        ),
    ] = None,
    noise_level: Annotated[list[float] | None, typer.Option(help=NOISE_LEVEL)] = None,
    normalization: NormalizationOption = "trained",
    search_time: Annotated[
        float,
        typer.Option(
            min=0,
            help="Longest search for layers that cost too much in INT8 and are kept in float, in seconds. 0: none.",
        ),
    ] = 120.0,
    about: Annotated[Path | None, typer.Option(help=ABOUT)] = None,
    wide: Wide = False,
) -> None:
    """Export, calibrate, quantize, compile and verify in one step."""
    with output.progress() as progress:
        report = edgedenoise.build(
            checkpoint,
            data,
            out,
            which=which,
            count=count,
            seed=seed,
            scheme=scheme,
            normalization=None if normalization == "trained" else normalization,
            search_seconds=search_time,
            targets=None if target is None else tuple(target),
            noise_levels=noise_level or (),
            about=text_of(about),
            progress=progress,
        )
    built = ", ".join(check.variant for check in report.verified.variants)
    lines = [variants_table(report.verified, wide=wide), one_line(f"built {out}: {built}")]
    if report.quantized.loss is not None:
        lines.append(loss_line(report.quantized))
    if report.verified.not_built:
        lines.append(_not_built_line(report.verified.not_built, out))
    folder = data if data.is_dir() else data.parent
    lines.append(f"next: {command_line('denoise', folder, '-o', f'{folder}-denoised', '-m', out)}")
    output.result({"bundle": out, "quantized": report.quantized, "verified": report.verified}, "\n".join(lines))


def _not_built_line(missing: tuple[NotBuilt, ...], bundle: Path) -> str:
    """Return one line about the variants that were not built, with a command."""
    if len(missing) == 1:
        return f"not built: {missing[0].target} {missing[0].precision}; to build it: {missing[0].command}"
    targets = dict.fromkeys(one.target for one in missing)
    names = ", ".join(
        f"{target} ({', '.join(one.precision for one in missing if one.target == target)})" for target in targets
    )
    return f"not built: {names}; the commands: {command_line('verify', bundle)}"
