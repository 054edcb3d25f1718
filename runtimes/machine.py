"""Facts about this machine: CPU features that decide about INT8, and free memory."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

_FALLBACK_FREE_BYTES = 2 << 30
_ISAS_WITHOUT_VNNI = frozenset({"SSE41", "AVX", "AVX2", "AVX512_CORE"})


@cache
def cpu_features() -> frozenset[str]:
    """Return the CPU's instruction-set flags as Linux names them (`avx2`, `avx512_vnni`, ...).

    Empty where the system does not report them (Windows, Intel Macs): callers must then assume the least.
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def is_x86() -> bool:
    """Return whether this is an x86-64 machine."""
    return platform.machine().lower() in ("x86_64", "amd64")


def saturates_u8s8() -> bool:
    """Return whether 8-bit products may saturate on this CPU.

    x86 CPUs without VNNI multiply unsigned by signed bytes with `vpmaddubsw`, whose 16-bit sum of two products
    saturates. VNNI accumulates in 32 bits; ARM does too.
    """
    return is_x86() and not cpu_features() & {"avx512_vnni", "avx_vnni"}


def onednn_saturates_u8s8() -> bool:
    """Return whether 8-bit products may saturate in oneDNN, whose kernels can be limited to older instructions.

    The limit is the environment variable `ONEDNN_MAX_CPU_ISA`, `DNNL_MAX_CPU_ISA` in older versions.
    """
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or ""
    return saturates_u8s8() or (is_x86() and limit.upper() in _ISAS_WITHOUT_VNNI)


def has_avx2() -> bool:
    """Return whether this is an x86-64 CPU with AVX2, or one that reports no features (nearly all have AVX2)."""
    return is_x86() and (not cpu_features() or "avx2" in cpu_features())


def free_memory_bytes() -> int:
    """Return how many bytes of memory a process may still take, as far as the system reports it.

    The smaller of what is available on the machine and what the control group (a container's limit) leaves.
    """
    limits = [value for value in (_available(), _cgroup_left()) if value is not None]
    return min(limits, default=_FALLBACK_FREE_BYTES)


def used_memory_bytes() -> int:
    """Return how many bytes of memory this process holds, as far as the system reports it; otherwise 0."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, AttributeError):
        pass
    try:
        import psutil

        return int(psutil.Process().memory_info().rss)
    except ImportError:
        return 0


def cpu_name() -> str:
    """Return the CPU's marketing name, or the architecture when it has none."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import psutil  # the extra `bench`; Windows and macOS report free memory only through it

        return int(psutil.virtual_memory().available)
    except ImportError:
        pass
    try:
        # Half of the physical memory: systems that do not report free memory still report its size.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return None


def _cgroup_left() -> int | None:
    for limit_name, used_name in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        root = Path("/sys/fs/cgroup")
        try:
            limit, used = (root / limit_name).read_text().strip(), (root / used_name).read_text().strip()
        except OSError:
            continue
        if limit.isdigit():
            return max(0, int(limit) - int(used))
    return None
