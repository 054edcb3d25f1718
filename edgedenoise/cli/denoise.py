"""`edgedenoise denoise`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

import edgedenoise
from edgedenoise.bundles.pretrained import DEFAULT
from edgedenoise.cli.common import DEVICE, THREADS, Output, cli_command
from edgedenoise.errors import UsageError


@cli_command
def command(
    output: Output,
    inputs: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Output file (for one input file) or folder.")],
    model: Annotated[
        Path, typer.Option("--model", "-m", help="Bundle, model file, or a shipped bundle: edge, edge-tiny.")
    ] = Path(DEFAULT),
    runtime: Annotated[str, typer.Option(help="auto, or a backend that `edgedenoise doctor` lists.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, fp16, int8 or w8a16.")] = "auto",
    device: Annotated[str, typer.Option(help=DEVICE)] = "auto",
    tile: Annotated[str, typer.Option(help="auto, a side in pixels, or 0 for the whole image.")] = "auto",
    strength: Annotated[float, typer.Option(help="From 0 (the input) to 1 (the output of the network).")] = 1.0,
    threads: Annotated[int | None, typer.Option(help=THREADS)] = None,
) -> None:
    """Denoise images and keep their size, depth and metadata."""
    if tile != "auto" and not tile.isdecimal():
        raise UsageError(f"--tile is not accepted: expected auto, 0 (whole image) or a side in pixels, got {tile!r}")
    with output.progress() as progress:
        report = edgedenoise.denoise_files(
            inputs,
            out,
            model,
            runtime=runtime,
            precision=cast("Any", precision),  # `load` checks it
            device=device,
            tile="auto" if tile == "auto" else int(tile),
            strength=strength,
            threads=threads,
            progress=progress,
        )
    for failure in report.failures:
        if failure.error is not None:
            output.failure(failure.error)
    used = report.effective
    done = len(report.files) - len(report.failures)
    text = (
        f"denoised {done} of {len(report.files)} with {report.variant} on {used.runtime} {used.version},"
        f" {used.device} ({used.detail})"
    )
    output.result(report, text)
    if report.failures and report.failures[0].error is not None:
        raise typer.Exit(report.failures[0].error.exit_code)
