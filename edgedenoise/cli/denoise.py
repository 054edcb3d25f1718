"""`edgedenoise denoise`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import edgedenoise
from edgedenoise.bundles.pretrained import DEFAULT
from edgedenoise.cli.common import Output, cli_command
from edgedenoise.errors import UsageError


@cli_command
def command(
    output: Output,
    inputs: Annotated[list[Path], typer.Argument(metavar="IN...", help="Images, or folders of them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Output file (for one input file) or folder.")],
    model: Annotated[
        Path, typer.Option("--model", "-m", help="Bundle or model file, or a shipped one: edge, edge-tiny.")
    ] = Path(DEFAULT),
    runtime: Annotated[str, typer.Option(help="auto, onnxruntime, openvino, tensorrt, ...; see doctor.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, fp16, int8 or w8a16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, or a device that doctor lists; never falls back.")] = "auto",
    tile: Annotated[str, typer.Option(help="auto, a side in pixels, or 0 for the whole image.")] = "auto",
    strength: Annotated[float, typer.Option(help="0 gives the input, 1 the network's answer.")] = 1.0,
    threads: Annotated[int | None, typer.Option(help="Threads; default: the runtime decides.")] = None,
) -> None:
    """Denoise images: same size, depth, format and metadata out as in."""
    if tile != "auto" and not tile.isdecimal():
        raise UsageError(f"--tile is {tile!r}; accepted are auto, 0 (the whole image) and a number of pixels")
    with output.progress() as progress:
        report = edgedenoise.denoise_files(
            inputs,
            out,
            model,
            runtime=runtime,
            precision=precision,
            device=device,
            tile="auto" if tile == "auto" else int(tile),
            strength=strength,
            threads=threads,
            progress=progress,
        )
    for failure in report.failures:
        if failure.error is not None:
            output.failure(failure.error)
    what = report.effective
    done = len(report.files) - len(report.failures)
    text = (
        f"denoised {done} of {len(report.files)} with {report.variant} on {what.runtime} {what.version},"
        f" {what.device} ({what.detail})"
    )
    output.result(report, text)
    if report.failures and report.failures[0].error is not None:
        raise typer.Exit(report.failures[0].error.exit_code)
