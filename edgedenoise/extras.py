"""Which extra installs which package, so that an error about a missing package names the command that installs it."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

from edgedenoise.errors import RuntimeUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

EXTRA_OF: Mapping[str, str] = {
    "av": "video",
    "cryptography": "serve",
    "cv2": "camera",
    "imagecodecs": "io",
    "jinja2": "report",
    "onnx": "quantize",
    "onnxscript": "export",
    "pillow_heif": "heic",
    "prometheus_client": "serve",
    "psutil": "bench",
    "pyvips": "large",
    "rawpy": "raw",
    "ray": "ray",
    "safetensors": "train,export",
    "segno": "serve",
    "skimage": "demo",
    "starlette": "serve",
    "tensorflow": "tf",
    "tifffile": "io",
    "tomli": "train",
    "torch": "train,export",
    "uvicorn": "serve",
    "watchfiles": "watch",
}
"""Import name -> extras of edgedenoise that the code which imports it needs; backends name their own packages."""


def is_installed(package: str) -> bool:
    """Return whether a package can be imported, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # it is being imported, or was made unavailable
        return sys.modules.get(package) is not None


def missing_package(error: ModuleNotFoundError, extra: str = "") -> RuntimeUnavailableError | None:
    """Return the error for a failed import of an optional package; None for any other package.

    Args:
        error: of the import.
        extra: extra that the hint installs; empty for that of `EXTRA_OF`.
    """
    package = (error.name or "").partition(".")[0]
    extra = extra or EXTRA_OF.get(package, "")
    if not extra:
        return None
    return RuntimeUnavailableError(
        f"the package {package} is needed for this and is not installed",
        hint=f'Install it with: pip install "edgedenoise[{extra}]"',
    )
