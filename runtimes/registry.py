"""The registry of backends: built-in ones from a literal table, third-party ones from an entry-point group.

A third-party package adds a backend by an entry point in the group `edgedenoise.runtimes`, which names a subclass of
`edgedenoise.runtimes.base.Backend`. The entry point has the backend's name.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

from edgedenoise.errors import UsageError
from edgedenoise.runtimes.base import Backend

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    Default = TypeVar("Default")

_log = logging.getLogger(__name__)

BUILT_IN: Mapping[str, str] = {
    "onnxruntime": "edgedenoise.runtimes.onnxruntime.backend:OnnxRuntime",
    "openvino": "edgedenoise.runtimes.openvino.backend:OpenVino",
    "tensorrt": "edgedenoise.runtimes.tensorrt.backend:TensorRT",
    "tensorrt-rtx": "edgedenoise.runtimes.tensorrt.backend:TensorRTRTX",
    "coreml": "edgedenoise.runtimes.coreml.backend:CoreML",
}
"""Name -> `module:Class` of each built-in backend."""
GROUP = "edgedenoise.runtimes"
"""Entry-point group of third-party backends."""


class Registry(Mapping[str, Backend]):
    """Backends by name, built-in ones first. Modules are imported on first use; entry points are read once.

    Example:
        >>> from edgedenoise.runtimes.registry import registry
        >>> registry["onnxruntime"].is_cpu
        True
    """

    def __init__(self, built_in: Mapping[str, str] = BUILT_IN, group: str = GROUP) -> None:
        self._built_in = built_in
        self._group = group
        self._backends: dict[str, Backend] = {}
        self._third_party: dict[str, Backend] = {}
        self._is_read = False
        self._broken: dict[str, str] = {}

    @property
    def broken(self) -> Mapping[str, str]:
        """Entry points that are not usable, with the reason: `name (module:Class)` -> why."""
        self._others()
        return self._broken

    def __getitem__(self, name: str) -> Backend:
        """Return a backend by name.

        Raises:
            UsageError: there is no backend of that name.
        """
        if name in self._built_in:
            if name not in self._backends:
                module, _, attribute = self._built_in[name].partition(":")
                self._backends[name] = getattr(importlib.import_module(module), attribute)()
            return self._backends[name]
        if name in self._others():
            return self._others()[name]
        raise UsageError(
            f"there is no backend {name!r}; expected one of {', '.join(self)}",
            hint="List them with: edgedenoise doctor",
        )

    def __contains__(self, name: object) -> bool:
        return name in self._built_in or name in self._others()

    def get(self, name: str, default: Backend | Default | None = None) -> Backend | Default | None:  # type: ignore[override]
        """Return a backend by name, or `default`."""
        if name not in self:
            return default
        return self[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._built_in
        yield from self._others()

    def __len__(self) -> int:
        return len(self._built_in) + len(self._others())

    def _others(self) -> dict[str, Backend]:
        if not self._is_read:
            from importlib.metadata import entry_points

            self._is_read = True
            for entry in entry_points(group=self._group):
                self._add(entry)
        return self._third_party

    def _add(self, entry: EntryPoint) -> None:
        """Load a third party's backend, or record why it cannot be used: one broken package must not stop the rest."""
        try:
            backend = self._loaded(entry)
        except Exception as error:
            self._broken[f"{entry.name} ({entry.value})"] = f"{type(error).__name__}: {error}"
            _log.warning("the backend %s (%s) is skipped: %s: %s", entry.name, entry.value, type(error).__name__, error)
        else:
            self._third_party[entry.name] = backend

    def _loaded(self, entry: EntryPoint) -> Backend:
        if entry.name in self._built_in or entry.name in self._third_party:
            raise UsageError(f"the name {entry.name!r} is taken by another backend")
        kind = entry.load()
        if not (isinstance(kind, type) and issubclass(kind, Backend)):
            raise UsageError("expected a subclass of edgedenoise.runtimes.base.Backend")
        backend = kind()
        if backend.name != entry.name:
            raise UsageError(f"expected the entry point's name to be the backend's, {backend.name!r}")
        return backend


registry = Registry()
"""All backends of this installation."""
