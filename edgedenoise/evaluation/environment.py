"""The machine and software on which something was measured; recorded with every measurement."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

import msgspec

import edgedenoise
from edgedenoise.runtimes.machine import cpu_features, cpu_name, free_memory_bytes

_PACKAGES = ("numpy", "pillow", "onnxruntime", "onnxruntime-gpu", "openvino", "onnx", "torch")


class Environment(msgspec.Struct, frozen=True):
    """Machine, operating system and versions."""

    edgedenoise: str
    python: str
    system: str
    cpu: str
    cores: int
    """Logical processors that this process may use."""
    vnni: bool
    """Whether the CPU has VNNI instructions, which multiply 8-bit integers fast and without saturation."""
    free_memory_bytes: int
    load_average: float | None
    """Average over the last minute; above `cores`, other work slows the measurement. None where it is not known."""
    cpu_pressure: float | None
    """Percentage of the last ten seconds in which work waited for a CPU (Linux PSI); None where it is not known."""
    packages: dict[str, str]
    """Installed version of each package that affects speed or results."""


def environment() -> Environment:
    """Return a description of this machine as it is now."""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return Environment(
        edgedenoise=edgedenoise.__version__,
        python=platform.python_version(),
        system=platform.platform(),
        cpu=cpu_name(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        vnni=bool(cpu_features() & {"avx512_vnni", "avx_vnni"}),
        free_memory_bytes=free_memory_bytes(),
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        cpu_pressure=_cpu_pressure(),
        packages=packages,
    )


def _cpu_pressure() -> float | None:
    try:
        line = Path("/proc/pressure/cpu").read_text(encoding="ascii").splitlines()[0]
        return float(line.split("avg10=")[1].split()[0])
    except (OSError, IndexError, ValueError):
        return None
