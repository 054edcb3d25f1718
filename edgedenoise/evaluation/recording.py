"""Record a measurement on this machine as a run of a result file."""

from __future__ import annotations

import secrets
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import edgedenoise
from edgedenoise.evaluation.environment import environment
from edgedenoise.evaluation.identity import this_machine
from edgedenoise.evaluation.results import (
    CALL,
    BundleIdentity,
    Client,
    Conditions,
    ImageRecord,
    ImageResult,
    LatencySamples,
    Run,
    RunEnvironment,
    VariantResult,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.evaluation.measurement import Measurement


class RunRecorder:
    """A run that is being measured: made before the measurement, asked for the run after it."""

    def __init__(self, bundle: Bundle, arguments: Sequence[str], *, threads: int | None = None) -> None:
        self._bundle = bundle
        self._arguments = tuple(arguments)
        self._threads = threads
        self._started = datetime.now(timezone.utc)
        self._start = time.monotonic()
        self._conditions = [self._reading()]

    def run(self, variants: Sequence[VariantResult], images: Sequence[ImageRecord] = ()) -> Run:
        """Return the run, which ends now.

        Args:
            variants: the results.
            images: the images that were denoised.
        """
        self._conditions.append(self._reading())
        manifest = self._bundle.manifest
        here = environment()
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
        )

    def _reading(self) -> Conditions:
        here = environment()
        return Conditions(
            elapsed_s=round(time.monotonic() - self._start, 3),
            load_average=here.load_average,
            cpu_pressure_percent=here.cpu_pressure,
            free_memory_bytes=here.free_memory_bytes,
        )


def variant_results(
    bundle: Bundle,
    measurements: Sequence[Measurement],
    timed_px: tuple[int, int],
    images: Mapping[str, Sequence[ImageResult]] | None = None,
) -> tuple[VariantResult, ...]:
    """Return measurements as results of a run.

    Args:
        bundle: the bundle that was measured.
        measurements: one per variant.
        timed_px: (height, width) of the image that was timed.
        images: results per image, by variant.
    """
    return tuple(_variant_result(bundle, one, timed_px, (images or {}).get(one.variant, ())) for one in measurements)


def _variant_result(
    bundle: Bundle, one: Measurement, timed_px: tuple[int, int], images: Sequence[ImageResult]
) -> VariantResult:
    height, width = timed_px
    encoding = bundle.variant(one.variant).encoding
    per_mp = () if one.latency is None else one.latency.samples_ms_per_mp
    samples = tuple(value * height * width / 1e6 for value in per_mp)
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
        timings=(LatencySamples(scope=CALL, height_px=height, width_px=width, samples_ms=samples),) if samples else (),
        images=tuple(images),
        compared_with=one.compared_with,
        slower_because=one.slower_because,
        not_recommended=one.not_recommended,
        error=one.error,
    )
