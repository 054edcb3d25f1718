"""The command `edgedenoise evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

import edgedenoise
from edgedenoise.cli.common import CHECKPOINT, Output, Which, cli_command


@cli_command
def command(
    output: Output,
    checkpoint: Annotated[Path, typer.Argument(help=CHECKPOINT)],
    noisy: Annotated[Path, typer.Option(help="Folder of noisy images.")],
    clean: Annotated[Path, typer.Option(help="Folder with their ground truth, under the same names.")],
    mode: Annotated[
        Literal["direct", "stride2", "stride2-enhanced"],
        typer.Option(
            help="direct: one pass, as on devices; stride2: sub-images of every second pixel, as papers test."
        ),
    ] = "direct",
    which: Which = "last",
    device: Annotated[str, typer.Option(help="Device: auto, cpu, cuda, cuda:N or mps.")] = "auto",
    keep: Annotated[Path | None, typer.Option(help="Folder to write the denoised images to.")] = None,
) -> None:
    """Measure the PSNR and SSIM of a trained network.

    Images with ground truth are needed.
    """
    from edgedenoise.tables import table

    with output.progress() as progress:
        found = edgedenoise.evaluate(
            checkpoint, noisy, clean, mode=mode, which=which, device=device, keep=keep, progress=progress
        )
    rows = [
        [name, f"{quality.psnr_db:.2f}", f"{quality.ssim:.4f}"]
        for name, quality in (("noisy", found.noisy), (f"{found.network}, {found.mode}", found.denoised))
    ]
    output.result(found, table([f"{found.images} images", "PSNR dB", "SSIM"], rows))
