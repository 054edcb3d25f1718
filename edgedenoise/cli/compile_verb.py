"""`edgedenoise compile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import edgedenoise
from edgedenoise.cli.common import Output, verb


@verb
def command(
    output: Output,
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    target: Annotated[str, typer.Option(help="onnxruntime, openvino, tensorrt or coreml; see doctor.")],
    precision: Annotated[str | None, typer.Option(help="Only fp32 or int8; default: both.")] = None,
) -> None:
    """Build a backend's own files from the bundle's graphs and prove them with the self-test."""
    from edgedenoise.bundle import checked_precision

    wanted = None if precision is None else checked_precision(precision)
    with output.progress() as progress:
        compiled = edgedenoise.compile_model(bundle, target=target, precision=wanted, progress=progress)
    names = [variant.name for variant in compiled.manifest.variants]
    output.result(compiled.manifest.variants, f"{bundle} now has {', '.join(names)}")
