"""Colours under transparent pixels: nobody sees them, and networks must not mix them into the pixels beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def fill_hidden(unit: NDArray[np.float32], visible: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return an image whose hidden pixels continue the colours of the visible ones near them.

    A hidden pixel takes the mean of the visible pixels in the smallest block around it that has any: blocks of 2 x 2,
    4 x 4 and so on.

    Args:
        unit: (H, W, C).
        visible: (H, W), True where a pixel is not fully transparent.

    Returns:
        A new array, or `unit` itself where all pixels are visible, or none.
    """
    if visible.all() or not visible.any():
        return unit
    height, width = visible.shape
    padding = ((0, height % 2), (0, width % 2))
    blocks = (-(-height // 2), 2, -(-width // 2), 2)
    counted = np.pad(visible, padding).reshape(blocks).sum(axis=(1, 3), dtype=np.float32)
    colours = np.pad(unit * visible[..., None], (*padding, (0, 0))).reshape(*blocks, -1).sum(axis=(1, 3))
    coarse = fill_hidden(colours / np.maximum(counted, 1)[..., None], counted > 0)
    repeated = coarse.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    return np.where(visible[..., None], unit, repeated)
