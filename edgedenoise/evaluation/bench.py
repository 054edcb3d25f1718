"""Latency, load time and memory of every variant, each in a process of its own, in interleaved rounds.

Interleaved, because a machine's speed drifts with heat and neighbours: each round times every variant once, so that
ratios between variants hold even when the milliseconds do not.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.errors import EdgeDenoiseError, IncompatibleError, InferenceError, UsageError
from edgedenoise.evaluation.environment import Environment, environment
from edgedenoise.evaluation.worker import Answer, Failure, Job, Opened, Reply, Request
from edgedenoise.exporting.targets import runtime_of, target_named
from edgedenoise.imaging.files import write_image
from edgedenoise.imaging.image import Image
from edgedenoise.progress import Progress, silent
from edgedenoise.runtimes.fusion import Fusion, TellsFusion
from edgedenoise.runtimes.machine import saturates_u8s8
from edgedenoise.runtimes.onnxruntime.backend import SATURATION_FREE
from edgedenoise.runtimes.timing import speed_ratio, time_in_turns

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from edgedenoise.bundles.manifest import Encoding, Variant

DEFAULT_REPEATS = 20
DEFAULT_SIDE_PX = 512
NOT_WORTH_IT = "not worth it here"
"""What a variant is marked with that is slower than float on the same runtime."""


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds per megapixel of the whole call: normalising, tiles, inference, undoing."""

    p50_ms_per_mp: float
    p90_ms_per_mp: float
    p99_ms_per_mp: float
    samples_ms_per_mp: tuple[float, ...]
    """Every timed run, in order."""


class Measurement(msgspec.Struct, frozen=True):
    """What was measured of one variant."""

    variant: str
    runtime: str
    precision: str
    size_bytes: int
    """Of all the variant's files."""
    runtime_version: str = ""
    device: str = ""
    """What really ran, as the runtime reports it."""
    detail: str = ""
    load_ms: float | None = None
    latency: Latency | None = None
    speed_vs_float: float | None = None
    """Median over rounds of float time / this time, same runtime; above 1 is faster. None for float."""
    mark: str = ""
    """`NOT_WORTH_IT` when `speed_vs_float` is below 1; otherwise empty."""
    slower_because: str = ""
    """What stands against it here, when it is marked."""
    peak_rss_bytes: int | None = None
    error: str = ""
    """Why there are no numbers; empty when there are."""


class BenchReport(msgspec.Struct, frozen=True):
    """Every variant, measured side by side."""

    bundle: str
    network: str
    macs_per_px: int
    side_px: int
    repeats: int
    environment: Environment
    variants: tuple[Measurement, ...]


