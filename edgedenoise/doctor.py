"""What this machine can run, what is missing, and the exact command that would fix it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edgedenoise.evaluation.environment import Environment, environment
from edgedenoise.runtimes.registry import registry

if TYPE_CHECKING:
    from edgedenoise.runtimes.base import Backend


class TargetStatus(msgspec.Struct, frozen=True):
    """Whether a target can be used here."""

    target: str
    runs_on: str
    available: bool
    version: str | None
    devices: tuple[str, ...]
    reason: str | None
    """Why not; None when available."""
    command: str | None
    """What would make it available; None when nothing to do, or nothing that this version knows."""


class Diagnosis(msgspec.Struct, frozen=True):
    """The machine and every target."""

    environment: Environment
    targets: tuple[TargetStatus, ...]


def diagnose() -> Diagnosis:
    """Check which backends this machine can run; no model is opened.

    Example:
        >>> import edgedenoise
        >>> [target.target for target in edgedenoise.diagnose().targets][0]
        'onnxruntime'
    """
    broken = tuple(_broken(name, reason) for name, reason in registry.broken.items())
    return Diagnosis(environment(), (*(_status(backend) for backend in registry.values()), *broken))


def _status(backend: Backend) -> TargetStatus:
    found = backend.probe()
    return TargetStatus(
        backend.name, backend.runs_on, found.available, found.version, found.devices, found.reason, found.command
    )


def _broken(entry_point: str, reason: str) -> TargetStatus:
    return TargetStatus(entry_point, "a third-party backend", False, None, (), f"it cannot be loaded: {reason}", None)
