"""`edgedenoise export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

import edgedenoise
from edgedenoise.cli.common import ABOUT, Output, cli_command, text_of


@cli_command
def command(
    output: Output,
    run: Annotated[Path, typer.Argument(help="Folder made by train.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Bundle folder to write, NAME.edge.")],
    checkpoint: Annotated[Literal["last", "best"], typer.Option(help="Which of the run's.")] = "last",
    about: Annotated[Path | None, typer.Option(help=ABOUT)] = None,
) -> None:
    """Trace the non-blind path of a trained network into a bundle."""
    with output.progress() as progress:
        bundle = edgedenoise.export(run, out, which=checkpoint, about=text_of(about), progress=progress)
    manifest = bundle.manifest
    parity = manifest.parity
    text = f"exported {manifest.network.name} to {out}"
    if parity is not None:
        text += f"; differs from PyTorch by {parity.max_relative_error:.1e} (relative) over {len(parity.sizes)} sizes"
    output.result(manifest, f"{text}\nnext: edgedenoise calibrate {out} --data DIR")
