"""Blend tiles that overlap, for networks whose tiles are not those of the whole image.

A network that averages the whole image answers each tile with other pixels. Neighbouring tiles then overlap in a strip
around their common edge, in which one fades out as the other fades in: no seam is left, but the pixels are not those of
the whole image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
