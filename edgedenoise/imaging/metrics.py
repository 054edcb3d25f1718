"""Differences between two images: PSNR, SSIM and 8-bit levels, as the denoising literature reports them.

Images are compared as users see them: clipped, rounded 8-bit sRGB with a data range of 255. Arrays are
(H, W), (H, W, 1) or (H, W, 3), uint8, uint16 or float in [0, 1]; both of a pair have the same size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgedenoise.errors import ImageError
from edgedenoise.imaging.image import from_unit, to_unit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

_SSIM_SIGMA = 1.5
_SSIM_RADIUS = 5  # scikit-image truncates the Gaussian at 3.5 sigma
SSIM_MIN_SIDE = 2 * _SSIM_RADIUS + 1
"""Smallest side in pixels of an image that `ssim` can compare."""
_STRIP_ROWS = 256  # limits SSIM's memory, about ten float64 copies of a strip
_BLOTCH_PX = 16
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, section 3.2
MS_SSIM_MIN_SIDE = SSIM_MIN_SIDE * 2 ** (len(_SCALE_WEIGHTS) - 1)
"""Smallest side in pixels of an image that `ms_ssim` can compare: 176, so that the smallest scale has a full window."""


@dataclass(frozen=True)
class LevelErrors:
    """Differences of two images in 8-bit levels (LSB)."""

    max_error_lsb: int
    """Largest absolute difference of any sample, 0 to 255."""
    mean_error_lsb: float
    """Mean absolute difference, 0 to 255."""
    nan_count: int
    """Number of samples that are not finite in either image; the other two leave them out."""


class Quality(msgspec.Struct, frozen=True):
    """Quality of one image, or the mean quality of several."""

    psnr_db: float
    """PSNR to the clean image, on 8-bit sRGB with data range 255."""
    ssim: float
    """Mean structural similarity to the clean image; at most 1."""


def quality_of(image: NDArray[Any], truth: NDArray[Any]) -> Quality:
    """Return the PSNR and SSIM of an image against its ground truth; see `psnr` and `ssim`."""
    return Quality(psnr(image, truth), ssim(image, truth))


def mean_quality(qualities: Sequence[Quality]) -> Quality:
    """Return the mean of at least one quality."""
    return Quality(
        float(np.mean([quality.psnr_db for quality in qualities])),
        float(np.mean([quality.ssim for quality in qualities])),
    )


def psnr(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the peak signal-to-noise ratio in dB of two images rounded to 8 bits, data range 255.

    The mean square error is taken over all channels together, as in the SIDD benchmark and scikit-image's
    `peak_signal_noise_ratio`. Equal images give infinity.

    Raises:
        ImageError: the arrays differ in size, or are not images.

    Example:
        >>> import numpy as np
        >>> a = np.zeros((8, 8, 3), np.uint8)
        >>> round(psnr(a, a + 1), 2)
        48.13
    """
    a8, b8 = _pair(a, b)
    error = a8.astype(np.int32) - b8
    return _decibel(float(np.mean(error * error, dtype=np.float64)), 255.0)


