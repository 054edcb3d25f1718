"""Fixtures of all tests. Nothing heavy is imported: the base suite runs on a device without torch."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before a test module imports onnxruntime
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell starts `make test &` so, and the commands that tests interrupt would inherit it and never end.
    signal.signal(signal.SIGINT, signal.default_int_handler)
_ROOT = Path(__file__).resolve().parent.parent
_FIRST = (
    "tests/project/test_readme.py",
    "tests/e2e/test_loop.py",
    "tests/project/test_examples.py",
    "tests/unit/training/loop/test_trainer.py",
    "tests/fuzz/test_parsers.py",
    "tests/unit/bundles/test_pretrained.py",
    "tests/unit/export/test_tensorrt.py",
    "tests/unit/training/loop/test_distributed.py",
    "tests/project/test_third_party_backend.py",
)
"""Files that take longest. All tests of a file run in one worker, so a long file that began last would run alone."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the golden files (tests/**/golden) instead of comparing with them",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest files first; the Makefile keeps xdist from sorting files by their number of tests."""
    rank = {_ROOT / name: number for number, name in enumerate(_FIRST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


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
