"""Check a bundle against limits: self-test, tiles, distance to float, latency. `edgedenoise test` runs all checks.

The plan is made from the manifest alone, so that a test runner can list the checks before anything is opened.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.manifest import Limits
from edgedenoise.calibration.calibrate import FLOAT_VARIANT
from edgedenoise.denoiser import load_variant
from edgedenoise.errors import (
    DeviceNotFoundError,
    EdgeDenoiseError,
    IncompatibleError,
    RuntimeUnavailableError,
    UsageError,
)
from edgedenoise.evaluation.distances import FloatOutputs, worst
from edgedenoise.evaluation.limits import (
    LimitsReport,
    Outcome,
    Status,
    at_least,
    at_most,
    decibels,
    max_drop,
    merged,
)
from edgedenoise.evaluation.recording import RunRecorder
from edgedenoise.evaluation.results import SelfTest, VariantResult
from edgedenoise.evaluation.speed_checks import SpeedChecks
from edgedenoise.evaluation.worker import OpenOptions
from edgedenoise.progress import Progress, silent
from edgedenoise.runtimes.selftest import run_selftest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgedenoise.denoiser import Denoiser
    from edgedenoise.evaluation.distances import Distance
    from edgedenoise.runtimes.selftest import SelfTestResult

_UNAVAILABLE = (RuntimeUnavailableError, IncompatibleError, DeviceNotFoundError)
_NO_LIMITS = Limits()


@dataclass(frozen=True)
class CheckOptions:
    """What is checked, and where."""

    limits: Limits = _NO_LIMITS
    """They take precedence over those of the bundle."""
    noisy: Path | None = None
    """Folder of noisy images; None for the image of the self-test."""
    clean: Path | None = None
    """Folder of their ground truth under the same names."""
    baseline: Path | None = None
    """Result file with earlier runs on this device; ratios between variants must not have become worse."""
    shape: tuple[int, int] = (512, 512)
    """(height, width) of the image that is timed."""
    repeats: int = 20
    device: str = "auto"
    threads: int | None = None
    trust_engine: bool = False
    """Load TensorRT engines that contain code for the host although another machine built them."""
    always_timed: bool = False
    """Time the variants also where no limit needs it, for a result file that later serves as baseline."""

    def __post_init__(self) -> None:
        if self.clean is not None and self.noisy is None:
            raise UsageError(
                f"ground truth was given without images: expected noisy images with {self.clean}, got none",
                hint="Give their folder with --noisy.",
            )


class PlannedCheck(NamedTuple):
    """A check that has not run yet."""

    variant: str
    """Empty for the whole bundle."""
    name: str

    def __str__(self) -> str:
        return f"{self.variant}::{self.name}" if self.variant else self.name


@dataclass
class _Opened:
    """A variant while it is checked."""

    variant: str
    denoiser: Denoiser | None = None
    error: EdgeDenoiseError | None = None
    """Why it could not be opened."""
    selftest: SelfTestResult | EdgeDenoiseError | None = None
    distances: list[Distance] | EdgeDenoiseError | None = None


@dataclass
class BundleChecks:
    """The checks of one bundle. Close it at the end; usable as a context manager."""

    bundle: Bundle
    options: CheckOptions
    outcomes: list[Outcome] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.limits = merged(self.options.limits, self.bundle.manifest.limits)
        self._selftests: dict[str, SelfTest] = {}
        self._stack = ExitStack()
        self._floats = FloatOutputs(self.bundle, self.options.noisy, self.options.clean)
        self._stack.callback(self._floats.close)
        self._opened: _Opened | None = None
        options = self.options
        self.speed = SpeedChecks(
            self.bundle,
            options.shape,
            options.repeats,
            OpenOptions(options.device, options.threads, options.trust_engine),
            options.baseline,
        )

    def plan(self) -> list[PlannedCheck]:
        """Return the checks, from the manifest alone."""
        planned = [PlannedCheck("", "files")]
        for variant in self.bundle.manifest.variants:
            names = ["selftest", "tiles"]
            if variant.name != FLOAT_VARIANT:
                names += [name for name in ("max_error_lsb", "min_psnr_db", "max_drop_db") if self._has(name)]
            names += ["max_ms"] if self._has("max_ms") else []
            names += ["baseline"] if self.options.baseline is not None else []
            planned += [PlannedCheck(variant.name, name) for name in names]
        return planned

    def run(self, planned: PlannedCheck) -> Outcome:
        """Run one check; errors of a variant are outcomes."""
        start = time.perf_counter()
        found = self._files() if not planned.variant else self._of_variant(planned)
        outcome = msgspec.structs.replace(found, seconds=round(time.perf_counter() - start, 3))
        self.outcomes.append(outcome)
        return outcome

    def variant_results(self) -> tuple[VariantResult, ...]:
        """Return what is known about each variant, for a result file."""
        timed = {one.name: one for one in self.speed.results()}
        found = []
        for variant in self.bundle.manifest.variants:
            size = sum(record.size_bytes for record in self.bundle.variant_records(variant).values())
            base = timed.get(variant.name) or VariantResult(
                name=variant.name, runtime=variant.runtime, precision=variant.precision, size_bytes=size
            )
            found.append(msgspec.structs.replace(base, selftest=self._selftests.get(variant.name)))
        return tuple(found)

    def close(self) -> None:
        """Release sessions and files."""
        self._close_variant()
        self._stack.close()

    def __enter__(self) -> BundleChecks:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _has(self, name: str) -> bool:
        return getattr(self.limits, name) is not None

    def _files(self) -> Outcome:
        try:
            self.bundle.check()
        except EdgeDenoiseError as error:
            return Outcome(name="files", status="failed", message=error.one_line)
        return Outcome(name="files", status="passed", message=f"{len(self.bundle.manifest.files)} match the manifest")

    def _of_variant(self, planned: PlannedCheck) -> Outcome:
        if planned.name in ("max_ms", "baseline"):
            self._close_variant()  # its threads would disturb the times
            return self.speed.check(planned.variant, planned.name, self.limits.max_ms)
        opened = self._open(planned.variant)
        if opened.error is not None:
            status: Status = "not run" if isinstance(opened.error, _UNAVAILABLE) else "failed"
            return Outcome(name=planned.name, variant=planned.variant, status=status, message=opened.error.one_line)
        if planned.name in ("selftest", "tiles"):
            return self._selftest(opened, planned.name)
        return self._distance(opened, planned.name)

    def _open(self, name: str) -> _Opened:
        if self._opened is None or self._opened.variant != name:
            self._close_variant()
            self._opened = _Opened(name)
            options = self.options
            try:
                self._opened.denoiser = load_variant(
                    self.bundle,
                    name,
                    device=options.device,
                    threads=options.threads,
                    trust_engine=options.trust_engine,
                    selftest=False,
                )
            except EdgeDenoiseError as error:
                self._opened.error = error
        return self._opened

    def _close_variant(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None and opened.denoiser is not None:
            opened.denoiser.close()

    def _selftest_of(self, opened: _Opened) -> SelfTestResult | EdgeDenoiseError:
        if opened.selftest is None and opened.denoiser is not None:
            variant = self.bundle.variant(opened.variant)
            try:
                opened.selftest = run_selftest(self.bundle, variant, opened.denoiser.session)
            except EdgeDenoiseError as error:
                opened.selftest = error
            self._selftests[opened.variant] = _recorded(opened.selftest)
        if opened.selftest is None:
            raise TypeError("the self-test of a variant that is not open")
        return opened.selftest

    def _selftest(self, opened: _Opened, name: str) -> Outcome:
        found = self._selftest_of(opened)
        if isinstance(found, EdgeDenoiseError):
            return Outcome(name=name, variant=opened.variant, status="failed", message=found.one_line)
        tiles = name == "tiles"
        value, limit = (found.tiled_psnr_db, found.tiled_bound_db) if tiles else (found.psnr_db, found.bound_db)
        if limit is None:
            message = f"tiles are blended and not exact: {decibels(value)} to the whole image, which is not judged"
            return Outcome(name=name, variant=opened.variant, status="not run", message=message, value=value, unit="dB")
        what = "tiles to the whole image" if tiles else "output to the float output"
        return at_least(name, opened.variant, value, limit, "dB", f"{what}: {decibels(value)}")

    def _distance(self, opened: _Opened, name: str) -> Outcome:
        variant = opened.variant
        if name == "max_drop_db" and not self._floats.has_truth:
            message = "no images with ground truth: give --noisy and --clean"
            return Outcome(name=name, variant=variant, status="not run", message=message)
        found = self._distances_of(opened)
        if isinstance(found, EdgeDenoiseError):
            return Outcome(name=name, variant=variant, status="failed", message=found.one_line)
        if name == "min_psnr_db":
            one, limit = worst(found, "psnr_db"), self.limits.min_psnr_db or 0.0
            message = f"{decibels(one.psnr_db)} to float on {one.image}"
            return at_least(name, variant, one.psnr_db, limit, "dB", message, one.image)
        if name == "max_error_lsb":
            one, limit = worst(found, "max_error_lsb"), self.limits.max_error_lsb or 0.0
            message = f"{one.max_error_lsb:g} 8-bit levels from float on {one.image}"
            return at_most(name, variant, one.max_error_lsb, limit, "LSB", message, one.image)
        return self._drop(variant, found)

    def _drop(self, variant: str, found: Sequence[Distance]) -> Outcome:
        limit, least = self.limits.max_drop_db or 0.0, self.bundle.variant(variant).least_noise_lsb
        found = [one for one in found if one.noise_lsb is None or one.noise_lsb >= least]
        if not found:
            message = f"no image has a noise of {least:g} LSB or more; denoise runs those with less in float"
            return Outcome(name="max_drop_db", variant=variant, status="not run", message=message)
        images = "1 image" if len(found) == 1 else f"{len(found)} images"
        which = f"{images} with a noise of {least:g} LSB or more" if least else images
        return max_drop(variant, {one.image: one.drop_db or 0.0 for one in found}, limit, which)

    def _distances_of(self, opened: _Opened) -> list[Distance] | EdgeDenoiseError:
        if opened.distances is None and opened.denoiser is not None:
            selftest = self._selftest_of(opened)
            try:
                if isinstance(selftest, EdgeDenoiseError):
                    raise selftest
                opened.distances = self._floats.distances(opened.denoiser, selftest.output)
            except EdgeDenoiseError as error:
                opened.distances = error
        return opened.distances or []


def check_limits(
    bundle: Path | str, options: CheckOptions | None = None, *, progress: Progress = silent
) -> LimitsReport:
    """Check a bundle against limits: self-test, tiles against the whole image, float against INT8, latency.

    Args:
        bundle: a bundle folder or archive, or the name of a shipped bundle.
        options: limits, images, a baseline and the device; None for the limits of the bundle on its own image.
        progress: called after each check.

    Returns:
        One outcome per check. Variants that this machine cannot run are listed as not run.

    Raises:
        BundleError: the bundle cannot be opened.
        DatasetError: there are no images, or one has no ground truth or one of another size.
        ResultFileError: the baseline cannot be read.

    Example:
        >>> import edgedenoise
        >>> report = edgedenoise.check_limits("edge-tiny")
        >>> report.passed
        True
        >>> [outcome.name for outcome in report.outcomes if outcome.variant == "onnx-int8-u8s7"]
        ['selftest', 'tiles', 'max_error_lsb']
    """
    opened, options = Bundle.open(bundle), options or CheckOptions()
    recorder = RunRecorder(opened, ["test", str(opened.source)], threads=options.threads)
    with BundleChecks(opened, options) as checks:
        planned = checks.plan()
        for done, one in enumerate(planned):
            progress("test", done, len(planned), str(one))
            checks.run(one)
        progress("test", len(planned), len(planned))
        if options.always_timed:
            checks.speed.measure()
        outcomes = tuple(checks.outcomes)
        ran = [one.check for one in outcomes if one.status != "not run"]
        run = recorder.run(checks.variant_results(), remarks=checks.speed.remarks, checks=ran)
        return LimitsReport(bundle=str(opened.source), limits=checks.limits, outcomes=outcomes, run=run)


def _recorded(found: SelfTestResult | EdgeDenoiseError) -> SelfTest:
    if isinstance(found, EdgeDenoiseError):
        return SelfTest(passed=False, reason=found.one_line)
    return SelfTest(
        passed=found.passed,
        psnr_db=found.psnr_db if np.isfinite(found.psnr_db) else None,
        limit_db=found.bound_db,
        max_error_lsb=found.max_error_lsb,
        reason=found.reason or "",
    )
