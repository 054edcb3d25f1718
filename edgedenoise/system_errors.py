"""Errors of the operating system in plain words, with what to do about them."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgedenoise.errors import EdgeDenoiseError
from edgedenoise.shell import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC})
_NO_HANDLES: Final = frozenset({errno.EMFILE, errno.ENFILE})
_REFUSED: Final = frozenset({errno.EACCES, errno.EPERM})
_OF_EVERY_FILE: Final = _FULL | _NO_HANDLES | {errno.EROFS, errno.EIO}


def is_full(error: OSError) -> bool:
    """Return whether an error reports a full disk."""
    return error.errno in _FULL


def is_of_every_file(error: EdgeDenoiseError) -> bool:
    """Return whether the system has reported what every other file would meet, too: a full disk, no file handles."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in _OF_EVERY_FILE


def is_file(path: Path) -> bool:
    """Return whether a path is a file; a name that no file can have is none, and no error."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long; with a NUL
        return False


def is_dir(path: Path) -> bool:
    """Return whether a path is a folder; a name that no folder can have is none, and no error."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def reason_and_hint(error: OSError, path: Path) -> tuple[str, str | None]:
    """Return what the system reports about `path`, and the advice for it.

    Args:
        error: the error of the system.
        path: the file or folder that could not be read or written.

    Returns:
        The reason, for the end of a message, and the hint; None where there is no advice.
    """
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return reason, f"Free some space: {quoted('df', '-h', path.parent)} shows how full the disk is."
    if error.errno in _NO_HANDLES:
        return reason, "Close other programs, or raise the limit of open files: ulimit -n 4096"
    if error.errno in _REFUSED:
        return reason, f"Check the permissions: {quoted('ls', '-ld', path.parent, path)}"
    if error.errno == errno.EROFS:
        return reason, "Choose a folder on a disk that can be written."
    if error.errno == errno.EFBIG:
        return (
            reason,
            "Choose a disk that takes files of this size, or raise the limit of the shell: ulimit -f unlimited",
        )
    if error.errno == errno.ENAMETOOLONG:
        return reason, "Choose a shorter name."
    return reason, None


@contextmanager
def input_errors(path: Path, kind: type[EdgeDenoiseError], what: str = "") -> Iterator[None]:
    """Translate errors of the system, such as missing permissions, that occur in the block while `path` is read.

    Args:
        path: the file or folder.
        kind: class of the error.
        what: how the message names the file; empty for its path.

    Raises:
        EdgeDenoiseError: of the class `kind`, when the block cannot read.
    """
    try:
        yield
    except OSError as error:
        reason, hint = reason_and_hint(error, path)
        raise kind(f"{what or path} cannot be read: {reason}", hint=hint) from error


def system_error(error: OSError, doing: str = "") -> EdgeDenoiseError:
    """Return our own error for one of the system in a place that expects none.

    Args:
        error: the error of the system.
        doing: what could not be done, as the message begins; empty for nothing.
    """
    path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes)) else Path()
    reason, hint = reason_and_hint(error, path)
    words = [doing, str(path) if error.filename else "", reason]
    found = EdgeDenoiseError(": ".join(filter(None, words)), hint=hint)
    found.__cause__ = error
    return found
