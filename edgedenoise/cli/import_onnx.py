"""`edgedenoise import-onnx`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

import edgedenoise
from edgedenoise.cli.common import ABOUT, Output, cli_command, text_of
from edgedenoise.cli.importing import Halo, Tiles, pixels, show_imported


@cli_command
def command(
    output: Output,
    model: Annotated[Path, typer.Argument(help="ONNX file of the denoiser.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Bundle folder to write, for example my.edge.")],
    normalization: Annotated[
        Literal["unit", "whole-image", "whole-image-bounded"],
        typer.Option(
            help="How the network takes pixels: as [0, 1], with the mean and the deviation of the whole image, or the"
            " same with a limit for INT8."
        ),
    ] = "unit",
    tiling: Tiles = "exact",
    halo: Halo = "auto",
    about: Annotated[Path | None, typer.Option(help=ABOUT)] = None,
) -> None:
    """Make a bundle of a denoiser from any framework.

    The graph is cleaned, compared with the original, and refused with the reason where tiles would differ from the
    whole image.
    """
    with output.progress() as progress:
        imported = edgedenoise.import_onnx(
            model,
            out,
            normalization=normalization,
            tiling=tiling,
            halo_px=pixels(halo),
            about=text_of(about),
            progress=progress,
        )
    show_imported(output, model, out, imported)
