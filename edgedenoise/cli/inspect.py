"""`edgedenoise inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgedenoise.cli.common import Output, cli_command
from edgedenoise.tables import table

if TYPE_CHECKING:
    from edgedenoise.bundles.manifest import InputShapes


@cli_command
def command(
    output: Output,
    model: Annotated[Path, typer.Argument(help="Bundle folder, archive, or a model file that edgedenoise wrote.")],
) -> None:
    """Show what a bundle holds; checks the manifest, not the files (that is verify)."""
    from edgedenoise.denoiser import open_model

    opened = open_model(model)
    manifest = opened.manifest
    network, tiling = manifest.network, manifest.tiling
    rows = [
        [v.name, v.runtime, v.precision, "-" if v.fidelity_db is None else f"{v.fidelity_db:.1f}", _sides(v.shapes)]
        for v in manifest.variants
    ]
    rows += [[u.name, u.runtime, u.precision, "-", "unknown to this version"] for u in opened.unknown_variants]
    text = "\n".join(
        [
            f"{manifest.name}: {network.name}, {network.parameters:,} parameters, {network.macs_per_px:,} MAC/pixel",
            f"normalization {manifest.normalization}, halo {tiling.halo_px} px, multiple of {tiling.multiple_of}",
            table(["variant", "runtime", "precision", "dB to float", "sides px"], rows),
        ]
    )
    output.result(manifest, text)


def _sides(shapes: InputShapes | None) -> str:
    """Return the sides of inputs as `compile` takes them."""
    if shapes is None:
        return "any"
    return (":" if shapes.kind == "ranged" else ",").join(map(str, shapes.sides_px))
