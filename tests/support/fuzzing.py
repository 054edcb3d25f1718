"""Run a target of the fuzzer on one input, and judge what came out: a result, an error of ours, or a finding."""

from __future__ import annotations

import shutil
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgedenoise.errors import EdgeDenoiseError

if TYPE_CHECKING:
    from fuzz_targets import Target

MAX_CPU_S = 5.0
"""Processor time of one input beyond which it counts as a hang; other processes do not change it."""
MAX_BYTES = 2 << 30
"""Memory of the process beyond which an input counts as too large."""
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
Kind = Literal["foreign", "hang", "memory", "crash"]


@dataclass(frozen=True)
class Finding:
    """What an input did that no input may do."""

    kind: Kind
    """`foreign`: an exception of another class than ours. `crash`: the process ended."""
    detail: str
    """Class, place and message of the exception, or the time or memory that was taken."""


def examine(target: Target, data: bytes, folder: Path) -> Finding | None:
    """Feed one input to a target; None where it is read, or refused with an error of ours, in little time and memory.

    Args:
        target: the parser.
        data: the input.
        folder: an existing folder, which is emptied afterwards.
    """
    _reset_peak()
    begun = time.process_time()
    finding = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.parse(data, folder)
    except EdgeDenoiseError:
        pass
    except Exception as error:
        finding = Finding("foreign", f"{type(error).__name__} in {_place(error)}: {str(error)[:100]}")
    took, peak = time.process_time() - begun, memory_bytes("VmHWM")
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    if finding is None and took > MAX_CPU_S:
        return Finding("hang", f"{took:.1f} s")
    if finding is None and peak > MAX_BYTES:
        return Finding("memory", f"{peak / 2**30:.1f} GB")
    return finding


def _place(error: Exception) -> str:
    """Return the last function of ours, and the last one at all, that an error has passed."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "site-packages" not in frame.filename and "/lib/python" not in frame.filename]
    return " > ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in (ours[-1:] + frames[-1:]))


def _reset_peak() -> None:
    """Reset the peak memory that the system has measured, where it can."""
    if _CLEAR.exists():
        _CLEAR.write_text("5", encoding="ascii")


def memory_bytes(field: str) -> int:
    """Return memory of this process as the system counts it, such as `VmHWM`; 0 where the system does not report it."""
    if not _CLEAR.exists():
        return 0
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:"))
