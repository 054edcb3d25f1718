"""Measure one denoised image, as result files record it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedenoise.atomic import sha256_of
from edgedenoise.evaluation.results import NOISE, ImageDistance, ImageQuality, ImageRecord, ImageResult
from edgedenoise.evaluation.tasks import task_score
from edgedenoise.imaging.files import read_image
from edgedenoise.imaging.image import from_unit
from edgedenoise.imaging.metrics import (
    MS_SSIM_MIN_SIDE,
    Quality,
    blotches_lsb,
    level_errors,
    mean_quality,
    ms_ssim,
    psnr_unit,
    quality_of,
)
from edgedenoise.noise.blocks import BLOCK_PX
from edgedenoise.noise.no_reference import Places
from edgedenoise.printable import utf8

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgedenoise.evaluation.automatic import AutomaticChoice
    from edgedenoise.evaluation.tasks import Task


class ImageJudge:
    """Measures the versions of one image. What is the same for all of them is computed once.

    Args:
        path: the noisy image file.
        truth: its ground truth, (H, W, 3), 8 bits; None without one.
        task: downstream task that is measured against the ground truth; None for none.
    """

    def __init__(self, path: Path, truth: NDArray[np.uint8] | None, task: Task | None = None) -> None:
        self._path = path
        self._truth = truth
        self._task = task
        image = read_image(path)
        self._bits = image.bits
        self._noisy = from_unit(image.unit(), np.uint8)
        self._places = Places(self._noisy) if min(self._noisy.shape[:2]) >= BLOCK_PX else None

    @property
    def name(self) -> str:
        """File name of the image, as results record it."""
        return utf8(self._path.name)

    def record(self, noise_lsb: float | None = None, automatic: AutomaticChoice | None = None) -> ImageRecord:
        """Return what is recorded of the noisy image.

        Args:
            noise_lsb: its noise in 8-bit levels; None where the network does not take the noise level.
            automatic: which variant runs it when none is named; None for unknown.
        """
        height, width = self._noisy.shape[:2]
        noise = {} if noise_lsb is None else {NOISE: noise_lsb}
        return ImageRecord(
            name=self.name,
            height_px=height,
            width_px=width,
            sha256=sha256_of(self._path),
            noisy=self._quality(self._noisy),
            measures={**self._measures(self._noisy), **noise},
            auto="" if automatic is None else automatic.variant_for(self._bits, noise_lsb),
        )

    def result(self, unit: NDArray[np.float32], reference: NDArray[np.float32] | None) -> ImageResult:
        """Measure a result.

        Args:
            unit: (H, W, 3) in [0, 1].
            reference: the float variant's, in the same form; None for that variant itself.
        """
        pixels = from_unit(unit, np.uint8)
        return ImageResult(
            image=self.name,
            quality=self._quality(pixels),
            to_float=None if reference is None else distance_to_float(unit, reference),
            measures=self._measures(pixels),
        )

    def _quality(self, pixels: NDArray[np.uint8]) -> ImageQuality | None:
        return None if self._truth is None else image_quality(pixels, self._truth, self._task)

    def _measures(self, pixels: NDArray[np.uint8]) -> dict[str, float]:
        if self._places is None:
            return {}
        found = self._places.measure(pixels)
        detail = {} if found.detail_kept is None else {"detail_kept": found.detail_kept}
        return {"residual_noise_lsb": found.residual_noise_lsb, **detail}


def image_quality(pixels: NDArray[np.uint8], truth: NDArray[np.uint8], task: Task | None = None) -> ImageQuality:
    """Measure an 8-bit image (H, W, 3) against its ground truth, and how well a task works on it.

    Example:
        >>> import numpy as np
        >>> truth = np.full((16, 16, 3), 100, np.uint8)
        >>> found = image_quality(truth + np.uint8(1), truth)
        >>> round(found.psnr_db, 2), found.color_shift_lsb
        (48.13, (1.0, 1.0, 1.0))
    """
    found = quality_of(pixels, truth)
    more = {"blotches_lsb": blotches_lsb(pixels, truth)}
    if min(truth.shape[:2]) >= MS_SSIM_MIN_SIDE:
        more["ms_ssim"] = ms_ssim(pixels, truth)
    if task is not None:
        more[task] = task_score(task, pixels, truth)
    return ImageQuality(
        psnr_db=_finite(found.psnr_db), ssim=found.ssim, color_shift_lsb=color_shift_lsb(pixels, truth), more=more
    )


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
