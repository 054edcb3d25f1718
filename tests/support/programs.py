"""Independent programs that tests compare with."""

from __future__ import annotations

import shutil

import pytest


def needs(program: str, package: str) -> str:
    """Return the path of a program, or skip the test with the command that installs it."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed: apt-get install {package}")
    return path
