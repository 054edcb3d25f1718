"""Measure one denoised image, as result files record it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedenoise.atomic import sha256_of
from edgedenoise.evaluation.results import ImageDistance, ImageQuality, ImageRecord
from edgedenoise.imaging.files import read_image
from edgedenoise.imaging.image import from_unit
from edgedenoise.imaging.metrics import Quality, level_errors, mean_quality, psnr_unit, quality_of
from edgedenoise.printable import utf8

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray


def image_record(path: Path, truth: NDArray[np.uint8] | None) -> ImageRecord:
    """Return what is recorded of a noisy image.

    Args:
        path: the image file.
        truth: its ground truth, (H, W, 3); None without one.
    """
    unit = read_image(path).unit()
    noisy = None if truth is None else image_quality(from_unit(unit, np.uint8), truth)
    height, width = unit.shape[:2]
    return ImageRecord(name=utf8(path.name), height_px=height, width_px=width, sha256=sha256_of(path), noisy=noisy)


def image_quality(pixels: NDArray[np.uint8], truth: NDArray[np.uint8]) -> ImageQuality:
    """Measure an 8-bit image (H, W, 3) against its ground truth.

    Example:
        >>> import numpy as np
        >>> truth = np.full((16, 16, 3), 100, np.uint8)
        >>> found = image_quality(truth + np.uint8(1), truth)
        >>> round(found.psnr_db, 2), found.color_shift_lsb
        (48.13, (1.0, 1.0, 1.0))
    """
    found = quality_of(pixels, truth)
    return ImageQuality(psnr_db=_finite(found.psnr_db), ssim=found.ssim, color_shift_lsb=color_shift_lsb(pixels, truth))


def distance_to_float(unit: NDArray[np.float32], reference: NDArray[np.float32]) -> ImageDistance:
    """Measure a result (H, W, 3) in [0, 1] against the float variant's."""
    return ImageDistance(
        psnr_db=_finite(psnr_unit(unit, reference)),
        max_error_lsb=level_errors(unit, reference).max_error_lsb,
        color_shift_lsb=color_shift_lsb(unit * 255, reference * 255),
    )


def color_shift_lsb(a: NDArray[Any], b: NDArray[Any]) -> tuple[float, float, float]:
    """Return the mean of (a - b) of red, green and blue, of two images (H, W, 3) in 8-bit levels."""
    red, green, blue = (a.mean(axis=(0, 1), dtype=np.float64) - b.mean(axis=(0, 1), dtype=np.float64)).tolist()
    return red, green, blue


def mean_of(qualities: Sequence[ImageQuality | None], expected: int) -> Quality | None:
    """Return the means over images, or None unless there are `expected` of them."""
    found = [
        Quality(math.inf if one.psnr_db is None else one.psnr_db, 1.0 if one.ssim is None else one.ssim)
        for one in qualities
        if one is not None
    ]
    return mean_quality(found) if len(found) == expected else None


def _finite(psnr_db: float) -> float | None:
    return None if math.isinf(psnr_db) else psnr_db
