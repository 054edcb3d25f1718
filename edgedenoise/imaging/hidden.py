"""Colours under transparent pixels: nobody sees them, and networks must not mix them into the pixels beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_BAND_ROWS = 64


@dataclass(frozen=True, eq=False)
class HiddenColours:
    """The colours that the hidden pixels of an image take: they continue those of the visible ones near them.

    A hidden pixel takes the mean of the visible pixels in the smallest block around it that has any: blocks of 2 x 2,
    4 x 4 and so on.
    """

    visible: NDArray[np.bool_]
    """(H, W), True where a pixel is not fully transparent."""
    colours: NDArray[np.float32]
    """(H / 2, W / 2, C), rounded up: the colour of each block of 2 x 2 pixels."""

    @classmethod
    def of(cls, visible: NDArray[np.bool_], unit: Callable[[int, int], NDArray[np.float32]]) -> HiddenColours | None:
        """Return the colours for an image; None where all pixels are visible, or none.

        Args:
            visible: (H, W), True where a pixel is not fully transparent.
            unit: returns the rows of the image from one to before another, (rows, W, C).
        """
        if visible.all() or not visible.any():
            return None
        height, width = visible.shape
        counts, colours = [], []
        for top in range(0, height, _BAND_ROWS):
            seen = visible[top : top + _BAND_ROWS]
            padding = ((0, seen.shape[0] % 2), (0, width % 2))
            blocks = (-(-seen.shape[0] // 2), 2, -(-width // 2), 2)
            counted = np.pad(seen, padding).reshape(blocks).sum(axis=(1, 3), dtype=np.float32)
            shown = unit(top, top + len(seen)) * seen[..., None]
            summed = np.pad(shown, (*padding, (0, 0))).reshape(*blocks, -1).sum(axis=(1, 3))
            counts.append(counted)
            colours.append(summed / np.maximum(counted, 1)[..., None])
        return cls(visible, fill_hidden(np.concatenate(colours), np.concatenate(counts) > 0))

    def fill(self, unit: NDArray[np.float32], rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the pixels (h, w, C) at some rows and columns of the image, filled where they are hidden."""
        seen = self.visible[rows[:, None], columns][..., None]
        return np.where(seen, unit, self.colours[rows[:, None] // 2, columns // 2])


def fill_hidden(unit: NDArray[np.float32], visible: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return an image whose hidden pixels have the colours of `HiddenColours`.

    Args:
        unit: (H, W, C).
        visible: (H, W), True where a pixel is not fully transparent.

    Returns:
        A new array, or `unit` itself where all pixels are visible, or none.
    """
    hidden = HiddenColours.of(visible, lambda start, stop: unit[start:stop])
    if hidden is None:
        return unit
    return hidden.fill(unit, *(np.arange(side) for side in visible.shape))
