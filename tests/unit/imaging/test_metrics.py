"""Two images are compared as the literature does it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgedenoise.errors import ImageError
from edgedenoise.imaging.metrics import blotches_lsb, level_errors, luma, ms_ssim, psnr, psnr_unit, ssim


def pair(shape: tuple[int, ...], seed: int = 0, sigma: float = 20) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    clean = np.linspace(0, 255, math.prod(shape)).reshape(shape) * 0.6 + rng.uniform(0, 90, shape)
    noisy = clean + rng.normal(0, sigma, shape)
    return clean.astype(np.uint8), np.clip(noisy, 0, 255).astype(np.uint8)


def test_equal_images_are_infinitely_near() -> None:
    clean, _ = pair((20, 30, 3))
    assert psnr(clean, clean) == math.inf
    assert psnr_unit(clean / 255, clean / 255) == math.inf
    assert ssim(clean, clean) == pytest.approx(1, abs=1e-12)
    assert level_errors(clean, clean).max_error_lsb == 0


def test_one_level_everywhere_is_48_dB() -> None:
    clean = np.full((12, 12, 3), 100, np.uint8)
    assert psnr(clean, clean + np.uint8(1)) == pytest.approx(20 * math.log10(255))
    assert psnr(np.zeros((3, 3)), np.ones((3, 3))) == 0


def test_floats_and_16_bits_are_rounded_to_8_before_they_are_compared() -> None:
    a = np.full((4, 4, 3), 100.4 / 255)
    assert psnr(a, np.full((4, 4, 3), 99.6 / 255)) == math.inf
    assert psnr_unit(a, np.full((4, 4, 3), 99.6 / 255)) == pytest.approx(20 * math.log10(255 / 0.8), abs=1e-3)
    assert psnr(np.full((4, 4), 25700, np.uint16), np.full((4, 4), 25701, np.uint16)) == math.inf
    assert psnr(np.full((4, 4), 1.5), np.ones((4, 4))) == math.inf


@pytest.mark.parametrize("shape", [(11, 11, 3), (11, 40, 1), (64, 37, 3), (300, 25), (523, 31, 3)])
def test_psnr_and_ssim_are_those_of_scikit_image(shape: tuple[int, ...]) -> None:
    metrics = pytest.importorskip("skimage.metrics", reason='pip install "edgedenoise[demo]"')
    a, b = pair(shape)
    theirs = metrics.structural_similarity(
        a,
        b,
        channel_axis=-1 if len(shape) == 3 else None,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
    )
    assert ssim(a, b) == pytest.approx(theirs, abs=1e-6)
    assert psnr(a, b) == pytest.approx(metrics.peak_signal_noise_ratio(a, b, data_range=255), abs=1e-9)


def test_ssim_falls_with_noise_and_does_not_care_who_is_first() -> None:
    clean, some = pair((40, 40, 3), sigma=5)
    _, much = pair((40, 40, 3), sigma=50)
    assert 1 > ssim(clean, some) > ssim(clean, much) > 0
    assert ssim(clean, some) == pytest.approx(ssim(some, clean))


def test_levels_tell_the_worst_the_mean_and_count_what_is_not_finite() -> None:
    a = np.zeros((2, 2, 3), np.float32)
    b = a.copy()
    b[0, 0, 0] = 27 / 255
    b[1, 1, 1] = np.nan
    b[1, 1, 2] = np.inf
    errors = level_errors(a, b)
    assert (errors.max_error_lsb, errors.nan_count) == (27, 2)
    assert errors.mean_error_lsb == pytest.approx(2.7)
    assert level_errors(np.full((2, 2), np.nan), np.zeros((2, 2))).nan_count == 4


def test_levels_do_not_wrap_around() -> None:
    black, white = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)
    assert level_errors(black, white).max_error_lsb == level_errors(white, black).max_error_lsb == 255


def test_parity_takes_tensors_of_any_shape_and_tells_nan() -> None:
    a = np.zeros((1, 3, 4, 5), np.float32)
    assert psnr_unit(a, a + np.float32(0.1)) == pytest.approx(20, abs=1e-4)
    assert math.isnan(psnr_unit(a, np.full_like(a, np.nan)))
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((0, 4))):
        with pytest.raises(ImageError, match="expected floats"):
            psnr_unit(wrong, wrong)
    with pytest.raises(ImageError, match="expected equal shapes"):
        psnr_unit(a, a[0])


@pytest.mark.parametrize("compare", [psnr, ssim, level_errors])
@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.zeros((20, 20, 3), np.uint8), np.zeros((20, 21, 3), np.uint8)),
        (np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20), np.uint8)),
        (np.zeros((20, 20, 4), np.uint8), np.zeros((20, 20, 4), np.uint8)),
        (np.zeros((20, 20), np.int64), np.zeros((20, 20), np.int64)),
        (np.zeros((0, 20), np.uint8), np.zeros((0, 20), np.uint8)),
    ],
)
def test_what_cannot_be_compared_is_refused(compare, a: np.ndarray, b: np.ndarray) -> None:
    with pytest.raises(ImageError):
        compare(a, b)


def test_ssim_of_a_tiny_image_and_psnr_of_nan_are_refused() -> None:
    with pytest.raises(ImageError, match="at least 11 x 11"):
        ssim(np.zeros((10, 30), np.uint8), np.zeros((10, 30), np.uint8))
    with pytest.raises(ImageError, match="expected finite numbers"):
        psnr(np.full((3, 3), np.nan), np.zeros((3, 3)))


@pytest.mark.parametrize("shape", [(176, 176, 3), (176, 256, 1), (272, 192, 3)])
def test_ms_ssim_is_that_of_tensorflow(shape: tuple[int, ...]) -> None:
    tensorflow = pytest.importorskip("tensorflow", reason='pip install "edgedenoise[tf]"')
    smooth, noisy = pair(shape, sigma=35)
    for a, b in ((smooth, noisy), (noisy, smooth[::-1])):  # the second has scales of negative structure
        planes = [tensorflow.constant(luma(image)[None, ..., None], tensorflow.float64) for image in (a, b)]
        theirs = float(tensorflow.image.ssim_multiscale(*planes, max_val=255)[0])
        assert ms_ssim(a, b) == pytest.approx(theirs, abs=1e-5)


def test_ms_ssim_is_1_for_equal_images_and_needs_five_scales() -> None:
    a, b = pair((190, 177, 3))
    assert ms_ssim(a, a) == pytest.approx(1, abs=1e-12)
    assert 0 < ms_ssim(a, b) < 1
    with pytest.raises(ImageError, match="too small for MS-SSIM: expected at least 176 x 176 pixels, got 175 x 200"):
        ms_ssim(np.zeros((175, 200)), np.zeros((175, 200)))


def test_blotches_are_colour_errors_in_large_areas_only() -> None:
    clean, _ = pair((64, 70, 3))
    rng = np.random.default_rng(1)
    fine = np.clip(clean + rng.normal(0, 10, clean.shape), 0, 255).round().astype(np.uint8)
    tinted = np.minimum(clean, 200).astype(np.uint8)
    gray_error, red_error = tinted + np.uint8(9), tinted + np.array([9, 0, 0], np.uint8)
    assert blotches_lsb(clean, clean) == 0
    assert blotches_lsb(fine, clean) < 2
    assert blotches_lsb(gray_error, tinted) == 0
    assert blotches_lsb(red_error, tinted) == pytest.approx(9 / math.sqrt(2))
    assert blotches_lsb(red_error[..., :1], tinted[..., :1]) == 0, "grayscale has no colour"
