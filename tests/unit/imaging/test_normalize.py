"""What a network sees has zero mean and unit deviation over the whole image, and comes back unchanged."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from edgedenoise.errors import UsageError
from edgedenoise.imaging.normalize import UNIT, WHOLE_IMAGE, Normalization, statistics, statistics_of_rows

BOUNDED = Normalization("whole-image-bounded", 4.0)


def random_picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    channels = np.array([0.9, 0.3, 0.05], np.float32)[:, None, None]
    return np.random.default_rng(seed).random((3, height, width), dtype=np.float32) * channels


def test_statistics_are_those_of_each_channel_over_the_whole_image() -> None:
    pixels = random_picture(97, 61)
    found = statistics(pixels, WHOLE_IMAGE)
    np.testing.assert_allclose(found.mean, pixels.astype(np.float64).mean((1, 2)), rtol=1e-6)
    np.testing.assert_allclose(found.std, pixels.astype(np.float64).std((1, 2)), rtol=1e-6)
    assert found.mean.dtype == found.std.dtype == np.float32


def test_stored_integers_have_the_statistics_of_their_unit_pixels() -> None:
    stored = np.random.default_rng(0).integers(0, 65536, (3, 150, 70), dtype=np.uint16)
    found, expected = (
        statistics(stored, WHOLE_IMAGE, white=65535),
        statistics(stored / np.float32(65535), WHOLE_IMAGE),
    )
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-6)
    np.testing.assert_allclose(found.std, expected.std, rtol=1e-6)


def test_what_the_network_sees_has_zero_mean_and_unit_deviation() -> None:
    pixels = random_picture(97, 61)
    seen = statistics(pixels, WHOLE_IMAGE).apply(pixels)
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen.mean((1, 2), dtype=np.float64), 0, atol=1e-5)
    np.testing.assert_allclose(seen.std((1, 2), dtype=np.float64), 1, atol=1e-5)


def test_sums_do_not_drift_on_a_large_image() -> None:
    """Sums in float32 would be wrong in the second digit here, where channels lie interleaved."""
    pixels = np.full((2000, 1500, 3), 0.7, np.float32).transpose(2, 0, 1)
    pixels[:, ::2] += np.float32(0.01)
    found = statistics(pixels, WHOLE_IMAGE)
    np.testing.assert_allclose(found.mean, 0.705, rtol=1e-6)
    np.testing.assert_allclose(found.std, 0.005, rtol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (8, 32), (100, 100)])
def test_a_flat_image_is_divided_by_the_floor(shape: tuple[int, int]) -> None:
    pixels = np.full((3, *shape), 0.25, np.float32)
    found = statistics(pixels, WHOLE_IMAGE)
    np.testing.assert_allclose(found.std, 1 / np.sqrt(shape[0] * shape[1]), rtol=1e-6)
    np.testing.assert_allclose(found.apply(pixels), 0, atol=1e-5)
    np.testing.assert_array_equal(found.undo(found.apply(pixels)), pixels)


@pytest.mark.parametrize("kind", [WHOLE_IMAGE, BOUNDED, UNIT], ids=str)
def test_undoing_gives_the_image_back(kind: Normalization) -> None:
    pixels = random_picture(33, 47, seed=1)
    found = statistics(pixels, kind)
    np.testing.assert_allclose(found.undo(found.apply(pixels)), pixels, atol=1e-6)


def test_unit_pixels_are_left_as_they_are() -> None:
    pixels = random_picture(33, 47, seed=2)
    found = statistics(pixels, UNIT)
    np.testing.assert_array_equal(found.apply(pixels), pixels)
    np.testing.assert_array_equal(found.undo(pixels), pixels)


def test_a_tile_is_normalised_as_the_whole_image_is() -> None:
    pixels = random_picture(64, 64, seed=3)
    found = statistics(pixels, WHOLE_IMAGE)
    np.testing.assert_array_equal(found.apply(pixels)[:, 10:20, 30:50], found.apply(pixels[:, 10:20, 30:50]))


def highlight(height: int = 150, width: int = 70) -> np.ndarray:
    """Return a dark noisy image with one white pixel, beyond any range that was calibrated on ordinary images."""
    pixels = random_picture(height, width, seed=4) * np.float32(0.05)
    pixels[:, 100, 20] = 1
    return pixels


def test_a_limit_holds_the_values_of_an_image_with_a_highlight() -> None:
    pixels = highlight()
    assert statistics(pixels, WHOLE_IMAGE).apply(pixels).max() > 20
    found = statistics(pixels, BOUNDED)
    np.testing.assert_allclose(found.apply(pixels).max((1, 2)), 4, rtol=1e-5)
    np.testing.assert_array_equal(found.mean, statistics(pixels, WHOLE_IMAGE).mean)
    dark = 1 - pixels
    np.testing.assert_allclose(statistics(dark, BOUNDED).apply(dark).min((1, 2)), -4, rtol=1e-5)


def test_a_limit_changes_nothing_where_no_value_exceeds_it() -> None:
    pixels = random_picture(97, 61)
    np.testing.assert_array_equal(statistics(pixels, BOUNDED).std, statistics(pixels, WHOLE_IMAGE).std)


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535)])
def test_stored_integers_have_the_limit_of_their_unit_pixels(dtype: type, white: int) -> None:
    stored = np.round(highlight() * white).astype(dtype)
    found = statistics(stored, BOUNDED, white=white)
    expected = statistics(stored / np.float32(white), BOUNDED)
    np.testing.assert_allclose(found.std, expected.std, rtol=1e-6)
    assert found.std[0] > statistics(stored, WHOLE_IMAGE, white=white).std[0]


def test_a_limit_applies_to_the_whole_image_and_not_to_a_tile() -> None:
    pixels = highlight()
    found = statistics(pixels, BOUNDED)
    np.testing.assert_array_equal(found.apply(pixels)[:, :64, :64], found.apply(pixels[:, :64, :64]))
    assert found.std[0] > statistics(pixels[:, :64, :64], BOUNDED).std[0], "the highlight is outside this tile"


def test_statistics_take_memory_that_does_not_grow_with_the_image() -> None:
    def peak(height: int) -> int:
        stored = np.zeros((3, height, 256), np.uint8)
        stored[:, 7, 7] = 255
        tracemalloc.start()
        statistics(stored, BOUNDED, white=255)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(4096) < 1.2 * peak(512)


@pytest.mark.parametrize(("kind", "limit"), [("whole-image-bounded", None), ("whole-image", 4.0), ("unit", 4.0)])
def test_a_limit_belongs_to_the_bounded_kind_alone(kind: str, limit: float | None) -> None:
    with pytest.raises(UsageError, match=f"the normalization {kind} is not accepted"):
        Normalization(kind, limit)


@pytest.mark.parametrize("limit", [0.0, -1.0, 1e-30, 1e30, float("nan"), float("inf")])
def test_a_limit_is_a_number_within_bounds(limit: float) -> None:
    with pytest.raises(UsageError, match=r"expected a limit from 0\.1 to 1000"):
        Normalization("whole-image-bounded", limit)


def test_the_range_of_the_input_is_known_except_without_a_limit() -> None:
    assert (UNIT.input_range, WHOLE_IMAGE.input_range, BOUNDED.input_range) == ((0, 1), None, (-4, 4))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_statistics_of_integers_do_not_depend_on_the_bands(dtype: type) -> None:
    white = np.iinfo(dtype).max
    stored = np.random.default_rng(5).integers(0, white, (130, 70, 3), dtype=dtype, endpoint=True)
    expected = statistics(stored.transpose(2, 0, 1), BOUNDED, white=white)
    for rows in (1, 7, 130):
        bands = [stored[top : top + rows] for top in range(0, 130, rows)]
        found = statistics_of_rows(lambda bands=bands: iter(bands), BOUNDED, white=white)
        np.testing.assert_array_equal((found.mean, found.std), (expected.mean, expected.std))
