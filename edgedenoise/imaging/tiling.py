"""Exact tiles: an image denoised tile by tile has the same pixels as one denoised whole.

An output pixel of a convolutional network depends on input pixels within the receptive-field radius, the *halo*.
Each tile carries that much context on every side and is reflected only at the borders of the image, so it gives
the same pixels as the whole image. A whole image is a plan with one tile.
`blending` is for networks whose tiles cannot be exact.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np

from edgedenoise.errors import DeviceMemoryError, UsageError
from edgedenoise.imaging.blending import blend_weights
from edgedenoise.imaging.pixel_rows import taken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    Stream = Callable[[Iterable[NDArray[np.float32]]], Iterator[NDArray[np.float32]]]
    Cut = Callable[[NDArray[np.intp], NDArray[np.intp]], NDArray[np.float32]]

WHOLE = 0
"""Tile size that stands for the whole image as one tile."""

MIN_TILE_PX = 32
"""Smallest side that back-off tries: below it, the halo would cost many times the tile."""

AUTO_INPUT_PX = 1_200_000
"""Most input pixels of an automatic tile, margins included.

The time per input pixel is the same from 256x256 to 2000x2000, so larger tiles only save pixels that are computed
twice. Of 12 MP, tiles of 1000x1000 compute 9 % twice where 512x512 compute 18 %, and 1334x1000 7 % with twice the
memory (benchmarks/tiles.py, docs/results/speed.md)."""

AUTO_TILE_BYTES = 512 << 20
"""Most memory that an automatic tile is estimated to take. C-BSN takes 1280 bytes per pixel, `edge` takes 270: without
this limit, a network with many features would take more memory for a tile than a large image takes for the rest."""

MEMORY_SHARE = 4
"""A tile may take a quarter of the free memory: its need is an estimate, and the image itself needs memory too."""


class Tiling(msgspec.Struct, frozen=True):
    """Requirements of a network on its tiles; recorded in the manifest."""

    halo_px: Annotated[int, msgspec.Meta(ge=0, le=1024)]
    """Receptive-field radius in input pixels: the context that a tile needs on every side."""
    multiple_of: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    """Tile origins and sides are multiples of this (networks that shuffle pixels)."""
    bytes_per_px: Annotated[int, msgspec.Meta(ge=1, le=1 << 24)] = 4096
    """Estimate of peak working memory per input pixel of a tile."""
    blend_px: Annotated[int, msgspec.Meta(ge=1, le=256)] | msgspec.UnsetType = msgspec.UNSET
    """Half the width of the strips in which tiles are blended, where they cannot be exact; unset where they are."""

    @property
    def is_exact(self) -> bool:
        """Whether tiles have the pixels of the whole image."""
        return self.blend_px is msgspec.UNSET

    @property
    def strip_px(self) -> int:
        """Half the width of the strips in which tiles are blended, or 0."""
        return 0 if self.blend_px is msgspec.UNSET else self.blend_px

    @property
    def margin_px(self) -> int:
        """Halo and strip, rounded up to `multiple_of`, so that a tile's input begins on the network's grid."""
        return -(-(self.halo_px + self.strip_px) // self.multiple_of) * self.multiple_of


@dataclass(frozen=True)
class TilePlan:
    """A regular grid of equal tiles over an image of `height` x `width` pixels."""

    height: int
    width: int
    tile_height: int
    """Rows that each tile contributes. All tiles have one shape, so a backend prepares one shape only."""
    tile_width: int
    margin_px: int
    top: int = 0
    """First row that the tiles cover; rows above it are context."""
    strips_px: tuple[int, int] = (0, 0)
    """Half the height and half the width of the strips around edges of tiles, in which they are blended."""

    @property
    def rows(self) -> int:
        """Number of tiles from top to bottom."""
        return -(-(self.height - self.top) // self.tile_height)

    @property
    def columns(self) -> int:
        """Number of tiles from left to right."""
        return -(-self.width // self.tile_width)

    @property
    def input_shape(self) -> tuple[int, int]:
        """(height, width) of the network's input per tile, margins included."""
        return self.tile_height + 2 * self.margin_px, self.tile_width + 2 * self.margin_px

    @property
    def computed_px(self) -> int:
        """Number of input pixels of all tiles, margins included."""
        return self.rows * self.columns * math.prod(self.input_shape)

    def origins(self) -> Iterator[tuple[int, int]]:
        """Yield (y, x) of each tile's first own pixel, row by row."""
        for row in range(self.rows):
            for column in range(self.columns):
                yield self.top + row * self.tile_height, column * self.tile_width

    def needed_from(self, row: int) -> int:
        """Return the first row of the image that tiles from row `row` on need, also where they are less tall than here.

        Below the image its rows are mirrored, at most as far as a margin and a tile.
        """
        return max(0, min(row - self.margin_px, self.height - self.margin_px - self.tile_height))


