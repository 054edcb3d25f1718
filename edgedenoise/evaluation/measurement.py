"""Results of timing a variant: percentiles, speed against float on the same runtime, and why it may be slower."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgedenoise.errors import EdgeDenoiseError
from edgedenoise.evaluation.bootstrap import median_interval
from edgedenoise.runtimes.machine import saturates_u8s8
from edgedenoise.runtimes.onnxruntime.backend import SATURATION_FREE
from edgedenoise.runtimes.opening import backend_of
from edgedenoise.runtimes.timing import round_ratios

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.bundles.manifest import Encoding, Variant
    from edgedenoise.evaluation.rounds import Samples
    from edgedenoise.evaluation.worker import Opened, Worker
    from edgedenoise.runtimes.fusion import Fusion

FLOAT_PRECISIONS = ("fp32", "fp16")
NOT_WORTH_IT = "not worth it here"
"""Mark of a variant that is slower than the float variant that it is compared with."""


class Latency(msgspec.Struct, frozen=True):
    """Times of one variant on one input. Percentiles are None where there are too few samples for them."""

    height_px: int
    width_px: int
    p50_ms: float
    """Median of the milliseconds per image."""
    p50_ms_per_mp: float
    """Median of the milliseconds per megapixel."""
    p50_interval_ms_per_mp: tuple[float, float] | None
    """Interval that contains the true median with a probability of 95 % (bootstrap over the rounds)."""
    p90_ms_per_mp: float | None
    """None for fewer than 10 samples."""
    p95_ms_per_mp: float | None
    """None for fewer than 20 samples."""
    p99_ms_per_mp: float | None
    """None for fewer than 100 samples."""
    images_per_s: float
    """Throughput of one call after the other."""
    samples_ms_per_mp: tuple[float, ...]
    """Every timed run, in order."""

    @classmethod
    def of(cls, samples_ms: Sequence[float], height_px: int, width_px: int) -> Latency:
        """Compute the statistics of at least one sample, in milliseconds per image."""
        megapixels = height_px * width_px / 1e6
        per_mp = [value / megapixels for value in samples_ms]
        return cls(
            height_px,
            width_px,
            float(np.median(samples_ms)),
            float(np.median(per_mp)),
            median_interval(per_mp),
            percentile(per_mp, 90),
            percentile(per_mp, 95),
            percentile(per_mp, 99),
            1000 * len(samples_ms) / sum(samples_ms),
            tuple(per_mp),
        )


def percentile(samples: Sequence[float], percent: int) -> float | None:
    """Return a percentile, or None where fewer than one sample is expected to lie beyond it.

    Example:
        >>> percentile(range(1, 20), 95) is None
        True
        >>> percentile(range(1, 21), 95)
        19.05
    """
    if len(samples) * (100 - percent) < 100:
        return None
    return float(np.percentile(samples, percent))


class Measurement(msgspec.Struct, frozen=True):
    """Speed, memory and size of one variant."""

    variant: str
    runtime: str
    precision: str
    size_bytes: int
    """Size of all files of the variant."""
    runtime_version: str = ""
    device: str = ""
    """Device that ran, as the runtime reports it."""
    detail: str = ""
    load_ms: float | None = None
    latency: Latency | None = None
    """Time of a whole call: normalization, tiling, inference and the inverse steps."""
    network: Latency | None = None
    """Time of the network alone, as `benchmark_app` and `trtexec` measure it."""
    speed_vs_float: float | None = None
    """Median over rounds of (call time of `compared_with` / call time of this variant); above 1 is faster.

    None when there is nothing to compare with.
    """
    speed_interval: tuple[float, float] | None = None
    """Interval that contains the true `speed_vs_float` with a probability of 95 %; None for too few rounds."""
    energy_j: float | None = None
    """Median energy of one call in joules, other programs included; None where it cannot be read."""
    compared_with: str = ""
    """Float variant of the same runtime that `speed_vs_float` refers to; empty when there is none."""
    mark: str = ""
    """`NOT_WORTH_IT` when `speed_vs_float` is below 1, otherwise empty."""
    slower_because: str = ""
    """Likely reasons why a marked variant is slower."""
    peak_rss_bytes: int | None = None
    error: str = ""
    """Why the variant was not measured; empty when it was."""
    unavailable: bool = False
    """Whether the error is that this machine cannot run the variant; nothing is wrong with it then."""
    not_recommended: str = ""
    """Recorded loss of a variant that loses too much against float; empty for the others."""
    least_noise_lsb: float = 0.0
    """Least noise of the images that it is recommended for, in 8-bit levels; 0 for all images."""


def failures(measurements: Iterable[Measurement]) -> list[str]:
    """Return the variants that failed although this machine can run them, each with the reason."""
    return [f"{one.variant}: {one.error}" for one in measurements if one.error and not one.unavailable]


def float_reference(variant: Variant, timed: Sequence[Variant], times: Mapping[str, float]) -> Variant | None:
    """Return the float variant of the same runtime that a variant's speed is compared with.

    Integers are compared with the fastest float variant, because that is what they would replace; FP16 is compared
    with FP32.

    Args:
        variant: the variant to compare.
        timed: the variants that were measured completely.
        times: their times by name, in any unit.

    Returns:
        A float variant, or None when there is none.
    """
    accepted = {"fp32": (), "fp16": ("fp32",)}.get(variant.precision, FLOAT_PRECISIONS)
    floats = [other for other in timed if other.runtime == variant.runtime and other.precision in accepted]
    return min(floats, key=lambda other: times[other.name], default=None)


def summarize(bundle: Bundle, workers: Sequence[Worker], samples: Samples) -> tuple[Measurement, ...]:
    """Compute one measurement per variant from the samples of all rounds.

    Args:
        bundle: the bundle that was measured.
        workers: one per variant.
        samples: milliseconds of every timed run.

    Returns:
        The measurements, in the order of the workers.
    """
    calls = samples.call
    rounds = max(map(len, calls.values()), default=0)
    timed = [worker.variant for worker in workers if len(calls[worker.variant.name]) == rounds > 0]
    times = {variant.name: float(np.median(calls[variant.name])) for variant in timed}
    measured = []
    for worker in workers:
        variant, values = worker.variant, calls[worker.variant.name]
        found: dict[str, Any] = {
            "variant": variant.name,
            "runtime": variant.runtime,
            "precision": variant.precision,
            "size_bytes": sum(record.size_bytes for record in bundle.variant_records(variant).values()),
            "peak_rss_bytes": worker.peak_rss_bytes,
            "error": worker.error,
            "unavailable": worker.unavailable,
            "energy_j": float(np.median(worker.energy_j)) if worker.energy_j else None,
            "not_recommended": variant.not_recommended,
            "least_noise_lsb": variant.least_noise_lsb,
        }
        if worker.opened is not None:
            opened = worker.opened
            found |= {
                "load_ms": opened.load_ms,
                "runtime_version": opened.runtime_version,
                "device": opened.device,
                "detail": opened.detail,
            }
        if values:
            found["latency"] = Latency.of(values, *samples.call_px)
        if samples.network.get(variant.name) and worker.network_px is not None:
            found["network"] = Latency.of(samples.network[variant.name], *worker.network_px)
        reference = float_reference(variant, timed, times)
        ratios = [] if reference is None else round_ratios(calls[reference.name], values)
        if reference is not None and ratios:
            ratio = float(np.median(ratios))
            found |= {
                "speed_vs_float": ratio,
                "speed_interval": median_interval(ratios),
                "compared_with": reference.name,
            }
            if ratio < 1:
                found |= {"mark": NOT_WORTH_IT, "slower_because": _why_slower(bundle, worker)}
        measured.append(Measurement(**found))
    return tuple(measured)


def why_slower(encoding: Encoding | None, opened: Opened, fusion: Fusion | None) -> str:
    """Return the likely reasons why a variant is slower than float.

    Args:
        encoding: its integer encoding; None for a float variant.
        opened: the device that ran it, as the runtime reports it.
        fusion: how the runtime fused its graph; None where that is not known.

    Returns:
        The reasons in words, separated by semicolons.
    """
    found = []
    if SATURATION_FREE in opened.detail:
        found.append("no VNNI: on this CPU 8-bit weights need slower, saturation-free kernels; scheme u8s7 does not")
    elif encoding is not None and opened.device == "cpu" and saturates_u8s8():
        found.append("no VNNI: this CPU multiplies bytes in three steps and floats in one")
    if fusion is None:
        return "; ".join([*found, "fusion is not known (ONNX Runtime reports it on CPUs when onnx is installed)"])
    found.append(
        f"unfused: {fusion.conversions} Q/DQ nodes that only convert, and {fusion.in_float} of"
        f" {fusion.convolutions} convolutions in float"
    )
    if fusion.dynamic_shape:
        found.append("dynamic shape: height and width are open, so the runtime cannot plan for one size")
    return "; ".join(found)


def _why_slower(bundle: Bundle, worker: Worker) -> str:
    """Return the likely reasons why a variant is slower; inspects its graph after the measurement."""
    opened, variant, fusion = worker.opened, worker.variant, None
    if opened is None:
        return ""
    if opened.device == "cpu":
        with suppress(EdgeDenoiseError):  # the reasons are optional, the measurement is not
            fusion = backend_of(variant).fusion(variant, bundle.model_files(variant))
    return why_slower(variant.encoding, opened, fusion)
