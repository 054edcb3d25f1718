"""The device lab: results that browsers post are checked, judged, kept as result files, and shown while they arrive."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import deque
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import msgspec

from edgedenoise.errors import ResultFileError, UsageError
from edgedenoise.evaluation.judging import judge
from edgedenoise.evaluation.limits import Outcome, merged
from edgedenoise.evaluation.result_files import append_runs
from edgedenoise.evaluation.results import CALL, NETWORK, SCHEMA, ResultFile
from edgedenoise.printable import one_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgedenoise.bundles.manifest import Limits
    from edgedenoise.evaluation.results import Run
    from edgedenoise.serve.models import Models

MAX_RESULT_BYTES: Final = 1 << 20
"""Largest accepted result; a minute of samples has about 100 kilobytes."""
_MAX_RUNS: Final = 16
_MAX_DEVICES: Final = 1000
_KEPT: Final = 500
_MAX_RUNS_OF_DEVICE: Final = 200
_LONGEST_NAME: Final = 200
_LONGEST_TEXT: Final = 2000
_UNSAFE = re.compile(r"[^a-z0-9]+")


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was received, and how it was judged."""

    number: int
    """Place in the order of arrival, from 1."""
    run: str
    """Identifier of the run."""
    device: str
    """Label of the device."""
    bundle: str
    passed: bool
    """Whether no check failed, and at least one was passed."""
    file: str
    """Name of the result file in the folder of results."""
    times: str
    """Median time of a call of each variant, for people; empty where none was timed."""
    outcomes: tuple[Outcome, ...]

    @property
    def line(self) -> str:
        """The result on one line, for a terminal."""
        failures = [f"{one.variant} {one.name}: {one.message}" for one in self.outcomes if one.status == "failed"]
        missing = sorted({one.name for one in self.outcomes if one.status == "not run" and one.name != "selftest"})
        unchecked = [f"not checked: {', '.join(missing)}"] if missing else []
        said = "; ".join([*([self.times] if self.times else []), *failures, *unchecked])
        return one_line(f"{'passed' if self.passed else 'FAILED'}  {self.device}  {self.bundle}  {said}")


