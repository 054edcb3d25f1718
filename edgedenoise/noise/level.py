"""The noise level at every pixel, for networks and tools that take it (numpy only).

The noise of an image is a curve: its standard deviation by brightness. The curve comes from an estimator
(`level_estimator.py`), or in training from the difference to the clean image. The level of a pixel is the value of the
curve at the mean brightness around it. That mean reaches `CONTEXT_PX` far, so a tile needs as much context for exact
levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float = NDArray[np.float32]

CELL_PX: Final = 4
"""Side of a cell in pixels. Local means are computed over 5x5 cells, 20 pixels, and interpolated between them."""
CONTEXT_PX: Final = 12
"""Radius in pixels of the context of a level: two cells, and one more for the interpolation. Tiles must begin at a
multiple of `CELL_PX`."""
KNOTS: Final = 12
"""Number of points of a curve, spread evenly from black to white, with straight lines between them."""
PLANE_GAIN: Final = 10
"""Factor of the level plane, min(1, 10 sigma). Noise above a tenth of white, 25 levels, is all the same to it."""
_PRIOR_PX = 1000.0  # pixels of the mean level that are added at each knot: few pixels of its own say little


@dataclass(frozen=True, eq=False)
class NoiseCurve:
    """Standard deviation of the noise by brightness, both with white as 1.

    Example:
        >>> float(NoiseCurve.constant(0.02).at(0.5))
        0.019999999552965164
    """

    sigma: NDArray[np.float64]
    """(12,): standard deviation at `KNOTS` brightnesses, spread evenly from 0 to 1."""

    @classmethod
    def constant(cls, sigma: float) -> NoiseCurve:
        """Return the curve of noise that is equally strong at every brightness."""
        return cls(np.full(KNOTS, float(sigma)))

    @classmethod
    def fitted(cls, brightness: NDArray[Any], variance: NDArray[Any], weight: NDArray[Any] | None = None) -> NoiseCurve:
        """Return the curve through variances that were measured at some brightnesses.

        Args:
            brightness: in [0, 1].
            variance: variance of the noise there, the same shape.
            weight: number of pixels of each measurement, the same shape; None for one each.
        """
        place = np.clip(np.asarray(brightness, np.float64).ravel(), 0, 1) * (KNOTS - 1)
        low = np.minimum(place.astype(np.int64), KNOTS - 2)
        part = place - low
        weights = np.ones_like(place) if weight is None else np.asarray(weight, np.float64).ravel()
        values = np.asarray(variance, np.float64).ravel()
        total, sums = np.zeros(KNOTS), np.zeros(KNOTS)
        for at, share in ((low, weights * (1 - part)), (low + 1, weights * part)):
            total += np.bincount(at, share, KNOTS)
            sums += np.bincount(at, share * values, KNOTS)
        mean = sums.sum() / max(total.sum(), 1e-12)
        return cls(np.sqrt((sums + _PRIOR_PX * mean) / (total + _PRIOR_PX)))

    def scaled(self, factor: float) -> NoiseCurve:
        """Return the curve multiplied by a factor."""
        return NoiseCurve(self.sigma * factor)

    def at(self, brightness: NDArray[Any] | float) -> Float:
        """Return the standard deviation at brightnesses in [0, 1], in their shape."""
        return np.asarray(np.interp(brightness, np.linspace(0, 1, KNOTS), self.sigma), np.float32)

    def map(self, unit: NDArray[Any]) -> Float:
        """Return the standard deviation at every pixel of a noisy image (H, W, 3) in [0, 1]: (H, W)."""
        return self.at(local_brightness(unit))


def true_curve(noisy: NDArray[Any], clean: NDArray[Any]) -> NoiseCurve:
    """Return the curve of known noise: the difference between two images (H, W, 3) in [0, 1]."""
    error = np.square(np.asarray(noisy, np.float32) - np.asarray(clean, np.float32)).mean(axis=2)
    return NoiseCurve.fitted(local_brightness(noisy), error)


def level_plane(sigma: NDArray[Any]) -> Float:
    """Return the level plane of a network from standard deviations: min(1, 10 sigma)."""
    return np.asarray(np.minimum(np.asarray(sigma, np.float32) * np.float32(PLANE_GAIN), np.float32(1)), np.float32)


def local_brightness(unit: NDArray[Any]) -> Float:
    """Return the mean of all channels around every pixel of an image (H, W, 3): (H, W)."""
    brightness = Brightness(unit.shape[0], unit.shape[1])
    brightness.add(unit)
    return brightness.rows(0, unit.shape[0])


class Brightness:
    """The local brightness of an image that is read by bands of rows; one number for each cell is kept."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self._cells = np.empty((-(-height // CELL_PX), -(-width // CELL_PX)), np.float32)
        self._next = 0

    def add(self, unit: NDArray[Any]) -> None:
        """Add the next rows (rows, W, 3); all but the last are a multiple of `CELL_PX`."""
        cells = cell_means(np.asarray(unit, np.float32).mean(axis=2))
        self._cells[self._next : self._next + len(cells)] = cells
        self._next += len(cells)

    def rows(self, start: int, stop: int) -> Float:
        """Return the mean of all channels around every pixel of rows start..stop-1: (rows, W)."""
        last = len(self._cells) - 1
        # Pixels are interpolated between the cells around them. At the edges the first and last means are repeated.
        means = np.clip(np.arange(start // CELL_PX - 1, (stop - 1) // CELL_PX + 2), 0, last)
        around = np.clip(np.arange(means[0] - 2, means[-1] + 3), 0, last)
        smooth = window_mean(self._cells[around])[2:-2][means - means[0]]
        first = (start // CELL_PX - 1) * CELL_PX
        return spread(smooth, (stop - first, self.width))[start - first :]


def cell_means(values: NDArray[Any]) -> Float:
    """Return the means of (H, W) over cells of `CELL_PX` pixels; edges are repeated to whole cells."""
    height, width = values.shape
    rows, columns = -(-height // CELL_PX), -(-width // CELL_PX)
    missing = rows * CELL_PX - height, columns * CELL_PX - width
    if any(missing):
        values = np.pad(values, [(0, missing[0]), (0, missing[1])], mode="edge")
    cells = np.asarray(values, np.float32).reshape(rows, CELL_PX, columns, CELL_PX)
    return np.asarray(cells.sum(axis=1).sum(axis=2) * np.float32(CELL_PX**-2), np.float32)


def window_mean(cells: NDArray[Any]) -> Float:
    """Return the means over windows of 5x5 cells around each cell; cells at the edges are repeated."""
    for axis in (0, 1):
        padded = np.pad(cells, [(2, 2) if axis == at else (0, 0) for at in (0, 1)], mode="edge")
        size = cells.shape[axis]
        parts = [padded[start : start + size] if axis == 0 else padded[:, start : start + size] for start in range(5)]
        cells = (parts[0] + parts[1] + parts[2] + parts[3] + parts[4]) * np.float32(0.2)
    return np.asarray(cells, np.float32)


def spread(cells: NDArray[Any], shape: tuple[int, int]) -> Float:
    """Return the values of cells at the pixels of (H, W), bilinear between the centres of cells."""
    share = ((np.arange(CELL_PX, dtype=np.float32) + np.float32(0.5)) / CELL_PX + np.float32(0.5)) % 1
    before = np.arange(CELL_PX) < CELL_PX // 2  # between the previous cell and this one, or this one and the next
    out = np.asarray(cells, np.float32)
    for axis in (0, 1):
        padded = np.pad(out, [(1, 1) if axis == at else (0, 0) for at in (0, 1)], mode="edge")
        rows = padded if axis == 0 else padded.T
        size = out.shape[axis]
        fine = np.empty((size, CELL_PX, rows.shape[1]), np.float32)
        for j in range(CELL_PX):
            low, high = (rows[:size], rows[1 : size + 1]) if before[j] else (rows[1 : size + 1], rows[2:])
            fine[:, j] = low + share[j] * (high - low)
        flat = fine.reshape(size * CELL_PX, -1)
        out = flat if axis == 0 else flat.T
    return np.ascontiguousarray(out[: shape[0], : shape[1]])
