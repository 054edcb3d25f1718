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
from edgedenoise.errors import UsageError
from edgedenoise.evaluation.automatic import AutomaticChoice
from edgedenoise.evaluation.bench import DEFAULT_REPEATS, noise_image, timing_options
from edgedenoise.evaluation.image_results import ImageJudge, mean_of
from edgedenoise.evaluation.measurement import FLOAT_PRECISIONS, Measurement, summarize
from edgedenoise.evaluation.recording import RunRecorder, variant_results
from edgedenoise.evaluation.results import ImageRecord, ImageResult, Run
from edgedenoise.evaluation.rounds import check_measured, start_workers, time_rounds
from edgedenoise.evaluation.tasks import check_task
from edgedenoise.evaluation.worker import OpenOptions
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.image import Image, from_unit
from edgedenoise.imaging.metrics import Quality
from edgedenoise.imaging.pairs import check_pair, list_comparable, list_pairs
from edgedenoise.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgedenoise.evaluation.tasks import Task
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
    run: Run
    """Raw samples, results per image and the machine, as a result file holds them."""


class CompareOptions(TypedDict, total=False):
    """Options of `compare` that other functions pass on."""

    task: str | None
    repeats: int
    device: str
    threads: int | None
    trust_engine: bool


def compare(
    bundle: Path | str,
    noisy: Path | str,
    clean: Path | str | None = None,
    *,
    task: str | None = None,
    repeats: int = DEFAULT_REPEATS,
    device: str = "auto",
    threads: int | None = None,
    trust_engine: bool = False,
    keep: Path | None = None,
    progress: Progress = silent,
) -> CompareReport:
    """Run every variant of a bundle over a folder of images, each variant in a process of its own.

    Args:
        bundle: a bundle folder or archive, or the name of a shipped bundle.
        noisy: folder of noisy images.
        clean: folder of their ground truth under the same names (suffixes may differ); None without ground truth.
        task: downstream task that is measured on every result: `edges` or `keypoints`. It needs ground truth.
        repeats: timed runs per variant, interleaved, after the warm-up.
        device: `auto` or a device of the runtimes.
        threads: threads within one inference; None for the runtime's own choice.
        trust_engine: load TensorRT engines that contain code for the host although another machine built them.
        keep: folder to write the denoised images to, as `keep/VARIANT/NAME.png`; None to not keep them.
        progress: called after each image and round.

    Returns:
        One row per variant. A variant that failed has the reason instead of numbers.

    Raises:
        BundleError: the bundle cannot be opened or has no variants.
        DatasetError: there are no images, or one has no ground truth or one of another size.
        MeasurementError: no variant could be measured.
        RuntimeUnavailableError: `task` needs scikit-image.
        UsageError: `task` is unknown, or there is no ground truth for it.

    Example:
        >>> import edgedenoise
        >>> report = edgedenoise.compare("mine.edge", "photos", "clean", repeats=3)
        >>> for row in report.rows:
        ...     print(row.measurement.variant, row.quality.psnr_db > report.noisy.psnr_db)
        onnx-fp32 True
        onnx-int8-u8s7 True
    """
    if task is not None and clean is None:
        raise UsageError(
            f"the task {task} cannot be measured: expected ground truth, got none", hint="Name its folder with --clean."
        )
    chosen_task = None if task is None else check_task(task)
    opened = Bundle.open(bundle)
    pairs: Pairs
    if clean is None:
        pairs = [(path, None) for path in list_comparable(Path(noisy))]
    else:
        pairs = list_pairs(Path(noisy), Path(clean))
    options = OpenOptions(device, threads, trust_engine)
    recorder = RunRecorder(
        opened, _arguments(opened, noisy, clean, task, timing_options(repeats, options)), threads=threads
    )
    megapixels = sum(_checked_pixels(*pair) for pair in pairs) / 1e6
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        scratch = Path(folder)
        timed, timed_px = write_timed(pairs[0][0], scratch, opened)
        workers = start_workers(stack, opened, options)
        automatic = AutomaticChoice(opened, options)
        images, tallies = _denoise_all(workers, pairs, scratch, keep, chosen_task, automatic, progress)
        check_measured(opened, workers)
        samples = time_rounds(workers, timed, timed_px, repeats, progress)
        check_measured(opened, workers)
        measured = summarize(opened, workers, samples)
        rows = tuple(
            Row(
                measurement,
                tallies[worker.variant.name].quality(len(pairs)),
                tallies[worker.variant.name].fidelity(len(pairs)),
                finite=not worker.not_finite,
            )
            for worker, measurement in zip(workers, measured, strict=True)
        )
    results = {name: tally.results for name, tally in tallies.items()}
    network = opened.manifest.network
    return CompareReport(
        bundle=str(opened.source),
        network=network.name,
        macs_per_px=network.macs_per_px,
        images=tuple(path.name for path, _ in pairs),
        megapixels=megapixels,
        noisy=mean_of([image.noisy for image in images], len(pairs)),
        rows=rows,
        timed_px=timed_px,
        repeats=repeats,
        run=recorder.run(variant_results(opened, measured, samples, results), images, samples.remarks),
    )


