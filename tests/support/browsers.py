"""What tests in a browser need: Chromium, and the web files that `make web` builds."""

from __future__ import annotations

import os
import shutil

import pytest

from edgedenoise.errors import RuntimeUnavailableError
from edgedenoise.exporting.web.files import built_web


def chromium_or_skip() -> str:
    """Return the path of Chromium; skip the module without it."""
    found = os.environ.get("EDGEDENOISE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no Chromium on PATH; install: apt-get install chromium", allow_module_level=True)
    return found


def skip_without_web_files() -> None:
    """Skip the module where the browser library and app have not been built."""
    try:
        built_web()
    except RuntimeUnavailableError as missing:
        pytest.skip(f"{missing}; {missing.hint}", allow_module_level=True)
