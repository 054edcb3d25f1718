"""The class `Image`, and the conversion between stored integers and floats in [0, 1]."""

from __future__ import annotations

import numpy as np
import pytest
from image_files import made

from edgedenoise.errors import ImageError
from edgedenoise.imaging.files import (
    Image,
    from_unit,
    to_unit,
)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_level_survives_the_way_to_floats_and_back(dtype: type, channels: int) -> None:
    top = np.iinfo(dtype).max
    levels = np.arange(top + 1, dtype=dtype).reshape(256, -1, 1).repeat(channels, axis=2)
    unit = to_unit(levels)
    assert unit.dtype == np.float32
    assert unit.shape == (*levels.shape[:2], 3)
    assert (float(unit.min()), float(unit.max())) == (0.0, 1.0)
    assert np.array_equal(from_unit(unit, dtype, channels), levels)


def test_halves_round_up_and_the_rest_is_clipped() -> None:
    values = np.array([-0.3, 0.5 / 255, 1.5 / 255, 2.49 / 255, 1.7])[:, None, None].repeat(3, axis=2)
    assert from_unit(values, np.uint8)[:, 0, 0].tolist() == [0, 1, 2, 2, 255]


def test_grayscale_takes_the_mean_of_three_channels() -> None:
    unit = np.array([[[0.0, 0.3, 0.9]]], np.float32)
    assert from_unit(unit, np.uint8, 1).tolist() == [[[102]]]


def test_floats_are_taken_as_they_are_and_given_back_in_their_type() -> None:
    noisy = np.array([[[-0.1, 0.5, 1.2]]])
    assert np.allclose(to_unit(noisy), noisy)
    assert from_unit(to_unit(noisy), np.float64).dtype == np.float64
    assert from_unit(np.ones((1, 1, 3), np.float16), np.uint16).max() == 65535


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (np.zeros((4, 4, 4), np.uint8), "Alpha is not denoised"),
        (np.zeros((3, 40, 40), np.uint8), "Channels come last"),
        (np.zeros((4, 4, 3), np.int32), "int32"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (np.zeros(4, np.uint8), "(H, W)"),
        (np.full((4, 4, 3), np.nan), "48 of 48"),
        (np.full((4, 4, 3), 200.0), "[0, 1]"),
        ([[1]], "numpy"),
    ],
)
def test_arrays_that_are_no_images_are_refused_in_words(array: np.ndarray, word: str) -> None:
    with pytest.raises(ImageError) as caught:
        to_unit(array)
    assert word in str(caught.value)


@pytest.mark.parametrize("unit", [np.zeros((2, 2)), np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), np.nan)])
def test_only_finite_three_channel_floats_become_pixels(unit: np.ndarray) -> None:
    with pytest.raises(ImageError):
        from_unit(unit, np.uint8)


def test_new_pixels_keep_alpha_and_metadata_and_must_fit() -> None:
    photo = made(1, 16, alpha=True)
    changed = photo.with_unit(np.zeros((9, 14, 3), np.float32))
    assert changed.pixels.shape == (9, 14, 1)
    assert changed.pixels.dtype == np.uint16
    assert changed.alpha is photo.alpha
    assert changed.metadata is photo.metadata
    with pytest.raises(ImageError, match="new pixels do not fit"):
        photo.with_unit(np.zeros((14, 9, 3), np.float32))


@pytest.mark.parametrize(
    ("pixels", "alpha"),
    [
        (np.zeros((4, 4), np.uint8), None),
        (np.zeros((4, 4, 3), np.float32), None),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8)),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint16)),
    ],
)
def test_a_photo_of_the_wrong_arrays_cannot_be_made(pixels: np.ndarray, alpha: np.ndarray | None) -> None:
    with pytest.raises(ImageError):
        Image(pixels, alpha)
