"""Normalization of the pixels that a graph takes: over the whole image, or none.

C-BSN is trained on patches normalized per channel, and runs on images normalized by the statistics of the **whole**
image. Statistics per tile would leave seams between tiles, so they are computed once per image and used for every
tile.

With `whole-image` alone, one highlight in a dark scene lies many deviations from the mean, far outside every range
that calibration has seen. `whole-image-bounded` divides such an image by more than its deviation, so that no value
lies beyond a limit that is known before calibration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgedenoise.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

NormalizationKind = Literal["whole-image", "whole-image-bounded", "unit"]
"""`whole-image`: zero mean, unit deviation per channel over the image. `whole-image-bounded`: the same, with a larger
deviation where a value would exceed the limit. `unit`: pixels in [0, 1] as they are."""

DEFAULT_LIMIT = 4.0
"""Limit of `whole-image-bounded` in deviations; docs/results/int8.md has the measurements behind it."""

_BAND_ROWS = 64


@dataclass(frozen=True)
class Normalization:
    """How the pixels of an image become the values that a graph takes.

    Raises:
        UsageError: a limit is missing or not positive, or is given for a kind without one.

    Example:
        >>> Normalization("whole-image-bounded", 4.0).input_range
        (-4.0, 4.0)
    """

    kind: NormalizationKind
    limit: float | None = None
    """Largest absolute value that `whole-image-bounded` gives; None for the other kinds."""

    def __post_init__(self) -> None:
        bounded = self.kind == "whole-image-bounded"
        if bounded != (self.limit is not None) or (self.limit is not None and not 0 < self.limit < float("inf")):
            expected = "a limit above 0" if bounded else "no limit"
            raise UsageError(f"the normalization {self.kind} is not accepted: expected {expected}, got {self.limit}")

    @classmethod
    def whole_image(cls, limit: float | None) -> Normalization:
        """Return the normalization by the whole image: bounded by `limit`, or unbounded where it is None."""
        return cls("whole-image") if limit is None else cls("whole-image-bounded", limit)

    @property
    def input_range(self) -> tuple[float, float] | None:
        """Smallest and largest value that an image can give; None where an image can give any value."""
        if self.kind == "unit":
            return 0.0, 1.0
        return None if self.limit is None else (-self.limit, self.limit)

    def __str__(self) -> str:
        return self.kind if self.limit is None else f"{self.kind} (limit {self.limit:g})"


UNIT = Normalization("unit")
"""Pixels in [0, 1] as they are."""
WHOLE_IMAGE = Normalization("whole-image")
"""Zero mean and unit deviation per channel over the image, as the C-BSN authors do."""


@dataclass(frozen=True)
class Statistics:
    """Offset and scale per channel between pixels in [0, 1] and the values that the graph takes."""

    mean: NDArray[np.float32]
    """(3,), in units of the [0, 1] pixel range."""
    std: NDArray[np.float32]
    """(3,), in the same units, at least 1 / sqrt(H W)."""

    def apply(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (3, H, W) pixels in [0, 1] normalized, element by element: a tile gives the same as the whole."""
        return (pixels - self.mean[:, None, None]) / self.std[:, None, None]

    def undo(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (3, H, W) values of the graph as pixels, not clipped to [0, 1]."""
        return values * self.std[:, None, None] + self.mean[:, None, None]


def statistics(pixels: NDArray[Any], normalization: Normalization, *, white: float = 1.0) -> Statistics:
    """Return the statistics of a whole image, using memory that does not grow with it.

    The floor of the deviation, 1 / sqrt(H W), is that of the C-BSN authors' code. It keeps a flat image finite.

    Args:
        pixels: (3, H, W), float32 in [0, 1]; or stored integers, of which `white` stands for 1.
        normalization: normalization that the network was trained with.
        white: value of a white pixel.

    Returns:
        The mean and the deviation of each channel; 0 and 1 for the kind `unit`. The deviation is the standard
        deviation or, where a limit asks for more, the largest distance from the mean divided by the limit.

    Example:
        >>> import numpy
        >>> image = numpy.zeros((3, 100, 100), numpy.float32)
        >>> image[:, 50, 50] = 1  # a highlight in the dark
        >>> limited = statistics(image, Normalization("whole-image-bounded", 4.0))
        >>> round(float(limited.apply(image).max()), 3)
        4.0
    """
    if normalization.kind == "unit":
        return Statistics(np.zeros(3, np.float32), np.ones(3, np.float32))
    count = pixels.shape[1] * pixels.shape[2]
    # float64 sums: float32 ones drift visibly on images of tens of megapixels.
    mean = pixels.mean(axis=(1, 2), dtype=np.float64)
    squares, farthest = np.zeros(3), np.zeros(3)
    for top in range(0, pixels.shape[1], _BAND_ROWS):
        band = pixels[:, top : top + _BAND_ROWS].astype(np.float64) - mean[:, None, None]
        farthest = np.maximum(farthest, np.maximum(band.max(axis=(1, 2)), -band.min(axis=(1, 2))))
        squares += np.square(band, out=band).sum(axis=(1, 2))
    std = np.maximum(np.sqrt(squares / count) / white, 1.0 / np.sqrt(count))
    if normalization.limit is not None:
        std = np.maximum(std, farthest / white / normalization.limit)
    return Statistics((mean / white).astype(np.float32), std.astype(np.float32))
