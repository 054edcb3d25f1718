"""Generated images, clean and with camera noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgedenoise.imaging.files import write_image
from edgedenoise.imaging.image import Image, from_unit
from edgedenoise.noise.synthesis import add_camera_noise, parameters_for_psnr

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

NOISE_DB = 22


def clean_image(seed: int, side_px: int = 256) -> NDArray[np.float64]:
    """Return an image (side, side, 3) in [0, 1]: soft colours with discs, bars and stripes on them."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side_px, 0:side_px] / side_px
    corners = rng.random((2, 2, 3))
    image = sum(
        (y if i else 1 - y)[..., None] * (x if j else 1 - x)[..., None] * corners[i, j] for i in (0, 1) for j in (0, 1)
    )
    for _ in range(12):
        cy, cx, radius = rng.random(3)
        disc = (y - cy) ** 2 + (x - cx) ** 2 < (0.02 + 0.15 * radius) ** 2
        image[disc] = rng.random(3) * (0.6 + 0.4 * np.sin(x[disc] * rng.integers(5, 80)))[:, None]
    return np.clip(image, 0, 1)


def noisy_pair(seed: int, side_px: int = 256) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a (noisy, clean) pair of uint8 images; finding the gain for the noise takes a second."""
    clean = clean_image(seed, side_px)
    return _noisy(clean, np.random.default_rng([1, seed])), _eight_bit(clean)


def write_pairs(noisy: Path, clean: Path, count: int, *, side_px: int = 160) -> None:
    """Write `0.png`, `1.png`, ... to two folders: noisy images and their ground truth."""
    for seed in range(count):
        for pixels, folder in zip(noisy_pair(seed, side_px), (noisy, clean), strict=True):
            write_image(Image(pixels), folder / f"{seed}.png")


def write_noisy_images(folder: Path, count: int = 4, *, height: int = 160, width: int = 192) -> Path:
    """Write `0.png`, `1.png`, ... of smooth waves with camera noise."""
    y, x = np.mgrid[0:height, 0:width] / width
    for seed in range(count):
        rng = np.random.default_rng(seed)
        clean = 0.5 + 0.4 * np.sin(rng.uniform(3, 20, 3) * x[..., None] + rng.uniform(3, 20, 3) * y[..., None])
        write_image(Image(_noisy(clean, rng)), folder / f"{seed}.png")
    return folder


def _noisy(clean: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.uint8]:
    return _eight_bit(add_camera_noise(clean, parameters_for_psnr(clean, NOISE_DB, rng), rng))


def _eight_bit(unit: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.asarray(from_unit(unit, np.uint8), np.uint8)
