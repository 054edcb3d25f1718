"""Latency, load time and memory of every variant of a bundle, each in a process of its own.

Variants are timed in interleaved rounds, because a machine's speed drifts with heat and other work: each round times
every variant once, so the ratios between variants hold even when the milliseconds do not.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.errors import UsageError
from edgedenoise.evaluation.measurement import Measurement, summarize
from edgedenoise.evaluation.recording import RunRecorder, variant_results
from edgedenoise.evaluation.results import Run
from edgedenoise.evaluation.rounds import Selection, check_measured, start_workers, time_rounds
from edgedenoise.evaluation.worker import OpenOptions
from edgedenoise.imaging.files import write_image
from edgedenoise.imaging.image import Image
from edgedenoise.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Collection

DEFAULT_REPEATS = 20
DEFAULT_SIDE_PX = 512


class BenchReport(msgspec.Struct, frozen=True):
    """Speed and memory of every variant of a bundle, measured side by side."""

    bundle: str
    network: str
    macs_per_px: int
    shape_px: tuple[int, int]
    """(height, width) of the image."""
    repeats: int
    variants: tuple[Measurement, ...]
    run: Run
    """Raw samples and the machine, as a result file holds them."""


def bench(
    bundle: Path | str,
    *,
    shape: int | tuple[int, int] = DEFAULT_SIDE_PX,
    repeats: int = DEFAULT_REPEATS,
    device: str = "auto",
    threads: int | None = None,
    trust_engine: bool = False,
    variants: Collection[str] = (),
    runtimes: Collection[str] = (),
    precisions: Collection[str] = (),
    progress: Progress = silent,
) -> BenchReport:
    """Measure the latency and memory of the variants of a bundle on a synthetic image.

    Two times are measured in each round: the whole call on an image of `shape`, and the network alone on an input of
    the same shape, as `benchmark_app` and `trtexec` measure it. The whole call runs on larger inputs, because tiles
    have margins.

    Args:
        bundle: a bundle folder or archive, or the name of a shipped bundle.
        shape: (height, width) of the image in pixels, or the side of a square.
        repeats: timed rounds, after the warm-up.
        device: `auto` or a device of the runtimes.
        threads: threads within one inference; None for the runtime's own choice.
        trust_engine: load TensorRT engines that contain code for the host although another machine built them.
        variants: names of the variants to measure; empty for all.
        runtimes: measure the variants of these backends alone; empty for all.
        precisions: measure the variants of these precisions alone; empty for all.
        progress: called after each round.

    Returns:
        One measurement per variant. A variant that failed has the reason instead of numbers.

    Raises:
        BundleError: the bundle cannot be opened, or no variant is selected.
        MeasurementError: no variant could be measured.
        UsageError: a side or `repeats` is below 1.

    Example:
        >>> import edgedenoise
        >>> report = edgedenoise.bench("mine.edge", shape=64, repeats=3)
        >>> [m.variant for m in report.variants]
        ['onnx-fp32', 'onnx-int8-u8s7']
        >>> floats = report.variants[0]
        >>> floats.latency.p50_ms_per_mp > floats.network.p50_ms_per_mp > 0  # margins and the steps around it take time
        True
    """
    height, width = _checked_shape(shape, repeats)
    opened, selection = Bundle.open(bundle), Selection(variants, runtimes, precisions)
    options = OpenOptions(device, threads, trust_engine)
    timing = timing_options(repeats, options)
    arguments = ["bench", str(opened.source), "--shape", f"{height}x{width}", *selection.words(), *timing]
    recorder = RunRecorder(opened, arguments, threads=threads)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = Path(folder) / "noise.png"
        write_image(Image(noise_image((height, width))), path)
        workers = start_workers(stack, opened, options, selection)
        samples = time_rounds(workers, path, (height, width), repeats, progress)
        check_measured(opened, workers)
        measured = summarize(opened, workers, samples)
    network = opened.manifest.network
    run = recorder.run(variant_results(opened, measured, samples), remarks=samples.remarks)
    return BenchReport(str(opened.source), network.name, network.macs_per_px, (height, width), repeats, measured, run)


def timing_options(repeats: int, options: OpenOptions) -> list[str]:
    """Return the words of the options that all commands that measure have."""
    words = ["--repeats", str(repeats), "--device", options.device]
    if options.threads is not None:
        words += ["--threads", str(options.threads)]
    return [*words, "--trust-engine"] if options.trust_engine else words


def _checked_shape(shape: int | tuple[int, int], repeats: int) -> tuple[int, int]:
    height, width = (shape, shape) if isinstance(shape, int) else shape
    if height < 1 or width < 1 or repeats < 1:
        raise UsageError(
            f"nothing to measure; expected sides and repeats of at least 1, got {height}x{width} and {repeats} repeats"
        )
    return height, width


def noise_image(shape_px: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the image that is timed: (H, W, 3) of random levels."""
    return np.random.default_rng(0).integers(0, 256, (*shape_px, 3), dtype=np.uint8)
