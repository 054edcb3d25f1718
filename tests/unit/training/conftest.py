"""Tiny images and networks for the training tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from edgedenoise.imaging.files import Image, write_image
from edgedenoise.training.config.config import CBSNConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray


def noisy_pixels(seed: int, height: int = 40, width: int = 52, channels: int = 3) -> NDArray[np.uint8]:
    """A smooth image with noise: (height, width, channels)."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    smooth = 128 + 60 * np.sin(x / 9 + seed)[..., None] * np.cos(y / 7)[..., None] * np.ones(channels)
    return np.clip(smooth + random.normal(0, 20, smooth.shape), 0, 255).astype(np.uint8)


@pytest.fixture(autouse=True)
def same_chance() -> None:
    """Fresh networks of a few channels may be dead by chance: let chance be the same at every run."""
    torch.manual_seed(0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three small noisy images, one of them grayscale, one of them 16-bit grayscale."""
    folder = tmp_path / "photos"
    write_image(Image(noisy_pixels(0)), folder / "a.png")
    write_image(Image(noisy_pixels(1, 61, 47, channels=1)), folder / "b.png")
    write_image(Image(noisy_pixels(2, channels=1).astype(np.uint16) * 257), folder / "c.png")
    return folder


@pytest.fixture
def config(photos: Path, tmp_path: Path) -> CBSNConfig:
    """Ten steps of a very small network."""
    return CBSNConfig(
        network="cbsn-6x1",
        data=str(photos),
        out=str(tmp_path / "run"),
        steps=10,
        patch=20,
        blind_stride=5,
        data_check="off",  # three small images are too few to be judged; loop/test_preparation.py tests the check
        checkpoint_every=3,
        preview_every=4,
        log_every=2,
        device="cpu",
        precision="fp32",  # `auto` times it: two runs of one machine might choose differently
    )


@pytest.fixture(scope="session")
def reference() -> dict[str, NDArray[np.generic]]:
    """Numbers that the C-BSN authors' code computed; see fixtures/README.md."""
    with np.load(Path(__file__).parent / "fixtures" / "cbsn_8x2.npz") as stored:
        return dict(stored)
