"""Bands and windows of rows are the rows of the image, whatever is held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgedenoise.imaging.pixel_rows import PixelRows, RowWindow, taken
from edgedenoise.imaging.tiling import reflected

if TYPE_CHECKING:
    from collections.abc import Iterator


def image(height: int = 50, width: int = 7) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_an_array_is_read_again_and_again_without_a_copy() -> None:
    array = image()
    rows = PixelRows.of(array)
    for _ in range(2):
        bands = list(rows.start(16))
        assert [len(band) for band in bands] == [16, 16, 16, 2]
        assert all(np.shares_memory(band, array) for band in bands)
        assert np.array_equal(np.concatenate(bands), array)
    assert PixelRows.of(array[..., 0]).channels == 1
    assert np.shares_memory(rows.window(16).rows(3, 40), array)


def test_a_window_holds_what_is_needed_and_no_more() -> None:
    array, read = image(), []

    def bands() -> Iterator[np.ndarray[Any, Any]]:
        for top in range(0, 50, 8):
            read.append(top)
            yield array[top : top + 8].copy()

    window = RowWindow(bands())
    assert np.array_equal(window.rows(0, 10), array[:10])
    assert read == [0, 8], "no band is read before it is needed"
    window.drop(9)
    assert np.array_equal(window.rows(9, 30), array[9:30])
    window.drop(4)  # dropped already
    assert len(window.rows(9, 32)) == 23
    assert np.array_equal(window.rows(20, 50), array[20:])


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("start", "stop"), [(0, 5), (3, 4), (-4, 6), (40, 60), (-9, 70)])
def test_rows_and_columns_are_taken_as_by_an_index(axis: int, start: int, stop: int) -> None:
    array = image(45, 45)
    indices = reflected(start, stop, 45)
    assert np.array_equal(taken(array, indices, axis), np.take(array, indices, axis))
    assert np.shares_memory(taken(array, indices, axis), array) == (start >= 0 and stop <= 45)