def plan_tiles(height: int, width: int, tiling: Tiling, tile: int, *, top: int = 0) -> TilePlan:
    """Split an image into equal tiles of at most `tile` pixels per side.

    Tiles are balanced: a side of 1000 with `tile=512` becomes two of 500. The overlap at the far border therefore
    stays below `multiple_of` pixels per tile.

    Args:
        height: rows of the image, at least 1.
        width: columns of the image, at least 1.
        tiling: requirements of the network.
        tile: largest side of a tile without margins; `WHOLE` (0) for one tile.
        top: first row to cover, a multiple of `multiple_of`.

    Returns:
        The grid of tiles.

    Raises:
        UsageError: `tile` is negative or smaller than `multiple_of`.
    """
    if tile < 0 or 0 < tile < tiling.multiple_of:
        raise UsageError(
            f"the tile size is not accepted: expected 0 (the whole image) or at least {tiling.multiple_of} pixels,"
            f" got {tile}"
        )
    sides = _balanced(height - top, tile, tiling), _balanced(width, tile, tiling)
    step = tiling.multiple_of
    strips = [min(tiling.strip_px, side // 2) // step * step for side in sides]
    return TilePlan(height, width, *sides, tiling.margin_px, top, (strips[0], strips[1]))


def run_tiled(
    image: NDArray[np.float32],
    plan: TilePlan,
    stream: Stream,
    on_tile: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Run a network over every tile of a plan.

    Args:
        image: (C, H, W) float32, already normalised.
        plan: made by `plan_tiles` for H and W.
        stream: takes (1, C, h, w) tiles and yields (1, 3, h, w) outputs in order.
        on_tile: called with (done, total) after each tile.

    Returns:
        (3, H, W) float32.
    """

    def cut(rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.float32]:
        return taken(taken(image, rows, 1), columns, 2)

    return joined(run_bands(plan, cut, stream, on_tile), plan.height, plan.width)


def run_bands(
    plan: TilePlan, cut: Cut, stream: Stream, on_tile: Callable[[int, int], None] | None = None
) -> Iterator[NDArray[np.float32]]:
    """Run a network over every tile of a plan, and yield its output a row of tiles at a time.

    Args:
        plan: made by `plan_tiles`.
        cut: returns the input (C, h, w) of the network at the given rows and columns of the image. Each changes by one
            from index to index.
        stream: takes (1, C, h, w) tiles and yields (1, 3, h, w) outputs in order.
        on_tile: called with (done, total) after each tile.

    Yields:
        (3, rows, W) float32, from row `plan.top` on.
    """
    margin, total = plan.margin_px, plan.rows * plan.columns
    rows = reflected(plan.top - margin, plan.top + plan.rows * plan.tile_height + margin, plan.height)
    columns = reflected(-margin, plan.columns * plan.tile_width + margin, plan.width)
    input_height, input_width = plan.input_shape

    def inputs() -> Iterator[NDArray[np.float32]]:
        for y, x in plan.origins():
            tile = cut(rows[y - plan.top :][:input_height], columns[x:][:input_width])
            yield np.ascontiguousarray(tile[None])

    if any(plan.strips_px):
        yield from _blended_bands(plan, stream(inputs()), on_tile)
        return
    band = np.empty((3, 0, plan.width), np.float32)
    for done, ((y, x), answer) in enumerate(zip(plan.origins(), stream(inputs()), strict=True), start=1):
        height, width = min(plan.tile_height, plan.height - y), min(plan.tile_width, plan.width - x)
        if x == 0:
            band = np.empty((3, height, plan.width), np.float32)
        band[:, :, x : x + width] = answer[0, :, margin : margin + height, margin : margin + width]
        if on_tile is not None:
            on_tile(done, total)
        if x + width == plan.width:
            yield band
            band = np.empty((3, 0, plan.width), np.float32)  # not held while the next one is filled


def _blended_bands(
    plan: TilePlan, answers: Iterable[NDArray[np.float32]], on_tile: Callable[[int, int], None] | None = None
) -> Iterator[NDArray[np.float32]]:
    """Yield the blended output of a plan from top to bottom, as far as it is complete after each row of tiles.

    Args:
        plan: a plan with strips.
        answers: outputs (1, 3, h, w) of its tiles, row by row, margins included.
        on_tile: called with (done, total) after each tile.

    Yields:
        (3, rows, W) float32, from row `plan.top` on.
    """
    (high, wide), margin, done = plan.strips_px, plan.margin_px, 0
    tiles = iter(answers)
    held = np.empty((3, 0, plan.width), np.float32)
    for row in range(plan.rows):
        y = plan.top + row * plan.tile_height
        bottom = y + plan.tile_height
        first, last = max(y - high, plan.top), min(bottom + high, plan.height)
        band = np.zeros((3, last - first, plan.width), np.float32)
        for column in range(plan.columns):
            x = column * plan.tile_width
            left, right = max(x - wide, 0), min(x + plan.tile_width + wide, plan.width)
            own = next(tiles)[0, :, margin + first - y : margin + last - y, margin + left - x : margin + right - x]
            band[:, :, left:right] += own * blend_weights(x, x + plan.tile_width, wide, plan.width)
            done += 1
            if on_tile is not None:
                on_tile(done, plan.rows * plan.columns)
        band *= blend_weights(y, bottom, high, plan.height, plan.top)[:, None]
        band[:, : held.shape[1]] += held
        complete = band.shape[1] if row + 1 == plan.rows else bottom - high - first
        held = band[:, complete:]
        yield band[:, :complete]


def joined(bands: Iterable[NDArray[np.float32]], height: int, width: int) -> NDArray[np.float32]:
    """Return bands (3, rows, W) as one array (3, H, W)."""
    result = np.empty((3, height, width), np.float32)
    top = 0
    for band in bands:
        result[:, top : top + band.shape[1]] = band
        top += band.shape[1]
    return result


def auto_tile(height: int, width: int, tiling: Tiling, free_bytes: int) -> int:
    """Return the tile with which the fewest pixels are computed twice.

    A tile has at most `AUTO_INPUT_PX` pixels, and takes at most `AUTO_TILE_BYTES` and its share of the free memory, see
    `MEMORY_SHARE`. Sides of the image that are shorter than the tile leave it longer in the other direction.

    Example:
        >>> auto_tile(3000, 4000, Tiling(halo_px=21, multiple_of=2, bytes_per_px=270), 8 << 30)
        1050
        >>> plan_tiles(3000, 4000, Tiling(halo_px=21, multiple_of=2), 1050).input_shape
        (1044, 1044)
    """
    most_px = min(AUTO_INPUT_PX, min(free_bytes // MEMORY_SHARE, AUTO_TILE_BYTES) // tiling.bytes_per_px)
    margins = 2 * tiling.margin_px

    def input_px(side: int) -> int:
        return math.prod(
            -(-min(side, size) // tiling.multiple_of) * tiling.multiple_of + margins for size in (height, width)
        )

    least = max(MIN_TILE_PX, tiling.multiple_of)
    sides = range(least, max(height, width, least) + 1)
    square = sides[max(bisect_right(sides, most_px, key=input_px), 1) - 1]
    # A balanced tile may be longer in one direction, as it is shorter in the other.
    counts = {(size, -(-size // square) - fewer) for size in (height, width) for fewer in range(1, 4)}
    longer = {-(-size // count) for size, count in counts if count > 0}
    plans = {side: plan_tiles(height, width, tiling, side) for side in (square, *longer) if side >= square}
    fitting = [side for side, plan in plans.items() if side == square or math.prod(plan.input_shape) <= most_px]
    return min(fitting, key=lambda side: (plans[side].computed_px, side))


def largest_tile(side: int, tiling: Tiling, tile: int) -> int:
    """Return `tile`, or the largest tile that fits an input of `side` pixels with margins, whichever is less."""
    limit = (side - 2 * tiling.margin_px) // tiling.multiple_of * tiling.multiple_of
    return limit if tile == WHOLE else min(tile, limit)


def tile_bytes(height: int, width: int, tiling: Tiling, tile: int) -> int:
    """Estimate the peak working memory of one tile of a plan, in bytes."""
    input_height, input_width = plan_tiles(height, width, tiling, tile).input_shape
    return input_height * input_width * tiling.bytes_per_px


def smaller_tile(plan: TilePlan) -> int:
    """Return the tile to try after `plan` did not fit into memory.

    Raises:
        DeviceMemoryError: the tile is too small to be halved again.
    """
    side = max(plan.tile_height, plan.tile_width) // 2
    if side < MIN_TILE_PX:
        raise DeviceMemoryError(
            f"out of memory with a tile of {plan.tile_height}x{plan.tile_width} pixels, the smallest that is tried",
            hint="Close other programs, or use a smaller network such as edge-tiny: --model edge-tiny",
        )
    return side


def reflected(start: int, stop: int, size: int) -> NDArray[np.intp]:
    """Return the indices start..stop-1 of an endless row that mirrors 0..size-1 at both ends.

    The end pixels are not repeated ('reflect'). Beyond one length the mirror image is mirrored again, and a single
    pixel is repeated, so that every size down to 1 has a margin of any width.
    """
    if size == 1:
        return np.zeros(stop - start, np.intp)
    period = 2 * (size - 1)
    index = np.arange(start, stop) % period
    return np.minimum(index, period - index)


def _balanced(size: int, tile: int, tiling: Tiling) -> int:
    count = 1 if tile == WHOLE else -(-size // (tile // tiling.multiple_of * tiling.multiple_of))
    even = -(-size // count)
    return -(-even // tiling.multiple_of) * tiling.multiple_of
