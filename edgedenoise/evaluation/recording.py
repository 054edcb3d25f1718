"""Record a measurement on this machine as a run of a result file."""

from __future__ import annotations

import os
import secrets
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import edgedenoise
from edgedenoise.evaluation.environment import environment
from edgedenoise.evaluation.identity import this_machine
from edgedenoise.evaluation.results import (
    CALL,
    NETWORK,
    BundleIdentity,
    Check,
    Client,
    Conditions,
    ImageRecord,
    ImageResult,
    LatencySamples,
    Run,
    RunEnvironment,
    VariantResult,
)
from edgedenoise.evaluation.sensors import (
    board_power_w,
    cpu_clocks_mhz,
    cpu_temperature_c,
    energy_j,
    gpus,
    power_mode,
    stalled_seconds,
    throttle_count,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.evaluation.measurement import Measurement
    from edgedenoise.evaluation.rounds import Samples
    from edgedenoise.imaging.tiling import Tiling

MOST_STALLED = 0.1
"""Part of the time in which work may wait for a CPU before the machine counts as contended."""
_SETTINGS = ("OMP_NUM_THREADS", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "CUDA_VISIBLE_DEVICES")


class RunRecorder:
    """A run that is being measured: made before the measurement, asked for the run after it."""

    def __init__(self, bundle: Bundle, arguments: Sequence[str], *, threads: int | None = None) -> None:
        self._bundle = bundle
        self._arguments = tuple(arguments)
        self._threads = threads
        self._started = datetime.now(timezone.utc)
        self._start = time.monotonic()
        self._stalled_s, self._throttles = stalled_seconds(), throttle_count()
        self._conditions = [self._reading()]

    def run(
        self,
        variants: Sequence[VariantResult],
        images: Sequence[ImageRecord] = (),
        remarks: Sequence[str] = (),
        checks: Sequence[Check] = (),
    ) -> Run:
        """Return the run, which ends now.

        Args:
            variants: the results.
            images: the images that were denoised.
            remarks: warnings about the measurement, each as a sentence; those about the machine are added.
            checks: limits that were checked.
        """
        self._conditions.append(self._reading())
        manifest = self._bundle.manifest
        here, stalled, throttled = environment(), self._stalled_share(), self._throttled()
        return Run(
            id=secrets.token_hex(8),
            command=self._arguments[0],
            arguments=self._arguments,
            started=self._started.strftime("%Y-%m-%dT%H:%M:%SZ"),
            duration_s=round(time.monotonic() - self._start, 3),
            client=Client(name="python", version=edgedenoise.__version__),
            machine=this_machine(),
            environment=RunEnvironment(
                versions={"python": here.python, **here.packages},
                threads=self._threads,
                power_mode=power_mode(),
                settings={name: os.environ[name] for name in _SETTINGS if name in os.environ},
                contended=None if stalled is None else stalled > MOST_STALLED,
                throttled=throttled,
                remarks=(*remarks, *_tile_remarks(manifest.tiling), *_machine_remarks(stalled, throttled)),
                conditions=tuple(self._conditions),
            ),
            bundle=BundleIdentity(
                name=manifest.name,
                digest=manifest.digest,
                network=manifest.network.name,
                macs_per_px=manifest.network.macs_per_px,
                source=str(self._bundle.source),
            ),
            variants=tuple(variants),
            images=tuple(images),
            checks=tuple(checks),
        )

    def _stalled_share(self) -> float | None:
        """Return the part of the time in which work waited for a CPU, 0 to 1; None where it is not known."""
        now, elapsed_s = stalled_seconds(), time.monotonic() - self._start
        if now is None or self._stalled_s is None or elapsed_s <= 0:
            return None
        return min((now - self._stalled_s) / elapsed_s, 1.0)

    def _throttled(self) -> bool | None:
        """Return whether heat or a power limit lowered the clocks during the run; None where it is not known."""
        known = [one.throttled for one in self._conditions if one.throttled is not None]
        count = throttle_count()
        if count is not None and self._throttles is not None:
            known.append(count > self._throttles)
        return any(known) if known else None

    def _reading(self) -> Conditions:
        here, gpu, energy = environment(), next(iter(gpus()), None), energy_j()
        clocks = cpu_clocks_mhz()
        power_w = board_power_w() if gpu is None else gpu.power_w
        temperature_c = cpu_temperature_c() if gpu is None or gpu.temperature_c is None else gpu.temperature_c
        return Conditions(
            elapsed_s=round(time.monotonic() - self._start, 3),
            load_average=here.load_average,
            cpu_pressure_percent=here.cpu_pressure,
            free_memory_bytes=here.free_memory_bytes,
            cpu_clock_mhz=clocks,
            gpu_clock_mhz=None if gpu is None else gpu.clock_mhz,
            temperature_c=temperature_c,
            power_w=power_w,
            energy_j=None if energy is None else sum(energy.joules),
            throttled=None if gpu is None else gpu.throttled,
        )


def _tile_remarks(tiling: Tiling) -> list[str]:
    """Return a remark on tiles that are not exact."""
    if tiling.is_exact:
        return []
    return [f"The tiles of this network are blended over {2 * tiling.strip_px} pixels: they are not exact."]


def _machine_remarks(stalled: float | None, throttled: bool | None) -> list[str]:
    """Return warnings about the machine, each as a sentence."""
    remarks = []
    if stalled is not None and stalled > MOST_STALLED:
        remarks.append(
            f"Other work slowed the measurement: work waited for a CPU in {stalled:.0%} of the time. Compare ratios,"
            " not milliseconds."
        )
    if throttled:
        remarks.append("Heat or a power limit lowered the clocks during the measurement.")
    return remarks


def variant_results(
    bundle: Bundle,
    measurements: Sequence[Measurement],
    samples: Samples,
    images: Mapping[str, Sequence[ImageResult]] | None = None,
) -> tuple[VariantResult, ...]:
    """Return measurements as results of a run.

    Args:
        bundle: the bundle that was measured.
        measurements: one per variant.
        samples: the raw times that they were computed from.
        images: results per image, by variant.
    """
    return tuple(_variant_result(bundle, one, samples, (images or {}).get(one.variant, ())) for one in measurements)


def _variant_result(bundle: Bundle, one: Measurement, samples: Samples, images: Sequence[ImageResult]) -> VariantResult:
    encoding = bundle.variant(one.variant).encoding
    timings = [
        LatencySamples(
            scope=scope,
            height_px=latency.height_px,
            width_px=latency.width_px,
            samples_ms=tuple(timed[one.variant]),
            warm_up_ms=tuple(warm_up.get(one.variant, ())),
        )
        for scope, latency, timed, warm_up in (
            (CALL, one.latency, samples.call, samples.warm_up_call),
            (NETWORK, one.network, samples.network, samples.warm_up_network),
        )
        if latency is not None
    ]
    return VariantResult(
        name=one.variant,
        runtime=one.runtime,
        precision=one.precision,
        size_bytes=one.size_bytes,
        runtime_version=one.runtime_version,
        device=one.device,
        detail=one.detail,
        scheme="" if encoding is None else encoding.scheme,
        load_ms=one.load_ms,
        peak_rss_bytes=one.peak_rss_bytes,
        timings=tuple(timings),
        images=tuple(images),
        compared_with=one.compared_with,
        slower_because=one.slower_because,
        not_recommended=one.not_recommended,
        least_noise_lsb=one.least_noise_lsb,
        error=one.error,
    )
