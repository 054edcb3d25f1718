"""Which machine this is, as result files record it."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import uuid
from pathlib import Path

from edgedenoise.evaluation.results import Machine
from edgedenoise.evaluation.sensors import gpus
from edgedenoise.runtimes.machine import cpu_features, cpu_name

LABEL = "EDGEDENOISE_DEVICE"
"""Environment variable with the label of this machine in result files; default: the host name."""
_INT8_FEATURES = ("avx2", "avx512", "avx_vnni", "amx_int8", "asimddp", "i8mm", "sve")
"""Beginnings of the CPU flags that decide about INT8."""


def this_machine() -> Machine:
    """Return the identity of this machine.

    Example:
        >>> from edgedenoise.evaluation.identity import this_machine
        >>> this_machine() == this_machine()
        True
    """
    return Machine(
        id=_machine_id(),
        label=os.environ.get(LABEL) or platform.node() or "unnamed",
        system=platform.platform(),
        architecture=platform.machine(),
        cpu=cpu_name(),
        cores=usable_cores(),
        model=_model(),
        memory_bytes=_physical_memory(),
        accelerators=tuple(gpu.name for gpu in gpus()),
        cpu_features=tuple(sorted(flag for flag in cpu_features() if flag.startswith(_INT8_FEATURES))),
    )


def usable_cores() -> int:
    """Return the number of logical processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _machine_id() -> str:
    """Return a hash of the system's own identifier, from which the latter cannot be computed."""
    own = _first_text("/etc/machine-id", "/var/lib/dbus/machine-id") or f"{uuid.getnode():012x}"
    parts = ["edgedenoise", own, platform.machine(), cpu_name()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _model() -> str:
    if platform.system() == "Darwin":
        return _printed_by("sysctl", "-n", "hw.model")
    return _first_text("/proc/device-tree/model", "/sys/devices/virtual/dmi/id/product_name")


def _printed_by(*command: str) -> str:
    """Return what a program prints; an empty text where it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _first_text(*paths: str) -> str:
    """Return the content of the first file that can be read and is not empty; otherwise an empty text."""
    for path in paths:
        try:
            text = Path(path).read_text(encoding="utf-8").strip("\0 \n")
        except (OSError, UnicodeDecodeError):
            continue
        if text:
            return text
    return ""


def _physical_memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
