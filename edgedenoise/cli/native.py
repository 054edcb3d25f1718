"""What C libraries write to the standard error by themselves, past Python: kept away from it when quiet."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_STANDARD_ERROR: Final = 2


@contextmanager
def python_alone_writes(*, quiet: bool) -> Iterator[None]:
    """Keep everything but Python from writing to the standard error in the block, if `quiet`.

    The decoders of Pillow, such as libtiff, write their warnings to the file descriptor. It leads nowhere in the
    block, and Python writes to a copy of it.
    """
    if not quiet or _descriptor() != _STANDARD_ERROR:
        yield
        return
    before = sys.stderr
    before.flush()
    copy = os.dup(_STANDARD_ERROR)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STANDARD_ERROR)
    os.close(nowhere)
    try:
        with os.fdopen(os.dup(copy), "w", buffering=1, encoding=before.encoding, errors=before.errors) as sys.stderr:
            yield
    finally:
        sys.stderr = before
        os.dup2(copy, _STANDARD_ERROR)
        os.close(copy)


def _descriptor() -> int | None:
    """Return the file descriptor of Python's standard error; None where it is no file, as in tests."""
    try:
        return None if sys.stderr is None else sys.stderr.fileno()
    except (OSError, ValueError):  # also `io.UnsupportedOperation`, and a closed stream
        return None
