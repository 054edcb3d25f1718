"""`edgedenoise inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgedenoise.cli.common import Output, Wide, cli_command
from edgedenoise.printable import one_line
from edgedenoise.tables import table

if TYPE_CHECKING:
    from edgedenoise.bundles.manifest import InputShapes, NoiseLevel, Variant

_NARROW = ("variant", "runtime", "precision", "dB to float", "sides px")


@cli_command
def command(
    output: Output,
    model: Annotated[Path, typer.Argument(help="Bundle folder, archive, or a model file that edgedenoise wrote.")],
    wide: Wide = False,
) -> None:
    """Show the contents of a bundle, without checking its files."""
    from edgedenoise.runtimes.opening import open_model

    opened = open_model(model)
    manifest = opened.manifest
    network, tiling, level = manifest.network, manifest.tiling, manifest.noise_level
    header = [*_NARROW, "scheme", "weight bits", "file"]
    lines = [
        one_line(
            f"{manifest.name}: {network.name}, {network.parameters:,} parameters, {network.macs_per_px:,} MAC/pixel"
        ),
        f"normalization {manifest.input_normalization}, halo {tiling.halo_px} px, multiple of {tiling.multiple_of}",
        *([] if tiling.is_exact else [f"tiles are blended over {2 * tiling.strip_px} px and not exact"]),
        *([] if level is None else [_level_line(level)]),
        table(header, [_cells(variant) for variant in manifest.variants], columns=None if wide else _NARROW),
    ]
    lines += [
        one_line(f"{one.name}: {one.not_recommended or one.loss}") for one in manifest.variants if one.loss is not None
    ]
    lines += [
        one_line(f"{one.name} ({one.runtime}, {one.precision}): unknown to this version of edgedenoise; it is skipped")
        for one in opened.unknown_variants
    ]
    output.result(manifest, "\n".join(lines))


def _level_line(level: NoiseLevel) -> str:
    return one_line(f"takes the noise level: {level.estimator} {level.version}, gain {level.gain:g}")


def _cells(variant: Variant) -> list[str]:
    encoding = variant.encoding
    return [
        variant.name,
        variant.runtime,
        variant.precision,
        "-" if variant.fidelity_db is None else f"{variant.fidelity_db:.1f}",
        _sides(variant.shapes),
        "-" if encoding is None else encoding.scheme,
        "-" if encoding is None else str(encoding.weight_bits),
        variant.path,
    ]


def _sides(shapes: InputShapes | None) -> str:
    """Return the sides of the inputs in the form of the options of `compile`."""
    if shapes is None:
        return "any"
    return (":" if shapes.kind == "ranged" else ",").join(map(str, shapes.sides_px))
