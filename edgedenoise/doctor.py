"""Check which backends this machine can run, and how to make the others available."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edgedenoise.evaluation.environment import Environment, environment
from edgedenoise.runtimes.registry import registry

if TYPE_CHECKING:
    from edgedenoise.runtimes.base import Backend


class BackendStatus(msgspec.Struct, frozen=True):
    """Whether a backend can be used on this machine."""

    backend: str
    """Name of the backend; for an entry point that is broken, the entry point as `name (module:Class)`."""
    runs_on: str
    """Devices that the backend is for, in words."""
    available: bool
    version: str | None
    devices: tuple[str, ...]
    """Names that `--device` accepts, the default first."""
    reason: str | None
    """Why the backend cannot be used; None when it is available."""
    command: str | None
    """Command that makes the backend available; None when there is none, or nothing to do."""


class Diagnosis(msgspec.Struct, frozen=True):
    """The machine and every backend of the installation."""

    environment: Environment
    backends: tuple[BackendStatus, ...]


def diagnose() -> Diagnosis:
    """Check which backends this machine can run; no model is opened.

    Returns:
        The machine, and the status of every backend: the built-in ones first, then those of other packages, then
        entry points that cannot be loaded.

    Example:
        >>> import edgedenoise
        >>> diagnosis = edgedenoise.diagnose()
        >>> [status.backend for status in diagnosis.backends][:2]
        ['onnxruntime', 'openvino']
    """
    broken = [_broken(name, reason) for name, reason in registry.broken.items()]
    return Diagnosis(environment(), (*map(_status, registry.values()), *broken))


def _status(backend: Backend) -> BackendStatus:
    found = backend.probe()
    return BackendStatus(
        backend.name, backend.runs_on, found.available, found.version, found.devices, found.reason, found.command
    )


def _broken(entry_point: str, reason: str) -> BackendStatus:
    return BackendStatus(entry_point, "unknown devices", False, None, (), f"it cannot be loaded: {reason}", None)
