"""CPUs that this machine may not have, as edgedenoise sees them: which instructions decide about INT8."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedenoise.runtimes import machine

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

Cpu = tuple[str, frozenset[str]]
"""(architecture, flags as Linux names them)."""
OLD_X86: Cpu = ("x86_64", frozenset({"sse4_2"}))
AVX2: Cpu = ("x86_64", frozenset({"avx2"}))
VNNI: Cpu = ("x86_64", frozenset({"avx2", "avx_vnni"}))
ARM: Cpu = ("arm64", frozenset())
SILENT_X86: Cpu = ("AMD64", frozenset())
"""Windows does not report flags."""


def pretend(monkeypatch: pytest.MonkeyPatch, cpu: Cpu) -> None:
    """Make edgedenoise see a CPU; what kernels really compute stays this machine's."""
    architecture, flags = cpu
    monkeypatch.setattr(machine.platform, "machine", lambda: architecture)
    monkeypatch.setattr(machine, "cpu_features", lambda: flags)
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)


def names(cpus: Iterable[Cpu]) -> list[str]:
    """Return identifiers for parametrised tests."""
    return [f"{architecture}-{'-'.join(sorted(flags)) or 'silent'}" for architecture, flags in cpus]
