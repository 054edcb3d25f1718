"""Check which backends this machine can run, and how to make the others available."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from edgedenoise.evaluation.environment import Environment, environment
from edgedenoise.runtimes import registry as registry_module
from edgedenoise.runtimes.registry import registry

if TYPE_CHECKING:
    from edgedenoise.runtimes.base import Backend

_WEB_FOLDER: Final = Path(registry_module.__file__).parent / "web" / "dist"
_WEB_FILES: Final = ("lib/edgedenoise.js", "lib/worker.js", "lib/ort/ort-wasm-simd-threaded.wasm")


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


class WebStatus(msgspec.Struct, frozen=True):
    """Whether the files that run bundles in browsers are in this installation."""

    available: bool
    folder: str
    """Folder that the files are in, or belong into."""
    reason: str | None
    """What is missing; None when nothing is."""
    command: str | None
    """Command that builds them in a checkout of the source; None when they are there."""


class Diagnosis(msgspec.Struct, frozen=True):
    """The machine and every backend of the installation."""

    environment: Environment
    backends: tuple[BackendStatus, ...]
    web: WebStatus
    """Whether bundles can be served to browsers."""


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
    return Diagnosis(environment(), (*map(_status, registry.values()), *broken), _web_status())


def _web_status(folder: Path = _WEB_FOLDER) -> WebStatus:
    missing = next((name for name in _WEB_FILES if not (folder / name).is_file()), None)
    if missing is None:
        return WebStatus(True, str(folder), None, None)
    return WebStatus(False, str(folder), f"the browser library has not been built: {missing} is missing", "make web")


def _status(backend: Backend) -> BackendStatus:
    found = backend.probe()
    return BackendStatus(
        backend.name, backend.runs_on, found.available, found.version, found.devices, found.reason, found.command
    )


def _broken(entry_point: str, reason: str) -> BackendStatus:
    return BackendStatus(entry_point, "unknown devices", False, None, (), f"it cannot be loaded: {reason}", None)
