"""Latency against a limit, and ratios between variants against earlier runs on the same device."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from edgedenoise.errors import EdgeDenoiseError, ResultFileError
from edgedenoise.evaluation.bench import noise_image
from edgedenoise.evaluation.history import CONTENDED_TOLERANCE, trends
from edgedenoise.evaluation.limits import Outcome
from edgedenoise.evaluation.measurement import summarize
from edgedenoise.evaluation.recording import RunRecorder, variant_results
from edgedenoise.evaluation.result_files import read_results
from edgedenoise.evaluation.rounds import start_workers, time_rounds
from edgedenoise.imaging.files import write_image
from edgedenoise.imaging.image import Image
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.evaluation.history import Trend
    from edgedenoise.evaluation.limits import Status
    from edgedenoise.evaluation.measurement import Measurement
    from edgedenoise.evaluation.results import Run, VariantResult
    from edgedenoise.evaluation.rounds import Samples
    from edgedenoise.evaluation.worker import OpenOptions

TOLERANCE = 0.1
"""Part of a ratio that it may lose against the baseline, beside the spread that was measured."""
MAX_MEASUREMENTS = 3
"""How often the variants are measured at most, where a ratio is below that of the baseline: one measurement may have
been disturbed by other work."""


class SpeedChecks:
    """Times of all variants of a bundle, which are measured once, in interleaved rounds."""

    def __init__(
        self,
        bundle: Bundle,
        shape_px: tuple[int, int],
        repeats: int,
        options: OpenOptions,
        baseline: Path | None,
    ) -> None:
        """Prepare the checks.

        Raises:
            ResultFileError: the baseline cannot be read.
        """
        self._bundle, self._shape_px, self._repeats = bundle, shape_px, repeats
        self._options = options
        self._earlier = () if baseline is None else _baseline(baseline, bundle)
        self._measured: dict[str, Measurement] | EdgeDenoiseError | None = None
        self._samples: Samples | None = None
        self._trends: tuple[Trend, ...] = ()
        self._run: Run | None = None

    @property
    def remarks(self) -> tuple[str, ...]:
        """Warnings about the samples, each as a sentence."""
        return () if self._samples is None else self._samples.remarks

    def measure(self) -> dict[str, Measurement] | EdgeDenoiseError:
        """Measure all variants, once; an error means that none could be."""
        if self._measured is None:
            try:
                self._measured = self._measure()
            except EdgeDenoiseError as error:
                self._measured = error
        return self._measured

    def results(self) -> tuple[VariantResult, ...]:
        """Return the samples for a result file; empty where nothing was measured."""
        return () if self._run is None else self._run.variants

    def check(self, variant: str, name: str, max_ms: float | None) -> Outcome:
        """Run the check `max_ms` or `baseline` of one variant."""
        found = self.measure()
        one = found.get(variant) if isinstance(found, dict) else None
        error = found.one_line if isinstance(found, EdgeDenoiseError) else "" if one is None else one.error
        if one is None or one.latency is None:
            known = one is not None and not one.unavailable
            return Outcome(name=name, variant=variant, status="failed" if known else "not run", message=error)
        if name == "baseline":
            return self._against_baseline(variant)
        limit, value = max_ms or 0.0, one.latency.p50_ms
        height, width = self._shape_px
        return Outcome(
            name=name,
            variant=variant,
            status="passed" if value <= limit else "failed",
            message=f"{value:.4g} ms for a call at {height}x{width}; expected at most {limit:g} ms{self._slowed()}",
            value=value,
            limit=limit,
            unit="ms",
        )

    def _slowed(self) -> str:
        """Return what to know about a time that was measured on a busy machine; empty for others."""
        contended = self._run is not None and self._run.environment.contended
        return "; other work slowed this machine" if contended else ""

    def _measure(self) -> dict[str, Measurement]:
        """Measure all variants; again where a ratio became worse than the baseline, and judge all rounds together."""
        recorder = RunRecorder(self._bundle, ["test", str(self._bundle.source)], threads=self._options.threads)
        for _ in range(MAX_MEASUREMENTS):
            measured, samples = self._measure_once()
            self._run = recorder.run(variant_results(self._bundle, measured, samples))
            self._trends = trends(self._earlier, [self._run]) if self._earlier else ()
            if not any(_lost(one) and one.verdict != "same" for one in self._trends):
                break
        return {one.variant: one for one in measured}

    def _measure_once(self) -> tuple[tuple[Measurement, ...], Samples]:
        """Measure some more rounds; return the results and the samples of all rounds so far."""
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            path = Path(folder) / "noise.png"
            write_image(Image(noise_image(self._shape_px)), path)
            workers = start_workers(stack, self._bundle, self._options)
            samples = time_rounds(workers, path, self._shape_px, self._repeats)
            self._samples = samples if self._samples is None else self._samples.followed_by(samples)
            return summarize(self._bundle, workers, self._samples), self._samples

    def _against_baseline(self, variant: str) -> Outcome:
        """Compare the ratios of a variant to its float variant with those of earlier runs on this device."""
        own = [one for one in self._trends if one.key.variant == variant and not one.is_time and one.before is not None]
        if not own:
            message = "the baseline has no ratio of this variant on this device, at this size and with these threads"
            return Outcome(name="baseline", variant=variant, status="not run", message=message)
        return judged(variant, min(own, key=lambda one: one.value / (one.before or 1.0)))


def judged(variant: str, trend: Trend) -> Outcome:
    """Return the check of a ratio against the baseline.

    It fails where the ratio lost more than `TOLERANCE` and the spread. Where other work or heat slowed one of the
    measurements, and the loss is within `CONTENDED_TOLERANCE`, it is not run.

    Args:
        variant: name of the variant.
        trend: its ratio; there are earlier runs.
    """
    before = trend.before or 0.0
    message = f"{trend.key.measure}: {trend.value:.3g}; expected {before:.3g} within {TOLERANCE:.0%} and the spread of"
    message += f" {trend.spread:.2g}"
    status: Status = "passed"
    if _lost(trend) and trend.verdict == "worse":
        status = "failed"
    elif _lost(trend) and trend.verdict == "contended":
        status = "not run"
        message += "; other work or heat slowed this machine, now or for the baseline, so that a loss below"
        message += f" {CONTENDED_TOLERANCE:.0%} is not judged: repeat both on an idle machine"
    return Outcome(
        name="baseline",
        variant=variant,
        status=status,
        message=message,
        value=trend.value,
        limit=before * (1 - TOLERANCE),
        unit="ratio",
        at_least=True,
    )


def _lost(trend: Trend) -> bool:
    """Return whether a ratio is below that of the baseline by more than is accepted; times are not judged."""
    return not trend.is_time and trend.before is not None and trend.value < trend.before * (1 - TOLERANCE)


def _baseline(path: Path, bundle: Bundle) -> tuple[Run, ...]:
    """Return the runs of a result file."""
    if not path.exists():
        raise ResultFileError(
            f"there is no baseline at {path}",
            hint=f"Measure it on this device with: {command_line('test', bundle.source, '-o', path)}",
        )
    return read_results(path).runs
