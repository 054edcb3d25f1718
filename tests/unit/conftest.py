"""Fixtures of the unit tests: a small bundle, generated images, and a private cache."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pytest
from images import noisy_pair

if TYPE_CHECKING:
    from collections.abc import Callable

_FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"


@pytest.fixture(autouse=True)
def user_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of edgedenoise during a test; the cache of the user is never used."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "edgedenoise"


@pytest.fixture(scope="session")
def committed_bundle() -> Path:
    """The bundle in the repository, which no test may change."""
    return _FIXTURES / "tiny.edge"


@pytest.fixture
def tiny_bundle(committed_bundle: Path, tmp_path: Path) -> Path:
    """A fresh copy of the bundle: variants onnx-fp32 and onnx-int8-u8s7 of a very small C-BSN."""
    return shutil.copytree(committed_bundle, tmp_path / "tiny.edge")


class FlipByte(Protocol):
    def __call__(self, path: Path, position: int | None = None) -> None:
        """Change one byte of a file, by default the middle one; doing it twice restores the file."""


@pytest.fixture(scope="session")
def flip_byte() -> FlipByte:
    def flip(path: Path, position: int | None = None) -> None:
        data = bytearray(path.read_bytes())
        data[len(data) // 2 if position is None else position] ^= 1
        path.write_bytes(data)

    return flip


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Read every file in a folder: path relative to it -> bytes."""

    def read(folder: Path) -> dict[str, bytes]:
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    return read


@pytest.fixture(scope="session")
def pair() -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    """Make a (noisy, clean) pair of uint8 images (256, 256, 3) from a seed. The bundle was trained on seeds 0 to 5."""
    return noisy_pair


@pytest.fixture(scope="session")
def nan_model(committed_bundle: Path) -> bytes:
    """The float graph with NaN as the first bias of the last convolution; every runtime can open it."""
    data = (committed_bundle / "onnx-fp32" / "model.onnx").read_bytes()
    name = b"network.tail4.bias"
    field = b"\x42" + bytes([len(name)]) + name + b"\x4a\x0c"  # ONNX's TensorProto: name (8), raw_data (9) of 12 bytes
    start = data.index(field) + len(field)
    return data[:start] + np.float32(np.nan).tobytes() + data[start + 4 :]
