"""Choose the automatic tile within the memory that a process may take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from edgedenoise.errors import DeviceMemoryError
from edgedenoise.imaging.tiling import Tiling, plan_tiles, tile_bytes
from edgedenoise.runtimes.machine import free_memory_bytes, used_memory_bytes
from edgedenoise.runtimes.tile_choice import first_tile, next_tile

if TYPE_CHECKING:
    from edgedenoise.bundles.manifest import InputShapes
    from edgedenoise.imaging.pixel_rows import PixelRows

_FLOAT_PX_BYTES: Final = 12


def tile_within(
    pixels: PixelRows, tiling: Tiling, shapes: InputShapes | None, limit: int | None, *, held_bytes: int
) -> int:
    """Return the tile to begin with, so that an image is denoised within a limit of memory.

    Args:
        pixels: the image.
        tiling: what the network needs.
        shapes: sizes that the variant's file accepts; None for any.
        limit: bytes that the process may take; None for what the machine has free.
        held_bytes: memory that the output will take.

    Raises:
        DeviceMemoryError: even the smallest tile does not fit.
    """
    free = free_memory_bytes()
    if limit is None:
        return first_tile(pixels.height, pixels.width, tiling, shapes, free)
    free = min(free, limit - used_memory_bytes() - held_bytes)
    tile = first_tile(pixels.height, pixels.width, tiling, shapes, free)
    while run_bytes(pixels, tiling, tile) > free:
        try:
            tile = next_tile(pixels.height, pixels.width, tiling, shapes, tile)
        except DeviceMemoryError as error:
            needed = limit - free + run_bytes(pixels, tiling, tile)
            raise DeviceMemoryError(
                f"the image does not fit into the memory that it may take: expected at most {limit} bytes for the"
                f" process, got about {needed} with the smallest tiles",
                hint=f"Allow more with --max-memory {needed} (in Python: max_memory).",
            ) from error
    return tile


def run_bytes(pixels: PixelRows, tiling: Tiling, tile: int) -> int:
    """Estimate the memory that a run takes beside the image and its output: the network's, and bands of tiles."""
    plan = plan_tiles(pixels.height, pixels.width, tiling, tile)
    row_bytes = pixels.width * pixels.channels * pixels.dtype.itemsize
    band_bytes = plan.tile_height * (_FLOAT_PX_BYTES * pixels.width + row_bytes)
    if not pixels.in_memory:  # a window, while a longer one is made of it
        band_bytes += 2 * plan.input_shape[0] * row_bytes
    return tile_bytes(pixels.height, pixels.width, tiling, tile) + band_bytes
