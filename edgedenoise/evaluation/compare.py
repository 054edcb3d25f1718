"""Quality, distance to float, speed and memory of every variant of a bundle over a folder of images."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import msgspec
import numpy as np

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.calibration.calibrate import FLOAT_VARIANT
from edgedenoise.evaluation.bench import DEFAULT_REPEATS, check_measured, start_workers, time_rounds
from edgedenoise.evaluation.environment import Environment, environment
from edgedenoise.evaluation.measurement import FLOAT_PRECISIONS, Measurement, summarize
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.image import Image, from_unit
from edgedenoise.imaging.metrics import Quality, level_errors, mean_quality, psnr_unit, quality_of
from edgedenoise.imaging.pairs import check_pair, list_comparable, list_pairs
from edgedenoise.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgedenoise.evaluation.worker import Worker

    Pairs = Sequence[tuple[Path, Path | None]]
    """Noisy images, each with its ground truth or None."""

TIMED_SIDE_PX = 512
"""Largest side of the crop on which latency is measured; it bounds the time of comparing many images."""
EQUAL_DB = 1e9
"""Stands for an infinite PSNR, which JSON cannot hold."""


class DistanceToFloat(msgspec.Struct, frozen=True):
    """Distance of a variant to the float variant."""

    psnr_db: float
    """Mean over the images, in the unit range, clipped and not rounded; `EQUAL_DB` where all are equal."""
    max_error_lsb: int
    """Maximum absolute error over all images, in 8-bit levels (LSB)."""


class Row(msgspec.Struct, frozen=True):
    """Results of one variant."""

    measurement: Measurement
    quality: Quality | None
    """None without ground truth, or when the variant failed."""
    fidelity: DistanceToFloat | None
    """None for the float reference itself, or when the variant failed."""
    finite: bool
    """Whether every result was free of NaN and infinity."""


class CompareReport(msgspec.Struct, frozen=True):
    """Results of every variant over one set of images."""

    bundle: str
    network: str
    macs_per_px: int
    images: tuple[str, ...]
    """File names of the noisy images."""
    megapixels: float
    """Sum over the images."""
    noisy: Quality | None
    """Quality of the noisy images; None without ground truth."""
    rows: tuple[Row, ...]
    timed_px: tuple[int, int]
    """(height, width) of the crop that was timed."""
    repeats: int
    environment: Environment


class CompareOptions(TypedDict, total=False):
    """Options of `compare` that other functions pass on."""

    repeats: int
    device: str
    threads: int | None


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
    """Run every variant of a bundle over a folder of images, each variant in a process of its own.

    Args:
        bundle: a bundle folder or archive, or the name of a shipped bundle.
        noisy: folder of noisy images.
        clean: folder of their ground truth under the same names (suffixes may differ); None without ground truth.
        repeats: timed runs per variant, interleaved, after the warm-up.
        device: `auto` or a device of the runtimes.
        threads: threads within one inference; None for the runtime's own choice.
        keep: folder to write the denoised images to, as `keep/VARIANT/NAME.png`; None to not keep them.
        progress: called after each image and round.

    Returns:
        One row per variant. A variant that failed has the reason instead of numbers.

    Raises:
        BundleError: the bundle cannot be opened or has no variants.
        DatasetError: there are no images, or one has no ground truth or one of another size.
        MeasurementError: no variant could be measured.

    Example:
        >>> import edgedenoise
        >>> report = edgedenoise.compare("mine.edge", "photos", "clean", repeats=3)
        >>> for row in report.rows:
        ...     print(row.measurement.variant, row.quality.psnr_db > report.noisy.psnr_db)
        onnx-fp32 True
        onnx-int8-u8s7 True
    """
    opened = Bundle.open(bundle)
    pairs: Pairs
    if clean is None:
        pairs = [(path, None) for path in list_comparable(Path(noisy))]
    else:
        pairs = list_pairs(Path(noisy), Path(clean))
    megapixels = sum(_checked_pixels(*pair) for pair in pairs) / 1e6
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        scratch = Path(folder)
        timed, timed_px = _timed_crop(pairs[0][0], scratch)
        workers = start_workers(stack, opened, device, threads)
        noisy_quality, tallies = _denoise_all(workers, pairs, scratch, keep, progress)
        check_measured(opened, workers)
        samples = time_rounds(workers, timed, repeats, progress)
        check_measured(opened, workers)
        rows = tuple(
            Row(
                measurement,
                tallies[worker.variant.name].quality(len(pairs)),
                tallies[worker.variant.name].fidelity(len(pairs)),
                finite=not worker.not_finite,
            )
            for worker, measurement in zip(workers, summarize(opened, workers, samples), strict=True)
        )
    network = opened.manifest.network
    return CompareReport(
        bundle=str(opened.source),
        network=network.name,
        macs_per_px=network.macs_per_px,
        images=tuple(path.name for path, _ in pairs),
        megapixels=megapixels,
        noisy=noisy_quality,
        rows=rows,
        timed_px=timed_px,
        repeats=repeats,
        environment=environment(),
    )


def loss_to_float_db(report: CompareReport) -> dict[str, float]:
    """Return the PSNR that each INT8 variant loses against the float variant of its runtime, by variant.

    The float variant is FP32, or FP16 where the runtime has no FP32. Variants without quality are left out.
    """
    measured = [(row.measurement, row.quality.psnr_db) for row in report.rows if row.quality is not None]
    floats: dict[str, float] = {}
    for precision in FLOAT_PRECISIONS:
        for one, psnr_db in measured:
            if one.precision == precision:
                floats.setdefault(one.runtime, psnr_db)
    return {
        one.variant: floats[one.runtime] - psnr_db
        for one, psnr_db in measured
        if one.precision == "int8" and one.runtime in floats
    }


class _Tally:
    """Sums over images, so that no more than one result per variant is in memory."""

    def __init__(self) -> None:
        self._qualities: list[Quality] = []
        self._to_float_db: list[float] = []
        self._max_error_lsb = 0

    def against_truth(self, pixels: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        self._qualities.append(quality_of(pixels, truth))

    def against_float(self, unit: NDArray[np.float32], reference: NDArray[np.float32]) -> None:
        self._to_float_db.append(min(psnr_unit(unit, reference), EQUAL_DB))
        self._max_error_lsb = max(self._max_error_lsb, level_errors(unit, reference).max_error_lsb)

    def quality(self, expected: int) -> Quality | None:
        """Return the means, or None when an image is missing: a mean over fewer images would mislead."""
        return mean_quality(self._qualities) if len(self._qualities) == expected else None

    def fidelity(self, expected: int) -> DistanceToFloat | None:
        if len(self._to_float_db) != expected:
            return None
        return DistanceToFloat(float(np.mean(self._to_float_db)), self._max_error_lsb)


def _denoise_all(
    workers: Sequence[Worker], pairs: Pairs, scratch: Path, keep: Path | None, progress: Progress
) -> tuple[Quality | None, dict[str, _Tally]]:
    """Run every variant over every image; return the quality of the input and the sums by variant."""
    given = _Tally()
    tallies = {worker.variant.name: _Tally() for worker in workers}
    for done, (noisy, clean) in enumerate(pairs):
        progress("denoise", done, len(pairs), noisy.name)
        truth = None if clean is None else from_unit(read_image(clean).unit(), np.uint8)
        if truth is not None:
            given.against_truth(from_unit(read_image(noisy).unit(), np.uint8), truth)
        results = {worker.variant.name: _result(worker, noisy, scratch) for worker in workers}
        reference = results.get(FLOAT_VARIANT)
        for name, result in results.items():
            if result is None:
                continue
            rounded = from_unit(result, np.uint8)
            if truth is not None:
                tallies[name].against_truth(rounded, truth)
            if reference is not None and name != FLOAT_VARIANT:
                tallies[name].against_float(result, reference)
            if keep is not None:
                write_image(Image(rounded), keep / name / f"{noisy.stem}.png")
    progress("denoise", len(pairs), len(pairs))
    return given.quality(len(pairs)), tallies


def _result(worker: Worker, path: Path, scratch: Path) -> NDArray[np.float32] | None:
    out = scratch / f"{worker.variant.name}.npy"
    if worker.denoise(path, out) is None:
        return None
    result: NDArray[np.float32] = np.load(out, allow_pickle=False)
    return result


def _checked_pixels(noisy: Path, clean: Path | None) -> int:
    """Count the pixels of an image, and refuse a pair that cannot be compared."""
    if clean is None:
        image = read_image(noisy)
        return image.height * image.width
    height, width = check_pair(noisy, clean)
    return height * width


def _timed_crop(path: Path, scratch: Path) -> tuple[Path, tuple[int, int]]:
    image = read_image(path).crop(0, 0, TIMED_SIDE_PX)
    crop = scratch / "timed.png"
    write_image(image, crop)
    return crop, (image.height, image.width)
