"""Stored pixels read from top to bottom, in bands of rows: of an array, or of a file that is decoded by rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

BAND_ROWS = 64
"""Rows of the bands in which whole images are read once; a multiple of the sides of all blocks that are judged."""


@dataclass(frozen=True, eq=False)
class PixelRows:
    """The pixels of an image, which can be read any number of times.

    Example:
        >>> rows = PixelRows.of(np.zeros((100, 60, 3), np.uint8))
        >>> [band.shape for band in rows.start(64)]
        [(64, 60, 3), (36, 60, 3)]
    """

    height: int
    """Number of rows."""
    width: int
    """Number of columns."""
    channels: int
    """Number of channels without alpha: 1 (grayscale) or 3 (RGB)."""
    dtype: np.dtype[Any]
    """Type of the samples: uint8 or uint16 over its full range, or floats."""
    start: Callable[[int], Iterator[NDArray[Any]]]
    """Begins a pass from the top. It yields bands (rows, W, C) of the given number of rows; the last may be shorter."""
    in_memory: bool = False
    """Whether bands are views of one array; otherwise each is decoded."""

    @classmethod
    def of(cls, array: NDArray[Any]) -> PixelRows:
        """Return the rows of an array (H, W) or (H, W, C), without copying it."""
        pixels = array[..., None] if array.ndim == 2 else array
        height, width, channels = pixels.shape

        def start(rows: int) -> Iterator[NDArray[Any]]:
            return (pixels[top : top + rows] for top in range(0, height, rows))

        return cls(height, width, channels, array.dtype, start, in_memory=True)

    def window(self, rows: int) -> RowWindow:
        """Begin a pass for tiles; it reads `rows` rows at a time, or refers to the whole array in memory."""
        return RowWindow(self.start(self.height if self.in_memory else rows))


class RowWindow:
    """The rows that a pass over an image has reached and still needs."""

    def __init__(self, bands: Iterator[NDArray[Any]]) -> None:
        self._bands = bands
        self._held: NDArray[Any] | None = None
        self._first = 0

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows start..stop-1, a view (rows, W, C); none of them has been dropped."""
        held = self._held
        while held is None or self._first + len(held) < stop:
            band = next(self._bands)
            held = band if held is None or not len(held) else np.concatenate([held, band])
        self._held = held
        return held[start - self._first : stop - self._first]

    def drop(self, before: int) -> None:
        """Forget the rows in front of row `before`."""
        if self._held is not None and before > self._first:
            self._held = self._held[before - self._first :]
            self._first = before


def regrouped(bands: Iterable[NDArray[Any]], rows: int) -> Iterator[NDArray[Any]]:
    """Yield the same rows in bands of `rows` rows, of the same type; the last may be shorter."""
    held: list[NDArray[Any]] = []
    count = 0
    for band in bands:
        start = 0
        while count + len(band) - start >= rows:
            stop = start + rows - count
            part = band[start:stop]
            yield _joined([*held, part])
            held, count, start = [], 0, stop
        if start < len(band):
            held.append(band[start:])
            count += len(band) - start
    if held:
        yield _joined(held)


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Return bands as one, in their byte order: without its type, NumPy takes that of the machine."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts, dtype=parts[0].dtype)


def taken(array: NDArray[Any], indices: NDArray[np.intp], axis: int) -> NDArray[Any]:
    """Return an array at some indices of an axis: a view where they are consecutive."""
    first, last = int(indices[0]), int(indices[-1])
    if last - first == len(indices) - 1:  # reflected indices change by one at a time
        return array[(slice(None),) * axis + (slice(first, last + 1),)]
    return np.take(array, indices, axis)
