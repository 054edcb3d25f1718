"""`edgedenoise build`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

import edgedenoise
from edgedenoise.cli.common import ABOUT, NOISE_LEVEL, Output, cli_command, text_of
from edgedenoise.cli.verify import verify_table


@cli_command
def command(
    output: Output,
    run: Annotated[Path, typer.Argument(help="Folder made by train.")],
    data: Annotated[Path, typer.Option(help="Noisy images to calibrate on.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Bundle folder to write, NAME.edge.")],
    checkpoint: Annotated[Literal["last", "best"], typer.Option(help="Which of the run's.")] = "last",
    count: Annotated[int, typer.Option(help="Calibration crops.")] = 128,
    seed: Annotated[int, typer.Option(help="Of the calibration crops.")] = 0,
    scheme: Annotated[
        str | None, typer.Option(help="u8s7 (any CPU, the default), u8s8, s8s8 (TensorRT) or coreml.")
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="What to compile for besides ONNX Runtime; default: all installed."),
    ] = None,
    noise_level: Annotated[list[float] | None, typer.Option(help=NOISE_LEVEL)] = None,
    about: Annotated[Path | None, typer.Option(help=ABOUT)] = None,
) -> None:
    """Export, calibrate, quantize, compile and verify in one command."""
    with output.progress() as progress:
        report = edgedenoise.build(
            run,
            data,
            out,
            which=checkpoint,
            count=count,
            seed=seed,
            scheme=scheme,
            targets=None if target is None else tuple(target),
            noise_levels=noise_level or (),
            about=text_of(about),
            progress=progress,
        )
    text = f"{verify_table(report.verified)}\nbuilt {out}\nnext: edgedenoise denoise PHOTO -o OUT -m {out}"
    output.result({"bundle": out, "quantized": report.quantized, "verified": report.verified}, text)