class DeviceLab:
    """Receives results. Safe to be used by several threads."""

    def __init__(self, folder: Path, limits: Limits, models: Models, on_result: Callable[[Judged], None]) -> None:
        """Prepare the lab.

        Args:
            folder: where the result files are kept, one per device.
            limits: limits for every device; those of the bundle complete them.
            models: the bundles that are served.
            on_result: called with each result.
        """
        self.folder = folder
        self._limits, self._models, self._on_result = limits, models, on_result
        self._lock = threading.Lock()
        self._kept: deque[Judged] = deque(maxlen=_KEPT)
        self._count = 0
        self._runs_of: dict[str, int] = {}
        self._writing = threading.Lock()

    def limits_of(self, model: str) -> Limits:
        """Return the limits for a bundle.

        Raises:
            BundleError: it is not served.
        """
        return merged(self._limits, self._models.get(model).bundle.manifest.limits)

    def since(self, number: int) -> list[Judged]:
        """Return the results after a number, as far as they are kept."""
        with self._lock:
            return [one for one in self._kept if one.number > number]

    def receive(self, data: bytes) -> list[Judged]:
        """Check, judge and keep the runs of a result file.

        Raises:
            UsageError: they are of a bundle that is not served, or too many.
            ResultFileError: the data do not keep to the schema.
            OutputError: the file cannot be written.
        """
        found = [(run, judge(run, self._limits_for(run)), self._file_of(run)) for run in _runs(data)]
        with self._writing:
            return [self._keep(run, outcomes, file) for run, outcomes, file in found]

    def _keep(self, run: Run, outcomes: tuple[Outcome, ...], file: str) -> Judged:
        """Write a run and report it; one that was received before is neither written nor reported again."""
        with self._lock:
            known = next((one for one in self._kept if one.run == run.id and one.file == file), None)
        if known is not None:
            return known
        append_runs(self.folder / file, [run])
        with self._lock:
            self._count += 1
            one = Judged(
                number=self._count,
                run=run.id,
                device=run.machine.label,
                bundle=run.bundle.name,
                passed=_is_passed(outcomes),
                file=file,
                times=_times(run),
                outcomes=outcomes,
            )
            self._kept.append(one)
        self._on_result(one)
        return one

    def _limits_for(self, run: Run) -> Limits:
        for model in self._models.all.values():
            if model.bundle.manifest.digest == run.bundle.digest:
                return merged(self._limits, model.bundle.manifest.limits)
        served = ", ".join(self._models.all)
        raise UsageError(
            f"the results are of another bundle: expected one that is served ({served}), got {run.bundle.name!r}",
            hint="Close all tabs of the page and open it again: it may have an older version of the bundle.",
        )

    def _file_of(self, run: Run) -> str:
        """Return the name of a device's file: readable, and made of safe characters alone."""
        digest = hashlib.sha256(f"{run.machine.id}\n{run.machine.label}".encode()).hexdigest()[:8]
        label = _UNSAFE.sub("-", run.machine.label.lower()).strip("-")[:40] or "device"
        name = f"{label}-{digest}.json"
        with self._lock:
            if name not in self._runs_of and len(self._runs_of) >= _MAX_DEVICES:
                raise UsageError(f"too many devices: expected at most {_MAX_DEVICES} in one run of the server")
            count = self._runs_of.get(name, 0) + 1
            if count > _MAX_RUNS_OF_DEVICE:
                raise UsageError(f"too many results of one device: expected at most {_MAX_RUNS_OF_DEVICE}")
            self._runs_of[name] = count
        return name


def _runs(data: bytes) -> tuple[Run, ...]:
    try:
        raw = msgspec.json.decode(data, type=dict[str, Any])
        if raw.get("schema") != SCHEMA:
            raise ResultFileError(f"the results are not accepted: expected the schema {SCHEMA!r}")
        _check_texts(raw)
        runs = msgspec.convert(raw, type=ResultFile).runs
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
        raise ResultFileError(f"the results do not keep to the schema {SCHEMA}: {error}") from error
    if not 1 <= len(runs) <= _MAX_RUNS:
        raise UsageError(f"the results are not accepted: expected 1 to {_MAX_RUNS} runs, got {len(runs)}")
    for run in runs:
        for text in (run.id, run.machine.id, run.machine.label, run.bundle.name):
            if len(text) > _LONGEST_NAME:
                raise UsageError(f"a name in the results is too long: expected {_LONGEST_NAME} characters at most")
    return runs


def _check_texts(value: Any) -> None:
    """Check that no text in a JSON value is long, because texts are kept and shown."""
    if isinstance(value, str):
        if len(value) > _LONGEST_TEXT:
            raise UsageError(f"a text in the results is too long: expected {_LONGEST_TEXT} characters at most")
    elif isinstance(value, dict):
        for name, item in value.items():
            _check_texts(name)
            _check_texts(item)
    elif isinstance(value, list):
        for item in value:
            _check_texts(item)


def _is_passed(outcomes: tuple[Outcome, ...]) -> bool:
    states = {one.status for one in outcomes}
    return "passed" in states and "failed" not in states


def _times(run: Run) -> str:
    """Return the median times of a call, or of the network alone where no call was timed, for people."""
    told = []
    sizes = set()
    for variant in run.variants:
        timing = variant.timing(CALL) or variant.timing(NETWORK)
        if timing is not None and timing.samples_ms:
            told.append(f"{variant.name} {median(timing.samples_ms):.3g} ms")
            sizes.add(f"{timing.height_px}x{timing.width_px}")
    return f"{', '.join(told)} ({', '.join(sorted(sizes))})" if told else ""
