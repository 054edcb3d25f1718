"""Join the runs of several result files by device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgedenoise.errors import ResultFileError
from edgedenoise.evaluation.result_files import SUFFIX, is_result_file, read_results
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from edgedenoise.evaluation.results import Machine, Run


@dataclass(frozen=True)
class DeviceRuns:
    """All runs of one device."""

    machine: Machine
    """The device, as its latest run describes it."""
    runs: tuple[Run, ...]
    """In order of time."""


def load_runs(paths: Iterable[Path]) -> tuple[Run, ...]:
    """Read the runs of result files, and of the result files in folders.

    Args:
        paths: files and folders. Folders are searched with all that is below them; files in them that are not result
            files are left out.

    Returns:
        Every run once, in order of time.

    Raises:
        ResultFileError: a file cannot be read or has another schema, or there are no runs.
    """
    given = list(paths)
    runs: dict[str, Run] = {}
    for path in given:
        for file in _result_files(path):
            for run in read_results(file).runs:
                runs.setdefault(run.id, run)
    if not runs:
        raise ResultFileError(
            f"there are no results in {', '.join(map(str, given))}: expected result files with at least one run",
            hint=f"Measure a bundle with: {command_line('bench', 'edge-tiny', '-o', 'result.json')}",
        )
    return tuple(sorted(runs.values(), key=_time))


def join_devices(runs: Iterable[Run]) -> tuple[DeviceRuns, ...]:
    """Return the runs of each device, the devices in order of their labels."""
    devices: dict[tuple[str, str], list[Run]] = {}
    for run in sorted(runs, key=_time):
        devices.setdefault(run.device, []).append(run)
    joined = [DeviceRuns(found[-1].machine, tuple(found)) for found in devices.values()]
    return tuple(sorted(joined, key=lambda device: (device.machine.label, device.machine.id)))


def latest_runs(runs: Iterable[Run]) -> tuple[Run, ...]:
    """Return the latest run of each device, bundle and command."""
    latest = {(run.device, run.bundle.name, run.command): run for run in sorted(runs, key=_time)}
    return tuple(latest.values())


def _time(run: Run) -> tuple[str, str]:
    return run.started, run.id


def _result_files(path: Path) -> Sequence[Path]:
    """Return the file itself, or the result files of a folder."""
    if not path.is_dir():
        return [path]
    return [file for file in sorted(path.rglob(f"*{SUFFIX}")) if file.is_file() and is_result_file(file)]
