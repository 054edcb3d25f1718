"""What a graph sees: pixels normalised over the whole image, or left in [0, 1].

C-BSN is trained on patches normalised per channel and is run on images normalised by the statistics of the
**whole** image. Statistics of a tile would make neighbouring tiles differ, that is, seams; so they are
computed once per image and every tile is given the same ones.
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
    """Per-channel offset and scale that take unit pixels to what the graph sees, and back."""

    mean: NDArray[np.float32]
    """(3,), in units of the [0, 1] pixel range."""
    std: NDArray[np.float32]
    """(3,), in the same units, never below 1 / sqrt(H W)."""

    def apply(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalise (3, H, W) unit pixels. Element by element, so a tile gives what the whole gives."""
        return (pixels - self.mean[:, None, None]) / self.std[:, None, None]

    def undo(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take (3, H, W) graph values back to unit pixels, not clipped."""
        return values * self.std[:, None, None] + self.mean[:, None, None]


def statistics(pixels: NDArray[Any], kind: NormalizationKind, *, white: float = 1.0) -> Statistics:
    """Return the statistics of a whole image, in memory that does not grow with it.

    Args:
        pixels: (3, H, W), float32 in [0, 1]; or stored integers, of which `white` is 1.
        kind: what the network was trained on.
        white: the value of a pixel that is 1 in units of [0, 1].

    The floor of the deviation, 1 / sqrt(H W), is the one of the C-BSN authors' code; it keeps a flat image finite.
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
