"""`edgedenoise export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import edgedenoise
from edgedenoise.cli.common import ABOUT, CHECKPOINT, NormalizationOption, Output, Which, cli_command, text_of
from edgedenoise.printable import one_line
from edgedenoise.shell import command_line

GUARD = "Remove no more than the noise level explains; only for networks that take a noise level, such as edge-level."


@cli_command
def command(
    output: Output,
    checkpoint: Annotated[Path, typer.Argument(help=CHECKPOINT)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Bundle folder to write, for example my.edge.")],
    which: Which = "last",
    normalization: NormalizationOption = "trained",
    guard: Annotated[bool, typer.Option("--guard/--no-guard", help=GUARD)] = True,
    about: Annotated[Path | None, typer.Option(help=ABOUT)] = None,
) -> None:
    """Export a trained network as a bundle with a float ONNX graph."""
    with output.progress() as progress:
        bundle = edgedenoise.export(
            checkpoint,
            out,
            which=which,
            normalization=None if normalization == "trained" else normalization,
            guard=guard,
            about=text_of(about),
            progress=progress,
        )
    manifest = bundle.manifest
    lines = [one_line(f"exported {manifest.network.name} to {out}")]
    parity = manifest.parity
    if parity is not None and parity.max_error_lsb is not None:
        lines.append(
            f"largest difference from PyTorch: {parity.max_error_lsb:.1e} 8-bit levels,"
            f" over {len(parity.sizes)} image sizes"
        )
    lines.append(f"next, with a folder of noisy images: {command_line('calibrate', out, '--data')} ...")
    output.result(manifest, "\n".join(lines))
