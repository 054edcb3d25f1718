"""The command `edgedenoise import-tf`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import edgedenoise
from edgedenoise.cli.common import Output, cli_command
from edgedenoise.printable import one_line
from edgedenoise.shell import command_line


@cli_command
def command(
    output: Output,
    checkpoint: Annotated[Path, typer.Argument(help="Path of the checkpoint's .index file, without .index.")],
    out: Annotated[Path, typer.Option(help="Run folder to make.")],
) -> None:
    """Convert a TensorFlow checkpoint of the C-BSN authors to a run."""
    with output.progress() as progress:
        result = edgedenoise.import_tf(checkpoint, out, progress=progress)
    following = command_line("build", result.run, "-o", f"{result.network}.edge", "--data")
    text = (
        f"imported {result.network} ({result.parameters:,} parameters): {one_line(result.run)}\n"
        f"next, with a folder of noisy images: {following} ..."
    )
    output.result(result, text)
