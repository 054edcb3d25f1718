"""Bundles around small graphs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from graphs import branched_graph

from edgedenoise.export.float_bundle import write_float_bundle
from edgedenoise.noise import add_camera_noise, parameters_for_psnr
from edgedenoise.photo import write_photo
from edgedenoise.pixels import Photo, from_unit

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    from edgedenoise.bundle import Bundle


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's own cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def _noisy_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once: finding the gain for a PSNR takes a second."""
    folder = tmp_path_factory.mktemp("noisy-pictures")
    y, x = np.mgrid[0:160, 0:192] / 192
    for seed in range(4):
        rng = np.random.default_rng(seed)
        clean = 0.5 + 0.4 * np.sin(rng.uniform(3, 20, 3) * x[..., None] + rng.uniform(3, 20, 3) * y[..., None])
        noisy = add_camera_noise(clean, parameters_for_psnr(clean, 22, rng), rng)
        write_photo(Photo(from_unit(noisy, np.uint8)), folder / f"{seed}.png")
    return folder


@pytest.fixture
def noisy_folder(tmp_path: Path, _noisy_pictures: Path) -> Path:
    """Four small photographs with camera noise."""
    return Path(shutil.copytree(_noisy_pictures, tmp_path / "noisy"))


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Bundle]:
    """Wrap a graph into a bundle."""

    def make(model: onnx.ModelProto, *, halo_px: int = 4, multiple_of: int = 1) -> Bundle:
        return write_float_bundle(
            tmp_path / "test.edge",
            model,
            name="test",
            normalization="whole-image",
            halo_px=halo_px,
            multiple_of=multiple_of,
        )

    return make


@pytest.fixture
def branched_bundle(make_bundle: Callable[..., Bundle]) -> Bundle:
    return make_bundle(branched_graph())
