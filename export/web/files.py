"""The files of the browser app that `make web` builds."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from edgedenoise.errors import RuntimeUnavailableError
from edgedenoise.runtimes import registry as registry_module

RUNTIME_FOLDER: Final = "ort"
"""Folder of ONNX Runtime's WebAssembly in a site."""
_BUILT: Final = Path(registry_module.__file__).parent / "web" / "dist"
_NEEDED: Final = ("app/index.html", "app/test.html", "app/sw.js", "single/app.js", "single/app.css")


def built_web() -> Path:
    """Return the folder that `make web` builds.

    Raises:
        RuntimeUnavailableError: it has not been built, or not completely.
    """
    missing = [name for name in _NEEDED if not (_BUILT / name).is_file()]
    if missing:
        raise RuntimeUnavailableError(
            f"the browser app has not been built: expected {_BUILT / missing[0]}, got no such file",
            hint="Build it in a checkout: make web",
        )
    return _BUILT
