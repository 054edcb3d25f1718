"""Locks: one writer at a time for a bundle or a training run."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from edgedenoise.atomic import output_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgedenoise.errors import EdgeDenoiseError


@contextmanager
def one_writer(target: Path, error: type[EdgeDenoiseError]) -> Iterator[None]:
    """Hold the right to write `target`; the operating system takes it back when the process ends, however it ends.

    Args:
        target: the file or folder; it need not exist yet.
        error: class of the error for a target that another command writes.

    Raises:
        OutputError: no lock can be made beside `target`.
        EdgeDenoiseError: of the class `error`, when another command, or another thread, is writing `target`.
    """
    from filelock import FileLock, Timeout  # commands that only read do not wait for its import

    target = target.resolve()
    path = target.with_name(f".{target.name}.lock")
    with output_errors(target):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            raise error(
                f"{target} is being written by another command",
                hint="Wait until that command has ended, then run this one again.",
            ) from None
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file; one that stays is locked again by the next command
            path.unlink()
        lock.release()
