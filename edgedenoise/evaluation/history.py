"""The trend of each measure over the runs of a device, and whether the newest runs are worse than earlier ones.

A change counts when it is larger than the measured spread: how far the earlier runs are from each other, plus how
uncertain the medians are, by the samples within the runs. Times of a machine that did other work are not judged. The
ratio between variants of one run is, because both were timed in the same rounds; there it must be much worse to count.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from edgedenoise.errors import RegressionError, ResultFileError
from edgedenoise.evaluation.bootstrap import median_interval
from edgedenoise.evaluation.joining import latest_runs
from edgedenoise.evaluation.results import CALL, NETWORK
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from edgedenoise.evaluation.results import LatencySamples, Run, VariantResult

PSNR_TOLERANCE_DB = 0.01
"""Change of a mean PSNR that rounding on another version of a runtime may cause."""
CONTENDED_TOLERANCE = 0.3
"""Part of a ratio between variants that other work on the machine, or heat, may cost: both variants wait for a CPU,
but not in equal parts. A ratio that lost more has become worse even so."""
_SCOPES = {CALL: "call", NETWORK: "network"}

Verdict = Literal["first", "same", "better", "worse", "contended"]


class SeriesKey(NamedTuple):
    """What must be equal for two measurements to be comparable."""

    device: tuple[str, str]
    """(id, label) of the machine."""
    bundle: str
    variant: str
    measure: str
    """For example `ms/MP, call, 512x512` or `speed against onnx-fp32, call, 512x512`."""
    conditions: str
    """Threads and device; for quality a hash of the images."""


@dataclass(frozen=True)
class Point:
    """One measure of one run."""

    started: str
    """Start of the run, UTC."""
    run: str
    """Id of the run, in which the samples are."""
    value: float
    """Median of the samples, or mean over the images."""
    uncertainty: float
    """Half the width of the median's confidence interval."""
    contended: bool
    """Whether other work, or heat, slowed the run."""


@dataclass(frozen=True)
class Trend:
    """One measure over time."""

    key: SeriesKey
    higher_is_better: bool
    is_time: bool
    """Whether it is a time of one variant alone, which other work on the machine changes."""
    earlier: tuple[Point, ...]
    now: tuple[Point, ...]
    """The runs that are judged."""

    @property
    def value(self) -> float:
        """Median of the runs that are judged."""
        return float(np.median([point.value for point in self.now]))

    @property
    def before(self) -> float | None:
        """Median of the earlier runs; None when there are none."""
        return float(np.median([point.value for point in self.earlier])) if self.earlier else None

    @property
    def spread(self) -> float:
        """Change that the measurement itself explains."""
        if not self.earlier:
            return 0.0
        between = max(abs(point.value - (self.before or 0.0)) for point in self.earlier)
        within = [float(np.median([point.uncertainty for point in points])) for points in (self.earlier, self.now)]
        return between + sum(within)

    @property
    def verdict(self) -> Verdict:
        """Whether the newest runs differ from the earlier ones by more than the spread."""
        if self.before is None:
            return "first"
        slowed = any(point.contended for point in self.now)
        if self.is_time and slowed:
            return "contended"
        gain = (self.value - self.before) * (1 if self.higher_is_better else -1)
        if abs(gain) <= self.spread:
            return "same"
        slowed |= any(point.contended for point in self.earlier)
        if slowed and -CONTENDED_TOLERANCE * self.before <= gain < 0:
            return "contended"
        return "better" if gain > 0 else "worse"


def trends(earlier: Iterable[Run], now: Iterable[Run]) -> tuple[Trend, ...]:
    """Return the trend of every measure of the runs that are judged.

    Args:
        earlier: the runs to compare with, in order of time.
        now: the runs that are judged.

    Returns:
        One trend per device, bundle, variant and measure of `now`, in their order.
    """
    known = list(earlier)
    references = {(run.device, run.bundle.name, one.name, one.compared_with) for run in known for one in run.variants}
    before, judged = _series(known), _series(now, references)
    return tuple(
        Trend(key, kind.higher_is_better, kind.is_time, tuple(before.get(key, {}).get(kind, ())), tuple(points))
        for key, kinds in judged.items()
        for kind, points in kinds.items()
    )


def split_latest(runs: Sequence[Run]) -> tuple[list[Run], list[Run]]:
    """Return the earlier runs, and the latest run of each device, bundle and command."""
    latest = latest_runs(runs)
    return [run for run in runs if run not in latest], list(latest)


def check_regressions(earlier: Sequence[Run], now: Sequence[Run]) -> tuple[Trend, ...]:
    """Check that no measure became worse by more than its spread, and that no variant fails that ran before.

    Returns:
        What `trends` returns.

    Raises:
        RegressionError: a measure or a variant did.
        ResultFileError: there is nothing to compare with.
    """
    found = trends(earlier, now)
    failures = _new_failures(earlier, now)
    if not failures and all(trend.verdict == "first" for trend in found):
        raise ResultFileError(
            "nothing was checked: expected earlier runs of the same device, bundle, variant, size and threads, got"
            " none",
            hint=f"Measure one on this device with: {command_line('bench', 'edge-tiny', '-o', 'baseline.json')}",
        )
    worse = [*failures, *(_sentence(trend) for trend in found if trend.verdict == "worse")]
    if worse:
        count = f"{len(worse)} of {len(found) + len(failures)} measures became worse"
        raise RegressionError("\n".join([f"{count}:", *(f"  {line}" for line in worse)]))
    return found


