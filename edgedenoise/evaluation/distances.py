"""Distance of variants to float on images: the image of the self-test, or images that are given."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgedenoise.calibration.calibrate import FLOAT_VARIANT
from edgedenoise.denoiser import load_variant
from edgedenoise.imaging.files import read_image
from edgedenoise.imaging.image import from_unit
from edgedenoise.imaging.metrics import level_errors, psnr, psnr_unit
from edgedenoise.imaging.pairs import check_pair, list_comparable, list_pairs
from edgedenoise.runtimes.selftest import selftest_pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.denoiser import Denoiser

SELFTEST_IMAGE = "self-test"
"""Name of the image that every bundle carries."""


@dataclass(frozen=True)
class Distance:
    """Distance of one denoised image to the float output."""

    image: str
    psnr_db: float
    """Unit range, not rounded."""
    max_error_lsb: float
    drop_db: float | None
    """PSNR of the float output to the ground truth minus that of this image; None without ground truth."""
    noise_lsb: float | None = None
    """Estimated noise of the image in 8-bit levels; None for networks that do not take the noise level."""


class FloatOutputs:
    """Float outputs of some images, which are computed once and kept in files."""

    def __init__(self, bundle: Bundle, noisy: Path | None, clean: Path | None) -> None:
        """Check the images; without any, the image of the self-test is used.

        Raises:
            DatasetError: there are no images, or one has no ground truth or one of another size.
        """
        self._bundle = bundle
        self._pairs: Sequence[tuple[Path, Path | None]] = ()
        if noisy is not None and clean is not None:
            self._pairs = list_pairs(noisy, clean)
            for one in list_pairs(noisy, clean):
                check_pair(*one)
        elif noisy is not None:
            self._pairs = [(path, None) for path in list_comparable(noisy)]
        self.has_truth = clean is not None and noisy is not None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def close(self) -> None:
        """Remove the files."""
        if self._folder is not None:
            self._folder.cleanup()

    def distances(self, denoiser: Denoiser, selftest_output: NDArray[np.float32] | None) -> list[Distance]:
        """Return the distances of a variant.

        Args:
            denoiser: the opened variant.
            selftest_output: its output for the image of the self-test, (3, H, W) in unit range.

        Raises:
            EdgeDenoiseError: the variant, or the float variant, fails on an image.
        """
        if not self._pairs:
            if selftest_output is None:
                return []
            answer = selftest_pair(self._bundle)[1]
            return [_distance(SELFTEST_IMAGE, _as_image(selftest_output), _as_image(answer), None)]
        folder, found = self._compute(), []
        for index, (noisy, clean) in enumerate(self._pairs):
            output = denoiser(read_image(noisy).unit())
            reference: NDArray[np.float32] = np.load(folder / f"{index}.npy", allow_pickle=False)
            truth = None if clean is None else from_unit(read_image(clean).unit(), np.uint8)
            found.append(replace(_distance(noisy.name, output, reference, truth), noise_lsb=denoiser.last_noise))
        return found

    def _compute(self) -> Path:
        """Compute the float outputs, once; return the folder with one file per image."""
        if self._folder is not None:
            return Path(self._folder.name)
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        with load_variant(self._bundle, FLOAT_VARIANT, selftest=False) as denoiser:
            for index, (noisy, _) in enumerate(self._pairs):
                np.save(folder / f"{index}.npy", denoiser(read_image(noisy).unit()), allow_pickle=False)
        return folder


def worst(distances: Sequence[Distance], measure: str) -> Distance:
    """Return the image with the least PSNR (`psnr_db`), or the largest `max_error_lsb` or `drop_db`."""
    sign = 1 if measure == "psnr_db" else -1
    return min(distances, key=lambda one: sign * getattr(one, measure))


def _as_image(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (3, H, W) as (H, W, 3), clipped as a user sees it."""
    return np.clip(planes.transpose(1, 2, 0), 0, 1)


def _distance(
    name: str, output: NDArray[np.float32], reference: NDArray[np.float32], truth: NDArray[np.uint8] | None
) -> Distance:
    drop = None
    if truth is not None:
        given, float_ = (psnr(from_unit(one, np.uint8), truth) for one in (output, reference))
        drop = float_ - given if np.isfinite([given, float_]).all() else 0.0
    return Distance(name, psnr_unit(output, reference), level_errors(output, reference).max_error_lsb, drop)