def psnr_unit(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the peak signal-to-noise ratio in dB of two float arrays, peak 1, neither rounded nor clipped.

    It compares networks, where 8-bit rounding would hide the difference. The arrays may have any equal shape, also
    (1, 3, H, W), and values outside [0, 1]. Equal arrays give infinity; NaN in either gives NaN.

    Raises:
        ImageError: the arrays differ in size, are empty, or are not floats.
    """
    _check_same_size(a, b)
    if a.size == 0 or a.dtype.kind != "f" or b.dtype.kind != "f":
        raise ImageError(
            f"the arrays cannot be compared: expected floats, got {a.dtype} and {b.dtype} of shape {a.shape}"
        )
    error = a.astype(np.float64) - b
    return _decibel(float(np.mean(error * error)), 1.0)


def ssim(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the mean structural similarity of two images rounded to 8 bits; 1 for equal images.

    It follows Wang et al. 2004, with Gaussian weights of sigma 1.5, population covariance and data range 255: the
    same as scikit-image's `structural_similarity(a, b, channel_axis=-1, gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=255)`. The outermost 5 pixels have no full window and are left out.

    Raises:
        ImageError: the arrays differ in size, are not images, or are smaller than 11 x 11.
    """
    a8, b8 = _pair(a, b)
    _check_side(a8, SSIM_MIN_SIDE, "SSIM")
    return _mean_terms(a8, b8)[0]


def ms_ssim(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the multi-scale structural similarity of the luma of two images rounded to 8 bits; 1 for equal images.

    It follows Wang, Simoncelli and Bovik 2003: five scales, each the mean of 2x2 pixels of the one before, with
    contrast and structure at all of them and luminance at the smallest. A negative mean counts as 0. Luma is
    0.299 R + 0.587 G + 0.114 B. For sides that are multiples of 16 the result is that of TensorFlow's
    `image.ssim_multiscale(a, b, max_val=255)` on the same luma; a last row or column that has no partner is left out.

    Raises:
        ImageError: the arrays differ in size, are not images, or are smaller than 176 x 176.

    Example:
        >>> import numpy as np
        >>> a = np.random.default_rng(0).integers(0, 256, (176, 176, 3), dtype=np.uint8)
        >>> round(ms_ssim(a, a), 6)
        1.0
    """
    a8, b8 = _pair(a, b)
    _check_side(a8, MS_SSIM_MIN_SIDE, "MS-SSIM")
    first, second = luma(a8)[..., None], luma(b8)[..., None]
    product = 1.0
    for scale, weight in enumerate(_SCALE_WEIGHTS, start=1):
        similarity, structure = _mean_terms(first, second)
        last = scale == len(_SCALE_WEIGHTS)
        product *= max(similarity if last else structure, 0.0) ** weight
        if not last:
            first, second = _halved(first), _halved(second)
    return product


def luma(pixels: NDArray[Any]) -> NDArray[np.float64]:
    """Return 0.299 R + 0.587 G + 0.114 B of (H, W, 3), or the channel of (H, W, 1), as (H, W) in the same unit."""
    if pixels.shape[2] == 1:
        return np.asarray(pixels[..., 0], np.float64)
    weighted: NDArray[np.float64] = np.asarray(pixels, np.float64) @ np.array([0.299, 0.587, 0.114])
    return weighted


def blotches_lsb(image: NDArray[Any], reference: NDArray[Any]) -> float:
    """Return the colour error in large areas: the root mean square, in 8-bit levels, over cells of 16x16 pixels.

    It is that of the two colour differences, red minus green and blue minus green. Grayscale images have none.

    Raises:
        ImageError: the arrays differ in size, or are not images.
    """
    a8, b8 = _pair(image, reference)
    if a8.shape[2] == 1 or min(a8.shape[:2]) < _BLOTCH_PX:
        return 0.0
    error = a8.astype(np.float64) - b8
    chroma = np.stack([error[..., 0] - error[..., 1], error[..., 2] - error[..., 1]])
    rows, columns = (side // _BLOTCH_PX for side in error.shape[:2])
    cut = chroma[:, : rows * _BLOTCH_PX, : columns * _BLOTCH_PX]
    cells = cut.reshape(2, rows, _BLOTCH_PX, columns, _BLOTCH_PX).mean(axis=(2, 4))
    return float(np.sqrt(np.square(cells).mean()))


def level_errors(a: NDArray[Any], b: NDArray[Any]) -> LevelErrors:
    """Return the differences of two images rounded to 8 bits; NaN and infinity are counted apart.

    Raises:
        ImageError: the arrays differ in size, or are not images.
    """
    _check_same_size(a, b)
    finite = np.isfinite(a) & np.isfinite(b)
    a8, b8 = _pair(np.where(finite, a, np.zeros_like(a)), np.where(finite, b, np.zeros_like(b)))
    error = np.abs(a8.astype(np.int16) - b8)[finite.reshape(a8.shape)]
    if error.size == 0:
        return LevelErrors(0, 0.0, finite.size)
    return LevelErrors(int(error.max()), float(error.mean()), int(finite.size - finite.sum()))


def _pair(a: NDArray[Any], b: NDArray[Any]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return both as uint8 (H, W, 1 or 3)."""
    _check_same_size(a, b)
    return _as_8_bit(a), _as_8_bit(b)


def _as_8_bit(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return clipped values, rounded half up; grayscale stays one channel."""
    if array.dtype == np.uint8:
        to_unit(array[:1, :1])  # for its checks
        return array.reshape(*array.shape[:2], -1)
    return from_unit(to_unit(array), np.uint8, 1 if array.ndim == 2 or array.shape[2] == 1 else 3)


def _check_same_size(a: NDArray[Any], b: NDArray[Any]) -> None:
    if np.shape(a) != np.shape(b):
        raise ImageError(f"the images differ in size: expected equal shapes, got {np.shape(a)} and {np.shape(b)}")


def _decibel(mean_square: float, peak: float) -> float:
    return math.inf if mean_square == 0 else 10 * math.log10(peak * peak / mean_square)


def _check_side(a: NDArray[Any], least: int, measure: str) -> None:
    if min(a.shape[:2]) < least:
        raise ImageError(
            f"the images are too small for {measure}: expected at least {least} x {least} pixels, "
            f"got {a.shape[0]} x {a.shape[1]}"
        )


def _halved(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the means of 2x2 pixels of (H, W, 1)."""
    rows, columns = plane.shape[0] // 2, plane.shape[1] // 2
    means: NDArray[np.float64] = plane[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2, 1).mean(axis=(1, 3))
    return means


def _mean_terms(a: NDArray[Any], b: NDArray[Any]) -> tuple[float, float]:
    """Return the means, over all pixels with a whole window, of SSIM and of its contrast and structure term."""
    totals, count = np.zeros(2), 0
    for a_strip, b_strip in _strips(a, b):
        luminance, structure = _ssim_terms(a_strip, b_strip)
        totals += [float((luminance * structure).sum()), float(structure.sum())]
        count += structure.size
    similarity, structure_mean = totals / count
    return float(similarity), float(structure_mean)


def _strips(a: NDArray[Any], b: NDArray[Any]) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Yield channels of both in strips of rows that overlap by a window, as float64."""
    for channel in range(a.shape[2]):
        for top in range(0, a.shape[0] - 2 * _SSIM_RADIUS, _STRIP_ROWS):
            rows = slice(top, top + _STRIP_ROWS + 2 * _SSIM_RADIUS)
            yield a[rows, :, channel].astype(np.float64), b[rows, :, channel].astype(np.float64)


def _ssim_terms(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return luminance, and contrast with structure, of each pixel with a whole window (Wang et al. 2004, equation 13).

    Their product is the SSIM.
    """
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_a, mean_b = _smooth(a), _smooth(b)
    mean_ab, square_a, square_b = mean_a * mean_b, mean_a * mean_a, mean_b * mean_b
    variances = _smooth(a * a + b * b) - square_a - square_b
    covariance = _smooth(a * b) - mean_ab
    return (2 * mean_ab + c1) / (square_a + square_b + c1), (2 * covariance + c2) / (variances + c2)


def _smooth(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Filter with the Gaussian window where it fits: both sides shrink by twice the radius."""
    offsets = np.arange(-_SSIM_RADIUS, _SSIM_RADIUS + 1)
    weights = np.exp(-0.5 * (offsets / _SSIM_SIGMA) ** 2)
    weights /= weights.sum()
    height, width = x.shape[0] - 2 * _SSIM_RADIUS, x.shape[1] - 2 * _SSIM_RADIUS
    columns = sum(weight * x[at : at + height] for at, weight in enumerate(weights))
    smoothed: NDArray[np.float64] = sum(weight * columns[:, at : at + width] for at, weight in enumerate(weights))
    return smoothed
