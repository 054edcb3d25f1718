"""Blend tiles that overlap, for networks whose tiles are not those of the whole image.

A network that averages the whole image answers each tile with other pixels. Neighbouring tiles then overlap in a strip
around their common edge, in which one fades out as the other fades in: no seam is left, but the pixels are not those of
the whole image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from edgedenoise.imaging.tiling import TilePlan


def blend_weights(start: int, stop: int, strip: int, size: int, first: int = 0) -> NDArray[np.float32]:
    """Return the weights of a tile along one side; those of all tiles add up to 1 at every pixel.

    Args:
        start: first own pixel of the tile.
        stop: end of its own pixels; they may end beyond the image.
        strip: half the width of the strips, at most half the tile.
        size: number of pixels of the image.
        first: first own pixel of the first tile, before which nothing is blended.

    Returns:
        The weights of the pixels from `strip` before the tile to `strip` behind it, as far as the image has them.

    Example:
        >>> blend_weights(0, 4, 2, 8), blend_weights(4, 8, 2, 8)[:4]  # pixels 0 to 5, and 2 to 5
        (array([1.   , 1.   , 0.875, 0.625, 0.375, 0.125], dtype=float32), array([0.125, 0.375, 0.625, 0.875],
         dtype=float32))
    """
    weights = np.ones(stop - start + 2 * strip, np.float32)
    if strip:
        rising = (np.arange(2 * strip, dtype=np.float32) + np.float32(0.5)) / np.float32(2 * strip)
        if start > first:
            weights[: 2 * strip] = rising
        if stop < size:
            weights[-2 * strip :] = 1 - rising
    return weights[max(first - (start - strip), 0) : min(stop + strip, size) - (start - strip)]


def blended_bands(
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