class Worker:
    """A variant in its own process. A failure is kept in `error`, so that the others go on."""

    def __init__(self, bundle: Bundle, variant: Variant, device: str = "auto", threads: int | None = None) -> None:
        self.variant = variant
        self.error = ""
        self.not_finite = False
        self.opened: Opened | None = None
        self.peak_rss_bytes: int | None = None
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  (closed in __exit__)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edgedenoise.evaluation.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
        )
        reply = self._ask(Job(str(bundle.root), variant.name, device, threads))
        if isinstance(reply, Opened):
            self.opened = reply

    def denoise(self, path: Path, out: Path | None = None) -> float | None:
        """Denoise an image file and return milliseconds per megapixel; None once the worker has failed."""
        if self.error:
            return None
        reply = self._ask(Request(str(path), None if out is None else str(out)))
        if not isinstance(reply, Answer):
            return None
        self.peak_rss_bytes = reply.peak_rss_bytes
        return reply.seconds * 1000 / reply.megapixels

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.stdin is not None:
            with suppress(OSError):  # a worker that died leaves unread bytes behind
                self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._stderr.close()

    def _ask(self, message: Job | Request) -> Reply | None:
        if self._process.stdin is None or self._process.stdout is None:
            raise InferenceError("the worker process has no pipes")
        try:
            self._process.stdin.write(msgspec.json.encode(message) + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = b""
        if not line:
            self.error = f"its process ended ({self._process.wait()}): {self._last_words()}"
            return None
        reply: Reply = msgspec.json.decode(line, type=Reply)
        if isinstance(reply, Failure):
            self.error, self.not_finite = reply.message, reply.kind == "not finite"
        return reply

    def _last_words(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read()[-500:].decode(errors="replace").strip() or "it said nothing"


def bench(
    bundle: Path | str,
    *,
    side_px: int = DEFAULT_SIDE_PX,
    repeats: int = DEFAULT_REPEATS,
    device: str = "auto",
    threads: int | None = None,
    progress: Progress = silent,
) -> BenchReport:
    """Time every variant of a bundle on a synthetic image.

    Args:
        bundle: a bundle folder or archive.
        side_px: side of the square image.
        repeats: timed runs per variant, after the warm-up.
        device: `auto` or a device of the runtimes.
        threads: within one inference; None leaves it to the runtime.
        progress: told after each round.

    Raises:
        BundleError: the bundle cannot be opened.
        UsageError: `side_px` or `repeats` is not positive.
    """
    if side_px < 1 or repeats < 1:
        raise UsageError(f"side and repeats must be at least 1; received {side_px} and {repeats}")
    opened = Bundle.open(bundle)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        picture = Path(folder) / "picture.png"
        write_image(Image(_noise_picture(side_px)), picture)
        workers = start_workers(stack, opened, device, threads)
        samples = time_rounds(workers, picture, repeats, progress)
        measured = summarize(opened, workers, samples)
    network = opened.manifest.network
    return BenchReport(str(opened.source), network.name, network.macs_per_px, side_px, repeats, environment(), measured)


def start_workers(stack: ExitStack, bundle: Bundle, device: str, threads: int | None) -> list[Worker]:
    """Open every variant in a process of its own.

    Raises:
        IncompatibleError: the bundle has no variants.
    """
    if not bundle.manifest.variants:
        raise IncompatibleError(f"{bundle.source} has no variants to measure")
    return [stack.enter_context(Worker(bundle, v, device, threads)) for v in bundle.manifest.variants]


def time_rounds(
    workers: Sequence[Worker], picture: Path, repeats: int, progress: Progress = silent
) -> dict[str, list[float]]:
    """Time one image in interleaved rounds and return milliseconds per megapixel by variant."""
    runs = {worker.variant.name: partial(worker.denoise, picture) for worker in workers}
    return time_in_turns(runs, repeats, progress)


def summarize(bundle: Bundle, workers: Sequence[Worker], samples: dict[str, list[float]]) -> tuple[Measurement, ...]:
    """Turn samples into one measurement per variant, INT8 beside the float of the same runtime."""
    floats = {w.variant.runtime: samples[w.variant.name] for w in workers if w.variant.precision == "fp32"}
    measured = []
    for worker in workers:
        variant = worker.variant
        found: dict[str, Any] = {
            "variant": variant.name,
            "runtime": variant.runtime,
            "precision": variant.precision,
            "size_bytes": sum(record.size_bytes for record in bundle.variant_records(variant).values()),
            "peak_rss_bytes": worker.peak_rss_bytes,
            "error": worker.error,
        }
        if worker.opened is not None:
            opened = worker.opened
            found |= {
                "load_ms": opened.load_ms,
                "runtime_version": opened.runtime_version,
                "device": opened.device,
                "detail": opened.detail,
            }
        values = samples[variant.name]
        if values:
            p50, p90, p99 = (float(v) for v in np.percentile(values, [50, 90, 99]))
            found["latency"] = Latency(p50, p90, p99, tuple(values))
        if variant.precision != "fp32":
            ratio = speed_ratio(floats.get(variant.runtime, []), values)
            found["speed_vs_float"] = ratio
            if ratio is not None and ratio < 1:
                found["mark"] = NOT_WORTH_IT
                found["slower_because"] = _why_slower(bundle, worker)
        measured.append(Measurement(**found))
    return tuple(measured)


def why_slower(encoding: Encoding | None, opened: Opened, fusion: Fusion | None) -> str:
    """Say what stands against a variant that was measured to be slower than float.

    Args:
        encoding: its integers; None for a float of fewer bits.
        opened: the device that ran it, as the runtime reports it.
        fusion: what the runtime made of its graph; None where that is not known.
    """
    found = []
    if SATURATION_FREE in opened.detail:
        found.append(
            "no VNNI: 8-bit weights need slower, saturation-free kernels on this CPU; the scheme u8s7 does not"
        )
    elif encoding is not None and opened.device == "cpu" and saturates_u8s8():
        found.append("no VNNI: this CPU multiplies bytes in three steps where floats take one")
    if fusion is None:
        return "; ".join([*found, "what was fused is not known (ONNX Runtime tells for CPUs where onnx is installed)"])
    found.append(
        f"unfused: {fusion.conversions} Q/DQ nodes that only convert, and {fusion.in_float} of"
        f" {fusion.convolutions} convolutions in float"
    )
    if fusion.dynamic_shape:
        found.append("dynamic shape: the graph's sides are open, so nothing is planned for one size")
    return "; ".join(found)


def _why_slower(bundle: Bundle, worker: Worker) -> str:
    """Ask the runtime, outside the measurement, what it makes of a variant, and say what stands against it."""
    opened, variant, fusion = worker.opened, worker.variant, None
    if opened is None:
        return ""
    if opened.device == "cpu":
        with suppress(EdgeDenoiseError):  # the numbers stand without the explanation
            runtime = runtime_of(target_named(variant.runtime))
            if isinstance(runtime, TellsFusion):
                fusion = runtime.fusion(variant, bundle.variant_file(variant))
    return why_slower(variant.encoding, opened, fusion)


def _noise_picture(side_px: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)
