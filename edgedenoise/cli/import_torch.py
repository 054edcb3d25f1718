"""`edgedenoise import-torch`."""

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
    source: Annotated[
        Path, typer.Argument(help="torch.export program (.pt2), or weights of C-BSN (.safetensors, .pt).")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Bundle folder to write, for example my.edge.")],
    normalization: Annotated[
        Literal["auto", "unit", "whole-image", "whole-image-bounded"],
        typer.Option(
            help="How the network takes pixels: auto (unit for programs, that of the port's code for weights), as"
            " [0, 1], with the mean and the deviation of the whole image, or the same with a limit for INT8."
        ),
    ] = "auto",
    tiling: Tiles = "exact",
    halo: Halo = "auto",
    trust_program: Annotated[
        bool, typer.Option("--trust-program", help="Load a .pt2 file. Torch can run code that such a file chooses.")
    ] = False,
    about: Annotated[Path | None, typer.Option(help=ABOUT)] = None,
) -> None:
    """Make a bundle of a denoiser from PyTorch.

    The graph is compared with the network in PyTorch, and refused with the reason where tiles would differ from the
    whole image. Weights are read without running code in the file.
    """
    with output.progress() as progress:
        imported = edgedenoise.import_torch(
            source,
            out,
            normalization=None if normalization == "auto" else normalization,
            tiling=tiling,
            halo_px=pixels(halo),
            trust_program=trust_program,
            about=text_of(about),
            progress=progress,
        )
    show_imported(output, source, out, imported)
