"""Histograms of activation tensors, filled value by value in bounded memory.

A tensor's range is unknown before the last crop. So the bins lie evenly on [-reach, reach], where reach is a power of
two. When a value lies beyond it, the reach is doubled and neighbouring bins are merged, which loses nothing.
"""

from __future__ import annotations

import math
from io import BytesIO
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgedenoise.bundles.contents import damage_reported, read_arrays

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS = 4096
"""Number of bins, half of them on either side of zero: an 8-bit step of a ReLU's output is eight bins."""
_LEAST_REACH = 2.0**-20


class Range(msgspec.Struct, frozen=True):
    """Smallest and largest value of a tensor."""

    low: float
    high: float

    def union(self, other: Range) -> Range:
        """Return the smallest range that holds both."""
        return Range(min(self.low, other.low), max(self.high, other.high))


class Histogram:
    """Counts of a tensor's values in bins."""

    low: float
    """Smallest value so far, exactly."""
    high: float
    """Largest value so far, exactly."""
    reach: float
    """Bins lie evenly on [-reach, reach]."""
    counts: NDArray[np.int64]
    """(BINS,) values per bin."""

    def __init__(self) -> None:
        """Make an empty histogram."""
        self.low, self.high, self.reach = math.inf, -math.inf, _LEAST_REACH
        self.counts = np.zeros(BINS, np.int64)

    @property
    def centres(self) -> NDArray[np.float64]:
        """Middle value of each bin: (BINS,)."""
        return np.asarray((np.arange(BINS) + 0.5) * (2 * self.reach / BINS) - self.reach, np.float64)

    @property
    def range(self) -> Range:
        """Range from the smallest to the largest value."""
        return Range(self.low, self.high)

    def add(self, values: NDArray[np.float32]) -> None:
        """Count finite values of any shape."""
        if values.size == 0:
            return
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        self._reach_to(max(-self.low, self.high))
        places = (values.ravel() + np.float32(self.reach)) * np.float32(BINS / (2 * self.reach))
        self.counts += np.bincount(np.clip(places.astype(np.int32), 0, BINS - 1), minlength=BINS)

    @classmethod
    def of(cls, low: float, high: float, reach: float, counts: NDArray[np.int64]) -> Histogram:
        """Return a histogram with these values."""
        histogram = cls()
        histogram.low, histogram.high, histogram.reach, histogram.counts = low, high, reach, counts
        return histogram

    def _reach_to(self, most: float) -> None:
        while self.reach < most:
            joined = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([np.zeros(BINS // 4, np.int64), joined, np.zeros(BINS // 4, np.int64)])
            self.reach *= 2


def to_bytes(histograms: dict[str, Histogram]) -> bytes:
    """Return histograms by tensor name as a compressed npz file."""
    limits = np.array([[one.low, one.high, one.reach] for one in histograms.values()], np.float64)
    counts = np.stack([one.counts for one in histograms.values()])
    stream = BytesIO()
    np.savez_compressed(stream, names=np.array(list(histograms)), limits=limits, counts=counts)
    return stream.getvalue()


def from_bytes(data: bytes, source: str = "the histograms") -> dict[str, Histogram]:
    """Read what `to_bytes` wrote; `source` names the file in messages.

    Raises:
        IntegrityError: the bytes are damaged.
    """
    arrays = read_arrays(data, source)
    with damage_reported(source):
        names, limits, counts = arrays["names"], arrays["limits"], arrays["counts"]
        shapes = (names.shape, limits.shape, counts.shape, counts.dtype.kind)
        if shapes != ((len(names),), (len(names), 3), (len(names), BINS), "i") or names.dtype.kind != "U":
            raise ValueError(f"its arrays have the shapes {names.shape}, {limits.shape} and {counts.shape}")
        if not (np.isfinite(limits).all() and (limits[:, 0] <= limits[:, 1]).all() and (counts >= 0).all()):
            raise ValueError("its numbers are not those of histograms")
        return {
            str(name): Histogram.of(float(low), float(high), float(reach), count)
            for name, (low, high, reach), count in zip(names, limits, counts, strict=True)
        }
