"""`edgedenoise evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

import edgedenoise
from edgedenoise.cli.common import Output, cli_command


@cli_command
def command(
    output: Output,
    run: Annotated[Path, typer.Argument(help="Folder made by train.")],
    noisy: Annotated[Path, typer.Option(help="Folder of noisy images.")],
    clean: Annotated[Path, typer.Option(help="Folder of their ground truth, under the same names.")],
    mode: Annotated[
        Literal["direct", "stride2", "stride2-enhanced"],
        typer.Option(help="One non-blind pass as on devices, or as papers test: sub-images of every second pixel."),
    ] = "direct",
    checkpoint: Annotated[Literal["last", "best"], typer.Option(help="Which of the run's.")] = "last",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    keep: Annotated[Path | None, typer.Option(help="Folder to write the denoised images to.")] = None,
) -> None:
    """Measure a trained network, before it is exported, on images whose ground truth is known."""
    from edgedenoise.tables import table

    with output.progress() as progress:
        found = edgedenoise.evaluate(
            run, noisy, clean, mode=mode, which=checkpoint, device=device, keep=keep, progress=progress
        )
    rows = [
        [name, f"{quality.psnr_db:.2f}", f"{quality.ssim:.4f}"]
        for name, quality in (("noisy", found.noisy), (f"{found.network}, {found.mode}", found.denoised))
    ]
    output.result(found, table([f"{found.photographs} images", "PSNR dB", "SSIM"], rows))