def _new_failures(earlier: Sequence[Run], now: Sequence[Run]) -> list[str]:
    """Return a line for every variant that fails now and ran before on the same device."""
    ran = {
        (run.device, run.bundle.name, variant.name) for run in earlier for variant in run.variants if not variant.error
    }
    return [
        f"{run.machine.label}: {run.bundle.name}: {variant.name}: {variant.error}"
        for run in now
        for variant in run.variants
        if variant.error and (run.device, run.bundle.name, variant.name) in ran
    ]


def _sentence(trend: Trend) -> str:
    key, before = trend.key, trend.before or 0.0
    return (
        f"{key.device[1]}: {key.bundle}: {key.variant}: {key.measure}: expected {before:.4g} within {trend.spread:.2g},"
        f" got {trend.value:.4g}"
    )


class _Kind(NamedTuple):
    higher_is_better: bool
    is_time: bool


def _series(
    runs: Iterable[Run], references: Collection[tuple[object, ...]] = ()
) -> dict[SeriesKey, dict[_Kind, list[Point]]]:
    """Return all measures of some runs.

    Args:
        runs: the runs.
        references: (device, bundle, variant, variant that its speed was compared with) of earlier runs. The same is
            done here, also where another float variant is the fastest one now.
    """
    found: dict[SeriesKey, dict[_Kind, list[Point]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        for variant in run.variants:
            names = [
                one.name for one in run.variants if (run.device, run.bundle.name, variant.name, one.name) in references
            ]
            for key, kind, point in (*_times(run, variant, names or [variant.compared_with]), *_quality(run, variant)):
                found[key][kind].append(point)
    return found


def _times(run: Run, variant: VariantResult, against: Sequence[str]) -> Iterator[tuple[SeriesKey, _Kind, Point]]:
    """Yield the times of a variant, and its speed against other ones."""
    references = [one for one in map(run.variant, against) if one is not None]
    for timing in variant.timings:
        if timing.scope not in _SCOPES or not timing.samples_ms:
            continue
        what = f"{_SCOPES[timing.scope]}, {timing.width_px}x{timing.height_px}"
        if timing.images > 1:
            what += f", {timing.images} images"
        conditions = f"{run.environment.threads} threads, {variant.device}"
        megapixels = timing.height_px * timing.width_px * timing.images / 1e6
        key = SeriesKey(run.device, run.bundle.name, variant.name, f"ms/MP, {what}", conditions)
        yield key, _Kind(False, True), _point(run, [sample / megapixels for sample in timing.samples_ms])
        for reference in references:
            ratios = _ratios(timing, reference)
            if ratios:
                ratio_key = key._replace(measure=f"speed against {reference.name}, {what}")
                yield ratio_key, _Kind(True, False), _point(run, ratios)


def _quality(run: Run, variant: VariantResult) -> Iterator[tuple[SeriesKey, _Kind, Point]]:
    """Yield the mean PSNR of a variant; images that are equal to the truth have no finite one."""
    psnrs = {image.image: image.quality.psnr_db for image in variant.images if image.quality is not None}
    values = [value for value in psnrs.values() if value is not None]
    if not values or len(values) != len(run.images):
        return
    images = "\0".join(sorted(image.sha256 or image.name for image in run.images))
    conditions = f"images {hashlib.sha256(images.encode()).hexdigest()[:8]}"
    key = SeriesKey(run.device, run.bundle.name, variant.name, f"PSNR dB, {len(values)} images", conditions)
    yield key, _Kind(True, False), Point(run.started, run.id, float(np.mean(values)), PSNR_TOLERANCE_DB / 2, False)


def _ratios(timing: LatencySamples, reference: VariantResult) -> list[float]:
    """Return the time of the reference / the time of the variant, by round."""
    for other in reference.timings:
        if _what(other) == _what(timing) and len(other.samples_ms) == len(timing.samples_ms):
            return [a / b for a, b in zip(other.samples_ms, timing.samples_ms, strict=True) if b > 0]
    return []


def _what(timing: LatencySamples) -> tuple[object, ...]:
    return timing.scope, timing.height_px, timing.width_px, timing.images


def _point(run: Run, samples: Sequence[float]) -> Point:
    interval = median_interval(samples)
    low, high = interval if interval is not None else (min(samples), max(samples))
    slowed = bool(run.environment.contended or run.environment.throttled)
    half = (high - low) / 2
    return Point(run.started, run.id, float(np.median(samples)), half if math.isfinite(half) else 0.0, slowed)
