"""Small images with camera noise, made up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgedenoise.imaging.files import write_image
from edgedenoise.imaging.image import Image, from_unit
from edgedenoise.noise.synthesis import add_camera_noise, parameters_for_psnr

if TYPE_CHECKING:
    from pathlib import Path


def write_noisy_images(folder: Path, count: int = 4, *, height: int = 160, width: int = 192) -> Path:
    """Write `0.png`, `1.png`, ... of smooth waves with noise of 22 dB; finding the gain takes a second for each."""
    y, x = np.mgrid[0:height, 0:width] / width
    for seed in range(count):
        rng = np.random.default_rng(seed)
        clean = 0.5 + 0.4 * np.sin(rng.uniform(3, 20, 3) * x[..., None] + rng.uniform(3, 20, 3) * y[..., None])
        noisy = add_camera_noise(clean, parameters_for_psnr(clean, 22, rng), rng)
        write_image(Image(from_unit(noisy, np.uint8)), folder / f"{seed}.png")
    return folder
