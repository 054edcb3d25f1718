"""`edgedenoise import-tf`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import edgedenoise
from edgedenoise.cli.common import Output, cli_command


@cli_command
def command(
    output: Output,
    checkpoint: Annotated[
        Path,
        typer.Argument(metavar="CHECKPOINT_PREFIX", help="Path of the checkpoint's .index file, without .index."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run to make.")],
) -> None:
    """Make a run from the C-BSN authors' TensorFlow checkpoint."""
    with output.progress() as progress:
        result = edgedenoise.import_tf(checkpoint, out, progress=progress)
    text = (
        f"imported {result.network} ({result.parameters:,} parameters): {result.run}\n"
        f"next: edgedenoise build {result.run} --data DIR -o NAME.edge"
    )
    output.result(result, text)
