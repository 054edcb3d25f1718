"""Fixtures of all tests. Nothing heavy is imported: the base suite runs on a device without torch."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before a test module imports onnxruntime
_ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the golden files (tests/**/golden) instead of comparing with them",
    )


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The folder that holds pyproject.toml."""
    return _ROOT


@pytest.fixture(scope="session")
def data_root(repo_root: Path) -> Path:
    """The folder with the real images; tests that use it are skipped where it is missing."""
    folder = Path(os.environ.get("EDGEDENOISE_DATA") or repo_root.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(
            f"no real images in {folder}; CONTRIBUTING.md, 'Real images', says which data sets go "
            "there, and EDGEDENOISE_DATA names another folder"
        )
    return folder