def _arguments(
    bundle: Bundle, noisy: Path | str, clean: Path | str | None, task: str | None, timing: list[str]
) -> list[str]:
    """Return the words of the command line that repeats a comparison."""
    truth = [] if clean is None else ["--clean", str(clean)]
    downstream = [] if task is None else ["--task", task]
    return ["compare", str(bundle.source), "--noisy", str(noisy), *truth, *downstream, *timing]


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
    """Results of one variant, image by image, so that no more than one denoised image per variant is in memory."""

    def __init__(self) -> None:
        self.results: list[ImageResult] = []

    def quality(self, expected: int) -> Quality | None:
        """Return the means, or None when an image is missing: a mean over fewer images would mislead."""
        return mean_of([result.quality for result in self.results], expected)

    def fidelity(self, expected: int) -> DistanceToFloat | None:
        found = [result.to_float for result in self.results if result.to_float is not None]
        if len(found) != expected:
            return None
        psnrs = [EQUAL_DB if one.psnr_db is None else one.psnr_db for one in found]
        return DistanceToFloat(float(np.mean(psnrs)), max(round(one.max_error_lsb) for one in found))


def _denoise_all(
    workers: Sequence[Worker],
    pairs: Pairs,
    scratch: Path,
    keep: Path | None,
    task: Task | None,
    automatic: AutomaticChoice,
    progress: Progress,
) -> tuple[list[ImageRecord], dict[str, _Tally]]:
    """Run every variant over every image; return the images, and the results by variant."""
    images: list[ImageRecord] = []
    tallies = {worker.variant.name: _Tally() for worker in workers}
    for done, (noisy, clean) in enumerate(pairs):
        progress("denoise", done, len(pairs), noisy.name)
        truth = None if clean is None else from_unit(read_image(clean).unit(), np.uint8)
        judge = ImageJudge(noisy, truth, task)
        results = {worker.variant.name: _result(worker, noisy, scratch) for worker in workers}
        noise_lsb = next((one.noise_lsb for one in workers if one.noise_lsb is not None), None)
        images.append(judge.record(noise_lsb, automatic))
        reference = results.get(FLOAT_VARIANT)
        for name, result in results.items():
            if result is None:
                continue
            tallies[name].results.append(judge.result(result, None if name == FLOAT_VARIANT else reference))
            if keep is not None:
                write_image(Image(from_unit(result, np.uint8)), keep / name / f"{noisy.stem}.png")
    progress("denoise", len(pairs), len(pairs))
    return images, tallies


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


def write_timed(path: Path, scratch: Path, bundle: Bundle) -> tuple[Path, tuple[int, int]]:
    """Write the image that is timed: a crop of the first image, or noise of the same size.

    Networks that take the noise level return an image with hardly any noise as it is, which takes no time.
    """
    image = read_image(path).crop(0, 0, TIMED_SIDE_PX)
    if bundle.manifest.noise_level is not None:
        image = Image(noise_image((image.height, image.width)))
    crop = scratch / "timed.png"
    write_image(image, crop)
    return crop, (image.height, image.width)
