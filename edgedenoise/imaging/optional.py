"""Imports of the optional packages that read and write images."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from PIL import features

from edgedenoise.errors import RuntimeUnavailableError
from edgedenoise.extras import missing_package

if TYPE_CHECKING:
    from types import ModuleType


def import_io(module: str, purpose: str) -> ModuleType:
    """Import an optional package that reads or writes images.

    Args:
        module: name of the package.
        purpose: the step that needs it, as the message begins.

    Returns:
        The imported module.

    Raises:
        RuntimeUnavailableError: it is not installed; the hint is the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = missing_package(error)
        if missing is None:
            raise
        raise RuntimeUnavailableError(f"{purpose}: {missing.message}", hint=missing.hint) from error


def check_avif(purpose: str) -> None:
    """Check that Pillow reads and writes AVIF.

    Raises:
        RuntimeUnavailableError: it does not; the hint is the command that installs one that does.
    """
    if not features.check("avif"):
        raise RuntimeUnavailableError(
            f"{purpose}: this build of Pillow has no AVIF codec",
            hint='Install one that has: pip install "pillow>=11.3"',
        )
