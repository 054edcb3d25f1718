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
from edgedenoise.imaging.pixel_rows import BAND_ROWS, PixelRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

NormalizationKind = Literal["whole-image", "whole-image-bounded", "unit"]
"""`whole-image`: zero mean, unit deviation per channel over the image. `whole-image-bounded`: the same, with a larger
deviation where a value would exceed the limit. `unit`: pixels in [0, 1] as they are."""

MIN_LIMIT, MAX_LIMIT = 0.1, 1000.0
"""Smallest and largest accepted limit: beyond them, 8 bits would hold no image."""
DEFAULT_LIMIT = 4.0
"""Limit of `whole-image-bounded` in deviations; docs/results/int8.md has the measurements behind it."""


@dataclass(frozen=True)
class Normalization:
    """How the pixels of an image become the values that a graph takes.

    Raises:
        UsageError: a limit is missing or out of bounds, or is given for a kind without one.

    Example:
        >>> Normalization("whole-image-bounded", 4.0).input_range
        (-4.0, 4.0)
    """

    kind: NormalizationKind
    limit: float | None = None
    """Largest absolute value that `whole-image-bounded` gives; None for the other kinds."""

    def __post_init__(self) -> None:
        bounded = self.kind == "whole-image-bounded"
        if bounded != (self.limit is not None) or (self.limit is not None and not MIN_LIMIT <= self.limit <= MAX_LIMIT):
            expected = f"a limit from {MIN_LIMIT:g} to {MAX_LIMIT:g}" if bounded else "no limit"
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

    @property
    def is_identity(self) -> bool:
        """Whether normalized values are the pixels themselves."""
        return not self.mean.any() and bool((self.std == 1).all())

    def apply(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (3, H, W) pixels in [0, 1] normalized, element by element: a tile gives the same as the whole.

        Where pixels are taken as they are, that is the same array.
        """
        if self.is_identity:
            return pixels
        return (pixels - self.mean[:, None, None]) / self.std[:, None, None]

    def undo(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (3, H, W) values of the graph as pixels, not clipped to [0, 1]; as `apply`, maybe the same array."""
        if self.is_identity:
            return values
        return values * self.std[:, None, None] + self.mean[:, None, None]


IDENTITY = Statistics(np.zeros(3, np.float32), np.ones(3, np.float32))
"""Statistics of the normalization `unit`: values are the pixels themselves."""


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
    rows = PixelRows.of(pixels.transpose(1, 2, 0))
    return statistics_of_rows(lambda: rows.start(BAND_ROWS), normalization, white=white)


def statistics_of_rows(
    start: Callable[[], Iterator[NDArray[Any]]], normalization: Normalization, *, white: float = 1.0
) -> Statistics:
    """Return the statistics of an image that is read by rows; otherwise as `statistics`.

    Args:
        start: begins a pass over bands (rows, W, C) of `BAND_ROWS` rows; C is 3, or 1 for three equal channels.
            Integers are read once, floats twice.
        normalization: normalization that the network was trained with.
        white: value of a white pixel.
    """
    if normalization.kind == "unit":
        return IDENTITY
    moments = _moments(start)
    std = np.maximum(np.sqrt(moments.variance) / white, 1.0 / np.sqrt(moments.count))
    if normalization.limit is not None:
        std = np.maximum(std, moments.farthest / white / normalization.limit)
    mean = moments.mean / white
    return Statistics(np.broadcast_to(mean, 3).astype(np.float32), np.broadcast_to(std, 3).astype(np.float32))


@dataclass(frozen=True)
class _Moments:
    """Statistics of stored values, one number per channel."""

    count: int
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    farthest: NDArray[np.float64]
    """Largest distance from the mean."""


def _moments(start: Callable[[], Iterator[NDArray[Any]]]) -> _Moments:
    count = 0
    sums: list[Any] = []
    lows: list[list[Any]] = []
    highs: list[list[Any]] = []
    for band in start():
        columns = [band[..., channel] for channel in range(band.shape[2])]
        count += columns[0].size
        sums.append([_sums(column) for column in columns])
        lows.append([column.min() for column in columns])
        highs.append([column.max() for column in columns])
    totals = [[sum(part) for part in zip(*bands, strict=True)] for bands in zip(*sums, strict=True)]
    mean = np.array([total / count for total, _ in totals], np.float64)
    if all(isinstance(total, int) for total, _ in totals):  # exact, whatever the bands are
        variance = np.array([(count * squares - total**2) / count**2 for total, squares in totals])
    else:
        variance = _centred_squares(start(), mean) / count
    farthest = np.maximum(np.max(highs, axis=0) - mean, mean - np.min(lows, axis=0))
    return _Moments(count, mean, variance, farthest)


def _sums(values: NDArray[Any]) -> tuple[Any, Any]:
    """Return the sum of values and of their squares: integers without rounding, floats without the squares."""
    if values.dtype.kind != "u":
        return float(values.sum(dtype=np.float64)), 0.0  # float32 sums drift visibly on tens of megapixels
    flat = values.astype(np.float64).ravel()  # whose products are exact below 2 ** 53
    per_row = (1 << 53) // (65535**2)
    parts = [flat[at : at + per_row] for at in range(0, flat.size, per_row)]
    return int(values.sum(dtype=np.uint64)), sum(int(np.dot(part, part)) for part in parts)


def _centred_squares(bands: Iterator[NDArray[Any]], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums of the squared distances from the mean, which rounding hardly touches."""
    squares = np.zeros(len(mean))
    for band in bands:
        distance = band.astype(np.float64) - mean
        squares += np.square(distance, out=distance).sum(axis=(0, 1))
    return squares
