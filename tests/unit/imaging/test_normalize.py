"""What a network sees has zero mean and unit deviation over the whole image, and comes back unchanged."""

from __future__ import annotations

import numpy as np
import pytest

from edgedenoise.imaging.normalize import statistics


def random_picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    channels = np.array([0.9, 0.3, 0.05], np.float32)[:, None, None]
    return np.random.default_rng(seed).random((3, height, width), dtype=np.float32) * channels


def test_statistics_are_those_of_each_channel_over_the_whole_image() -> None:
    pixels = random_picture(97, 61)
    found = statistics(pixels, "whole-image")
    np.testing.assert_allclose(found.mean, pixels.astype(np.float64).mean((1, 2)), rtol=1e-6)
    np.testing.assert_allclose(found.std, pixels.astype(np.float64).std((1, 2)), rtol=1e-6)
    assert found.mean.dtype == found.std.dtype == np.float32


def test_stored_integers_have_the_statistics_of_their_unit_pixels() -> None:
    stored = np.random.default_rng(0).integers(0, 65536, (3, 150, 70), dtype=np.uint16)
    found, expected = (
        statistics(stored, "whole-image", white=65535),
        statistics(stored / np.float32(65535), "whole-image"),
    )
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-6)
    np.testing.assert_allclose(found.std, expected.std, rtol=1e-6)


def test_what_the_network_sees_has_zero_mean_and_unit_deviation() -> None:
    pixels = random_picture(97, 61)
    seen = statistics(pixels, "whole-image").apply(pixels)
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen.mean((1, 2), dtype=np.float64), 0, atol=1e-5)
    np.testing.assert_allclose(seen.std((1, 2), dtype=np.float64), 1, atol=1e-5)


def test_sums_do_not_drift_on_a_large_image() -> None:
    """Sums in float32 would be wrong in the second digit here, where channels lie interleaved."""
    pixels = np.full((2000, 1500, 3), 0.7, np.float32).transpose(2, 0, 1)
    pixels[:, ::2] += np.float32(0.01)
    found = statistics(pixels, "whole-image")
    np.testing.assert_allclose(found.mean, 0.705, rtol=1e-6)
    np.testing.assert_allclose(found.std, 0.005, rtol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (8, 32), (100, 100)])
def test_a_flat_image_is_divided_by_the_floor(shape: tuple[int, int]) -> None:
    pixels = np.full((3, *shape), 0.25, np.float32)
    found = statistics(pixels, "whole-image")
    np.testing.assert_allclose(found.std, 1 / np.sqrt(shape[0] * shape[1]), rtol=1e-6)
    np.testing.assert_allclose(found.apply(pixels), 0, atol=1e-5)
    np.testing.assert_array_equal(found.undo(found.apply(pixels)), pixels)


@pytest.mark.parametrize("kind", ["whole-image", "unit"])
def test_undoing_gives_the_image_back(kind: str) -> None:
    pixels = random_picture(33, 47, seed=1)
    found = statistics(pixels, kind)
    np.testing.assert_allclose(found.undo(found.apply(pixels)), pixels, atol=1e-6)


def test_unit_pixels_are_left_as_they_are() -> None:
    pixels = random_picture(33, 47, seed=2)
    found = statistics(pixels, "unit")
    np.testing.assert_array_equal(found.apply(pixels), pixels)
    np.testing.assert_array_equal(found.undo(pixels), pixels)


def test_a_tile_is_normalised_as_the_whole_image_is() -> None:
    pixels = random_picture(64, 64, seed=3)
    found = statistics(pixels, "whole-image")
    np.testing.assert_array_equal(found.apply(pixels)[:, 10:20, 30:50], found.apply(pixels[:, 10:20, 30:50]))
