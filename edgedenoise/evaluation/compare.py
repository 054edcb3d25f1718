"""Every variant of a bundle over a folder of images: quality, distance to float, speed, memory."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.calibration.calibrate import FLOAT_VARIANT
from edgedenoise.evaluation.bench import DEFAULT_REPEATS, Measurement, Worker, start_workers, summarize, time_rounds
from edgedenoise.evaluation.environment import Environment, environment
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.image import Image, from_unit
from edgedenoise.imaging.metrics import Quality, level_errors, mean_quality, psnr, psnr_unit, ssim
from edgedenoise.imaging.pairs import check_pair, list_comparable, list_pairs
from edgedenoise.progress import Progress, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

TIMED_SIDE_PX = 512
"""Latency is measured on a crop of at most this side, so that comparing many images stays bounded."""


class Fidelity(msgspec.Struct, frozen=True):
    """How far a variant is from the float variant."""

    psnr_db: float
    """Mean over the images, unit range, clipped, not rounded; 1e9 stands for equal."""
    max_levels: int
    """Largest difference over all images, in 8-bit levels."""


class Row(msgspec.Struct, frozen=True):
    """One variant."""

    measurement: Measurement
    quality: Quality | None
    """None without clean images, or when the variant failed."""
    fidelity: Fidelity | None
    """None for the float reference itself, or when the variant failed."""
    finite: bool
    """Whether every answer was free of NaN and infinity."""


class CompareReport(msgspec.Struct, frozen=True):
    """Every variant, over one set of images."""

    bundle: str
    network: str
    macs_per_px: int
    photographs: tuple[str, ...]
    megapixels: float
    noisy: Quality | None
    """Of the input; None without clean images."""
    rows: tuple[Row, ...]
    timed_px: tuple[int, int]
    """(height, width) of the crop that was timed."""
    repeats: int
    environment: Environment


def compare(
    bundle: Path | str,
    noisy: Path | str,
    clean: Path | str | None = None,
    *,
    repeats: int = DEFAULT_REPEATS,
    device: str = "auto",
    threads: int | None = None,
    keep: Path | None = None,
    progress: Progress = silent,
) -> CompareReport:
    """Run every variant over a folder of images, each variant in a process of its own.

    Args:
        bundle: a bundle folder or archive.
        noisy: folder of noisy images.
        clean: folder of their ground truth under the same names (endings may differ); None without.
        repeats: timed runs per variant, interleaved, after the warm-up.
        device: `auto` or a device of the runtimes.
        threads: within one inference; None leaves it to the runtime.
        keep: folder to write each variant's denoised images to, as `keep/VARIANT/NAME.png`.
        progress: told after each image and round.

    Raises:
        DatasetError: no images, an image without its ground truth, or of another size.
        BundleError: the bundle cannot be opened.
    """
    opened = Bundle.open(bundle)
    pairs: list[tuple[Path, Path | None]]
    if clean is None:
        pairs = [(path, None) for path in list_comparable(Path(noisy))]
    else:
        pairs = [*list_pairs(Path(noisy), Path(clean))]
    megapixels = sum(_checked_pixels(*pair) for pair in pairs) / 1e6
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        scratch = Path(folder)
        timed, timed_px = _timed_crop(pairs[0][0], scratch)
        workers = start_workers(stack, opened, device, threads)
        tally = {worker.variant.name: _Tally() for worker in workers}
        input_tally = _Tally()
        for done, (noisy_path, clean_path) in enumerate(pairs):
            progress("denoise", done, len(pairs), noisy_path.name)
            truth = None if clean_path is None else from_unit(read_image(clean_path).unit(), np.uint8)
            if truth is not None:
                input_tally.against_truth(from_unit(read_image(noisy_path).unit(), np.uint8), truth)
            answers = {w.variant.name: _answer(w, noisy_path, scratch) for w in workers}
            for name, answer in answers.items():
                if answer is None:
                    continue
                rounded = from_unit(answer, np.uint8)
                if truth is not None:
                    tally[name].against_truth(rounded, truth)
                reference = answers.get(FLOAT_VARIANT)
                if reference is not None and name != FLOAT_VARIANT:
                    tally[name].against_float(answer, reference)
                if keep is not None:
                    write_image(Image(rounded), keep / name / f"{noisy_path.stem}.png")
        progress("denoise", len(pairs), len(pairs))
        samples = time_rounds(workers, timed, repeats, progress)
        measured = summarize(opened, workers, samples)
        rows = tuple(
            Row(
                measurement,
                tally[worker.variant.name].quality(len(pairs)),
                tally[worker.variant.name].fidelity(len(pairs)),
                finite=not worker.not_finite,
            )
            for worker, measurement in zip(workers, measured, strict=True)
        )
    network = opened.manifest.network
    return CompareReport(
        bundle=str(opened.source),
        network=network.name,
        macs_per_px=network.macs_per_px,
        photographs=tuple(path.name for path, _ in pairs),
        megapixels=megapixels,
        noisy=input_tally.quality(len(pairs)),
        rows=rows,
        timed_px=timed_px,
        repeats=repeats,
        environment=environment(),
    )


class _Tally:
    """Sums over images, so that no more than one answer per variant is in memory."""

    def __init__(self) -> None:
        self._qualities: list[Quality] = []
        self._to_float_db: list[float] = []
        self._max_levels = 0

    def against_truth(self, picture: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        self._qualities.append(Quality(psnr(picture, truth), ssim(picture, truth)))

    def against_float(self, answer: NDArray[np.float32], reference: NDArray[np.float32]) -> None:
        self._to_float_db.append(min(psnr_unit(answer, reference), 1e9))  # JSON knows no infinity
        self._max_levels = max(self._max_levels, level_errors(answer, reference).max_levels)

    def quality(self, wanted: int) -> Quality | None:
        """Return the means, or None when an image is missing: a mean over fewer would mislead."""
        return mean_quality(self._qualities) if len(self._qualities) == wanted else None

    def fidelity(self, wanted: int) -> Fidelity | None:
        if len(self._to_float_db) != wanted:
            return None
        return Fidelity(float(np.mean(self._to_float_db)), self._max_levels)


def _answer(worker: Worker, path: Path, scratch: Path) -> NDArray[np.float32] | None:
    out = scratch / f"{worker.variant.name}.npy"
    if worker.denoise(path, out) is None:
        return None
    answer: NDArray[np.float32] = np.load(out, allow_pickle=False)
    return answer


def _checked_pixels(noisy: Path, clean: Path | None) -> int:
    """Count the pixels of an image, and refuse a pair that cannot be compared."""
    if clean is None:
        photo = read_image(noisy)
        return photo.height * photo.width
    height, width = check_pair(noisy, clean)
    return height * width


def _timed_crop(path: Path, scratch: Path) -> tuple[Path, tuple[int, int]]:
    photo = read_image(path).crop(0, 0, TIMED_SIDE_PX)
    crop = scratch / "timed.png"
    write_image(photo, crop)
    return crop, (photo.height, photo.width)
