"""Which files of a watched folder are new and complete.

A file is complete when its size and time have not changed for a while and, where the system reports it, no program has
it open for writing. A file that is renamed into the folder is complete from the start, and waits for the same time.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edgedenoise.errors import DatasetError, UsageError
from edgedenoise.imaging.files import READABLE, output_name
from edgedenoise.imaging.folders import find_images
from edgedenoise.shell import quoted
from edgedenoise.system_errors import is_dir

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_TIME_STEP_S: Final = 2
"""Coarsest step of the times of files, which FAT has."""


@dataclass(frozen=True)
class _State:
    """What distinguishes one content of a file from the next one."""

    size: int
    time_ns: int


@dataclass(frozen=True)
class Arrival:
    """A complete file."""

    path: Path
    """The file."""
    output: Path
    """Where its output belongs."""
    error: UsageError | None
    """Reason to leave it out: another file has the same output. None for a file to denoise."""


@dataclass(frozen=True)
class _Waiting:
    state: _State
    since_s: float
    """Clock at which the file was first seen in this state."""


class Arrivals:
    """New files of a folder, each until it is complete.

    A file whose output exists and is not older is done: outputs have the time of their input, so this holds after a
    restart, too. A file that changes is new again.
    """

    def __init__(self, folder: Path, out: Path, settle_s: float) -> None:
        """Begin without files.

        Args:
            folder: the watched folder.
            out: folder of the outputs, which is not searched when it is inside the watched one.
            settle_s: seconds for which a complete file has not changed.
        """
        self._folder = folder
        self._out = out
        self._settle_s = settle_s
        self._waiting: dict[Path, _Waiting] = {}
        self._handled: dict[Path, _State] = {}
        self._by_output: dict[Path, Path] = {}

    def notice(self, paths: Iterable[Path], now_s: float) -> None:
        """Take note of files and folders that are new, have changed, or are gone.

        Args:
            paths: what has changed, in the watched folder.
            now_s: seconds of a clock that never goes back.
        """
        for path in (image for changed in paths for image in self._images(changed)):
            state = _state_of(path)
            if state is None:
                self._forget(path)
            elif self._is_new(path, state):
                self._waiting.setdefault(path, _Waiting(state, now_s))
            else:
                self._handled[path] = state

    def complete(self, now_s: float) -> list[Arrival]:
        """Return the files that are complete now, sorted; they are no longer waited for."""
        found = []
        for path, waiting in sorted(self._waiting.items()):
            state = _state_of(path)
            if state is None:
                self._forget(path)
            elif state != waiting.state:
                self._waiting[path] = _Waiting(state, now_s)
            elif now_s - waiting.since_s >= self._settle_s and not is_being_written(path):
                del self._waiting[path]
                self._handled[path] = state
                found.append(self._arrival(path))
        return found

    def _is_new(self, path: Path, state: _State) -> bool:
        if path in self._handled:
            return self._handled[path] != state
        output = self._output_of(path)
        return self._by_output.setdefault(output, path) != path or not _is_newer(output, state)

    def _forget(self, path: Path) -> None:
        self._waiting.pop(path, None)
        self._handled.pop(path, None)
        if self._by_output.get(self._output_of(path)) == path:
            del self._by_output[self._output_of(path)]

    def _output_of(self, path: Path) -> Path:
        """Return the output of a file: the same place in the folder of the outputs."""
        return self._out / output_name(path.relative_to(self._folder))

    def _arrival(self, path: Path) -> Arrival:
        output = self._output_of(path)
        rival = self._by_output.setdefault(output, path)
        if rival == path:
            return Arrival(path, output, None)
        other = path.with_stem(f"{path.stem}-2")
        return Arrival(
            path,
            output,
            UsageError(
                f"{rival} and {path} would both be written to {output}, which is for {rival}",
                hint=f"Rename one of them: {quoted('mv', path, other)}",
            ),
        )

    def _images(self, path: Path) -> Iterator[Path]:
        """Yield the images that a changed path stands for, without hidden ones and outputs."""
        relative = path.relative_to(self._folder)
        if any(part.startswith(".") for part in relative.parts) or path.is_relative_to(self._out):
            return
        if is_dir(path):
            with suppress(DatasetError):  # it is gone again, or cannot be read
                yield from find_images(path, recursive=True, apart_from=self._out).images
        elif path.suffix.lower() in READABLE:
            yield path


def is_being_written(path: Path) -> bool:
    """Return whether another program has a file open for writing; False where the system does not report it.

    Linux grants a lease for reading only while nobody has the file open for writing, on local file systems and to the
    owner of the file.
    """
    try:
        import fcntl
        import signal

        lease, notify, no_lease = fcntl.F_SETLEASE, fcntl.F_SETSIG, fcntl.F_UNLCK
    except (ImportError, AttributeError):
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.fcntl(descriptor, notify, signal.SIGURG)  # which is ignored, where a writer comes in this instant
        fcntl.fcntl(descriptor, lease, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, lease, no_lease)
    except BlockingIOError:
        return True
    except OSError:  # not supported, or not allowed
        return False
    finally:
        os.close(descriptor)
    return False


def _state_of(path: Path) -> _State | None:
    """Return the state of a file; None where there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return _State(status.st_size, status.st_mtime_ns)


def _is_newer(output: Path, source: _State) -> bool:
    """Return whether an output exists and is not older than its input."""
    state = _state_of(output)
    return state is not None and state.time_ns >= source.time_ns - _TIME_STEP_S * 10**9
