"""Exchange two paths in one step, where the operating system can."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # Linux: linux/fs.h
_RENAME_SWAP = 2  # macOS: sys/stdio.h


def exchange(one: Path, other: Path) -> bool:
    """Exchange two existing paths of one file system atomically.

    Returns:
        Whether it was done; False where the system or the file system cannot, and nothing was changed.
    """
    call = _call()
    if call is None:
        return False
    first, second = os.fsencode(one), os.fsencode(other)
    if sys.platform == "darwin":
        return bool(call(first, second, _RENAME_SWAP) == 0)
    return bool(call(_AT_FDCWD, first, _AT_FDCWD, second, _RENAME_EXCHANGE) == 0)


@cache
def _call() -> Any:
    """Return the C library's function; None where there is none."""
    name = {"linux": "renameat2", "darwin": "renamex_np"}.get(sys.platform)
    if name is None:
        return None
    try:
        found = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (OSError, AttributeError):
        return None
    path, flags = ctypes.c_char_p, ctypes.c_uint
    found.argtypes = (path, path, flags) if name == "renamex_np" else (ctypes.c_int, path, ctypes.c_int, path, flags)
    found.restype = ctypes.c_int
    return found
