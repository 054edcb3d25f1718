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
from edgedenoise.imaging.image import from_unit_like


@pytest.mark.parametrize("type_", ["u1", "<u2", ">u2"])
def test_every_level_becomes_the_nearest_float_and_white_is_one(type_: str) -> None:
    white = np.iinfo(np.dtype(type_)).max
    levels = np.arange(white + 1).astype(type_)[None]
    unit = to_unit(levels)
    assert unit.dtype == np.float32
    assert (unit[0, 0, 0], unit[0, -1, 0]) == (0, 1)
    exact = levels[..., None].astype(np.float64) / white
    assert np.abs(unit - exact).max() < np.finfo(np.float32).eps
    assert np.array_equal(from_unit(unit, np.dtype(type_).newbyteorder("="), channels=1)[..., 0], levels)


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
        (np.zeros((4, 4, 3), np.float64), None),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8)),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint16)),
    ],
)
def test_a_photo_of_the_wrong_arrays_cannot_be_made(pixels: np.ndarray, alpha: np.ndarray | None) -> None:
    with pytest.raises(ImageError):
        Image(pixels, alpha)


@pytest.mark.parametrize("dtype", [">u2", "<u2", "u1", ">f4", "f8", "f2"])
def test_arrays_come_back_in_their_byte_order(dtype: str) -> None:
    array = (np.linspace(0, 1, 60).reshape(4, 5, 3) * (1 if "f" in dtype else np.iinfo(dtype).max)).astype(dtype)
    assert np.allclose(to_unit(array), np.linspace(0, 1, 60).reshape(4, 5, 3), atol=1 / 250)
    again = from_unit_like(to_unit(array), array)
    assert again.dtype == array.dtype
    assert np.array_equal(again, array.astype("f4").astype(dtype))


def test_masked_arrays_and_batches_are_refused_with_what_to_do() -> None:
    with pytest.raises(ImageError, match="got a masked one") as caught:
        to_unit(np.ma.masked_array(np.zeros((4, 4), np.uint8), mask=np.eye(4)))
    assert caught.value.hint == "Fill them in first: array.filled(value)."
    with pytest.raises(ImageError, match="wrong shape") as caught:
        to_unit(np.zeros((2, 4, 4, 3), np.uint8))
    assert caught.value.hint == "Pass one image at a time: for image in array."


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_gray_stored_as_three_channels_stays_gray(dtype: type) -> None:
    gray = np.random.default_rng(0).integers(0, 256, (70, 80, 1)).astype(dtype) / (255 if dtype is np.float32 else 1)
    array = gray.astype(dtype).repeat(3, axis=2)
    unit = np.random.default_rng(1).random((70, 80, 3), np.float32)
    stored = from_unit_like(unit, array)
    assert stored.dtype == dtype
    assert np.array_equal(stored[..., :1], from_unit(unit, dtype, 1))
    assert (stored == stored[..., :1]).all()
    array[69, 79, 2] = 0 if array[69, 79, 2] else 1  # one coloured pixel makes a colour image
    assert np.array_equal(from_unit_like(unit, array), from_unit(unit, dtype))


def test_a_gray_image_stays_gray_where_hidden_pixels_have_a_colour() -> None:
    pixels = np.full((8, 8, 3), 90, np.uint8)
    alpha = np.full((8, 8), 255, np.uint8)
    pixels[2, 3], alpha[2, 3] = (9, 8, 7), 0
    new = Image(pixels, alpha).with_unit(np.random.default_rng(1).random((8, 8, 3), np.float32)).pixels
    assert tuple(new[2, 3]) == (9, 8, 7)
    assert (new[alpha > 0] == new[alpha > 0][:, :1]).all()
