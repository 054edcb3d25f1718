"""Latency, load time and memory of every variant of a bundle, each in a process of its own.

Variants are timed in interleaved rounds, because a machine's speed drifts with heat and other work: each round times
every variant once, so the ratios between variants hold even when the milliseconds do not.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.errors import IncompatibleError, MeasurementError, UsageError
from edgedenoise.evaluation.measurement import Measurement, summarize
from edgedenoise.evaluation.recording import RunRecorder, variant_results
from edgedenoise.evaluation.results import Run
from edgedenoise.evaluation.worker import Worker
from edgedenoise.imaging.files import write_image
from edgedenoise.imaging.image import Image
from edgedenoise.progress import Progress, silent
from edgedenoise.runtimes.timing import time_in_turns
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_REPEATS = 20
DEFAULT_SIDE_PX = 512


class BenchReport(msgspec.Struct, frozen=True):
    """Speed and memory of every variant of a bundle, measured side by side."""

    bundle: str
    network: str
    macs_per_px: int
    side_px: int
    repeats: int
    variants: tuple[Measurement, ...]
    run: Run
    """Raw samples and the machine, as a result file holds them."""


def bench(
    bundle: Path | str,
    *,
    side_px: int = DEFAULT_SIDE_PX,
    repeats: int = DEFAULT_REPEATS,
    device: str = "auto",
    threads: int | None = None,
    progress: Progress = silent,
) -> BenchReport:
    """Measure the latency and memory of every variant of a bundle on a synthetic image.

    Args:
        bundle: a bundle folder or archive, or the name of a shipped bundle.
        side_px: side of the square image in pixels.
        repeats: timed runs per variant, after the warm-up.
        device: `auto` or a device of the runtimes.
        threads: threads within one inference; None for the runtime's own choice.
        progress: called after each round.

    Returns:
        One measurement per variant. A variant that failed has the reason instead of numbers.

    Raises:
        BundleError: the bundle cannot be opened or has no variants.
        MeasurementError: no variant could be measured.
        UsageError: `side_px` or `repeats` is below 1.

    Example:
        >>> import edgedenoise
        >>> report = edgedenoise.bench("mine.edge", side_px=64, repeats=3)
        >>> [m.variant for m in report.variants]
        ['onnx-fp32', 'onnx-int8-u8s7']
        >>> report.variants[0].latency.p50_ms_per_mp > 0
        True
    """
    if side_px < 1 or repeats < 1:
        raise UsageError(f"nothing to measure; expected side_px and repeats of at least 1, got {side_px} and {repeats}")
    opened = Bundle.open(bundle)
    arguments = ["bench", str(opened.source), "--side", str(side_px), *timing_options(repeats, device, threads)]
    recorder = RunRecorder(opened, arguments, threads=threads)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = Path(folder) / "noise.png"
        write_image(Image(_noise(side_px)), path)
        workers = start_workers(stack, opened, device, threads)
        samples = time_rounds(workers, path, repeats, progress)
        check_measured(opened, workers)
        measured = summarize(opened, workers, samples)
    network = opened.manifest.network
    run = recorder.run(variant_results(opened, measured, (side_px, side_px)))
    return BenchReport(str(opened.source), network.name, network.macs_per_px, side_px, repeats, measured, run)


def timing_options(repeats: int, device: str, threads: int | None) -> list[str]:
    """Return the words of the options that all commands that measure have."""
    return ["--repeats", str(repeats), "--device", device, *([] if threads is None else ["--threads", str(threads)])]


def start_workers(stack: ExitStack, bundle: Bundle, device: str, threads: int | None) -> list[Worker]:
    """Open every variant in a process of its own.

    Raises:
        IncompatibleError: the bundle has no variants.
        MeasurementError: no variant could be opened.
    """
    if not bundle.manifest.variants:
        raise IncompatibleError(
            f"{bundle.source} has no variants to measure; expected at least one",
            hint=f"Inspect it with: {command_line('inspect', bundle.source)}",
        )
    workers = [stack.enter_context(Worker(bundle, v, device, threads)) for v in bundle.manifest.variants]
    check_measured(bundle, workers)
    return workers


def time_rounds(
    workers: Sequence[Worker], path: Path, repeats: int, progress: Progress = silent
) -> dict[str, list[float]]:
    """Measure one image in interleaved rounds; return milliseconds per megapixel by variant."""
    runs = {worker.variant.name: partial(worker.denoise, path) for worker in workers}
    return time_in_turns(runs, repeats, progress)


def check_measured(bundle: Bundle, workers: Sequence[Worker]) -> None:
    """Check that at least one worker has not failed.

    Raises:
        MeasurementError: all of them failed; the message has the reason of each.
    """
    if all(worker.error for worker in workers):
        reasons = "\n".join(f"  {worker.variant.name}: {worker.error}" for worker in workers)
        raise MeasurementError(
            f"none of the {len(workers)} variants of {bundle.source} could be measured:\n{reasons}",
            hint=f"Check the bundle and this machine with: {command_line('verify', bundle.source)}; edgedenoise doctor",
        )


def _noise(side_px: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)
