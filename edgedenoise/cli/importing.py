"""What the commands `import-onnx` and `import-torch` share: their options, and how they show what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edgedenoise.errors import UsageError
from edgedenoise.printable import one_line
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from pathlib import Path

    from edgedenoise.cli.common import Output
    from edgedenoise.exporting.onnx.foreign import ImportedBundle

__all__ = ["Halo", "Tiles", "pixels", "show_imported"]

Tiles = Annotated[
    Literal["exact", "blend"],
    typer.Option(
        help="exact: tiles have the pixels of the whole image, or the network is refused. blend: take a network that"
        " averages the whole image; tiles overlap and are blended, and are not exact."
    ),
]

Halo = Annotated[str, typer.Option(help="Context of a tile in pixels; auto for the receptive field of the graph.")]


def pixels(halo: str) -> int | None:
    """Return the value of `--halo`; None for auto.

    Raises:
        UsageError: it is neither auto nor a number.
    """
    if halo == "auto":
        return None
    if not (halo.isascii() and halo.isdigit()):
        raise UsageError(f"--halo is not accepted: expected auto or a number of pixels, got {halo!r}")
    return int(halo)


def show_imported(output: Output, source: Path, out: Path, imported: ImportedBundle) -> None:
    """Write what was imported and measured."""
    value = {
        "path": out,
        "tiles": "exact" if imported.bundle.manifest.tiling.is_exact else "blended",
        "halo_px": imported.halo_px,
        "measured_px": imported.measured_px,
        "multiple_of": imported.multiple_of,
        "max_error_lsb": imported.max_error_lsb,
        "max_tile_error_lsb": imported.max_tile_error_lsb,
    }
    tiling = imported.bundle.manifest.tiling
    reach = "the whole image" if imported.measured_px is None else f"{imported.measured_px} px"
    tiles = f"largest difference of tiles from the whole image: {imported.max_tile_error_lsb:.1e} 8-bit levels"
    if not tiling.is_exact:
        tiles = (
            f"tiles are blended over {2 * tiling.strip_px} px and not exact: up to {imported.max_tile_error_lsb:.2g}"
            " 8-bit levels from the whole image, on a test image"
        )
    text = (
        f"imported {one_line(source)} to {one_line(out)}\n"
        f"halo: {imported.halo_px} px (measured: {reach}), sides of tiles: multiples of {imported.multiple_of}\n"
        f"largest difference from the original: {imported.max_error_lsb:.1e} 8-bit levels\n"
        f"{tiles}\n"
        f"next, with a folder of noisy images: {command_line('calibrate', out, '--data')} ..."
    )
    output.result(value, text)
