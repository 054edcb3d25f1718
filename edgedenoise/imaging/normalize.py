"""Normalization of the pixels that a graph takes: over the whole image, or none.

C-BSN is trained on patches normalised per channel, and runs on images normalised by the statistics of the **whole**
image. Statistics per tile would leave seams between tiles, so they are computed once per image and used for every
tile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NormalizationKind = Literal["whole-image", "unit"]
"""`whole-image`: zero mean, unit deviation per channel over the image. `unit`: pixels in [0, 1] as they are."""

_BAND_ROWS = 64


@dataclass(frozen=True)
class Statistics:
    """Offset and scale per channel between pixels in [0, 1] and the values that the graph takes."""

    mean: NDArray[np.float32]
    """(3,), in units of the [0, 1] pixel range."""
    std: NDArray[np.float32]
    """(3,), in the same units, at least 1 / sqrt(H W)."""

    def apply(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalise (3, H, W) pixels in [0, 1], element by element, so that a tile gives the same as the whole."""
        return (pixels - self.mean[:, None, None]) / self.std[:, None, None]

    def undo(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (3, H, W) values of the graph as pixels, not clipped to [0, 1]."""
        return values * self.std[:, None, None] + self.mean[:, None, None]


def statistics(pixels: NDArray[Any], kind: NormalizationKind, *, white: float = 1.0) -> Statistics:
    """Return the statistics of a whole image, using memory that does not grow with it.

    The floor of the deviation, 1 / sqrt(H W), is that of the C-BSN authors' code. It keeps a flat image finite.

    Args:
        pixels: (3, H, W), float32 in [0, 1]; or stored integers, of which `white` stands for 1.
        kind: normalization that the network was trained with.
        white: value of a white pixel.

    Returns:
        The mean and the standard deviation of each channel; 0 and 1 for the kind `unit`.
    """
    if kind == "unit":
        return Statistics(np.zeros(3, np.float32), np.ones(3, np.float32))
    count = pixels.shape[1] * pixels.shape[2]
    # float64 sums: float32 ones drift visibly on images of tens of megapixels.
    mean = pixels.mean(axis=(1, 2), dtype=np.float64)
    squares = np.zeros(3)
    for top in range(0, pixels.shape[1], _BAND_ROWS):
        band = pixels[:, top : top + _BAND_ROWS].astype(np.float64) - mean[:, None, None]
        squares += np.square(band, out=band).sum(axis=(1, 2))
    std = np.maximum(np.sqrt(squares / count) / white, 1.0 / np.sqrt(count))
    return Statistics((mean / white).astype(np.float32), std.astype(np.float32))
