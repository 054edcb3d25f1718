"""Choose the automatic tile: from the free memory, and from the sizes that a file was built for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedenoise.errors import DeviceMemoryError
from edgedenoise.imaging.tiling import MEMORY_SHARE, WHOLE, Tiling, auto_tile, largest_tile, plan_tiles, smaller_tile
from edgedenoise.runtimes.shapes import accepted_side

if TYPE_CHECKING:
    from edgedenoise.bundles.manifest import InputShapes


def first_tile(height: int, width: int, tiling: Tiling, shapes: InputShapes | None, free_bytes: int) -> int:
    """Return the tile to begin with.

    Args:
        height: rows of the image.
        width: columns of the image.
        tiling: what the network needs.
        shapes: sizes that the variant's file accepts; None for any. A tile never has to be padded from one accepted
            size to the next, and a ranged file is used at the size that it was tuned for.
        free_bytes: free memory.

    Returns:
        Largest side of a tile in pixels, margins left out.
    """
    if shapes is None:
        return auto_tile(height, width, tiling, free_bytes)
    sides = _tuned_sides(shapes)
    small = [side for side in sides if side**2 * tiling.bytes_per_px <= free_bytes // MEMORY_SHARE]
    return min(
        (largest_tile(side, tiling, WHOLE) for side in small or sides[:1]),
        key=lambda tile: (_pixels_run(height, width, tiling, shapes, tile), -tile),
    )


def next_tile(height: int, width: int, tiling: Tiling, shapes: InputShapes | None, tile: int) -> int:
    """Return the tile to try after `tile` did not fit into memory.

    Args:
        height: rows of the image.
        width: columns of the image.
        tiling: what the network needs.
        shapes: sizes that the variant's file accepts; None for any.
        tile: what did not fit.

    Raises:
        DeviceMemoryError: nothing smaller is worth trying; of a file that accepts one size, nothing ever is.
    """
    plan = plan_tiles(height, width, tiling, tile)
    if shapes is None:
        return smaller_tile(plan)
    used = accepted_side(shapes, max(plan.input_shape))
    smaller = [side for side in _tuned_sides(shapes) if side < used]
    if not smaller:
        raise DeviceMemoryError(
            f"out of memory with tiles of {used}x{used} pixels, the smallest that this file accepts",
            hint=f"Close other programs, or compile the variant again for smaller tiles: --tile {used // 2}",
        )
    return largest_tile(smaller[-1], tiling, WHOLE)


def _tuned_sides(shapes: InputShapes) -> list[int]:
    """Return the sides that a file was tuned for, ascending: of a range, the best one."""
    return [shapes.sides_px[1]] if shapes.kind == "ranged" else shapes.sides_px


def _pixels_run(height: int, width: int, tiling: Tiling, shapes: InputShapes, tile: int) -> int:
    """Return the number of input pixels that an image takes with a tile, margins and padding included."""
    plan = plan_tiles(height, width, tiling, tile)
    return plan.rows * plan.columns * accepted_side(shapes, max(plan.input_shape)) ** 2
