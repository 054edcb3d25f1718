"""Rebuild: build variants again that `quantize` removed because the graph that they were made of was replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.exporting import compile as compiling
from edgedenoise.progress import Progress, silent
from edgedenoise.runtimes.job import BuildOptions
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgedenoise.bundles.manifest import InputShapes
    from edgedenoise.exporting.quantization.quantize_report import Removed


def rebuild(bundle: Path | str, removed: Sequence[Removed], progress: Progress = silent) -> Bundle:
    """Build removed variants again, for the same input sizes.

    Options of backends, such as Core ML's `io`, are not recorded in a bundle; the defaults are used.

    Args:
        bundle: the bundle folder.
        removed: `QuantizeReport.removed`.
        progress: called after each variant.

    Returns:
        The bundle as it is now.

    Raises:
        RuntimeUnavailableError: the package of a backend is missing.
        EdgeDenoiseError: as `edgedenoise.compile`; the variants that were built before stay in the bundle.
    """
    for one in removed:
        compiling.compile(
            bundle, target=one.runtime, precision=one.precision, options=_options(one.shapes), progress=progress
        )
    return Bundle.open(bundle)


def rebuild_command(bundle: Path | str, removed: Removed) -> str:
    """Return the command line that builds a removed variant again."""
    words = ["compile", str(bundle), "--target", removed.runtime, "--precision", removed.precision]
    shapes = removed.shapes
    if shapes is not None:
        option = {"fixed": "--tile", "enumerated": "--tiles", "ranged": "--tile-range"}[shapes.kind]
        words += [option, (":" if shapes.kind == "ranged" else ",").join(map(str, shapes.sides_px))]
    return command_line(*words)


def _options(shapes: InputShapes | None) -> BuildOptions:
    if shapes is None:
        return BuildOptions()
    sides = shapes.sides_px
    if shapes.kind == "fixed":
        return BuildOptions(tile=sides[0])
    if shapes.kind == "enumerated":
        return BuildOptions(tiles=tuple(sides))
    return BuildOptions(tile_range=(sides[0], sides[1], sides[2]))
