"""One crop of a calibration set: where it lies, and what the network is given for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgedenoise.calibration.strata import Measures
from edgedenoise.imaging.image import to_unit
from edgedenoise.imaging.normalize import UNIT, Normalization, Statistics, statistics
from edgedenoise.imaging.tiling import Tiling, reflected
from edgedenoise.noise.synthesis import add_camera_noise, sample_noise

if TYPE_CHECKING:
    from numpy.typing import NDArray


class CalibrationCrop(msgspec.Struct, frozen=True, omit_defaults=True, rename={"image": "photo"}):
    """A crop: its place in an image."""

    image: str
    """File name of the image, without folders."""
    sha256: str
    """SHA-256 of the image file."""
    y: int
    x: int
    noise_level: float | None = None
    """Level of the added synthetic camera noise, 0 to 1.25 (see `edgedenoise.noise.synthesis`); None for none."""
    draw: int | None = None
    """Number of the random draw of that noise; None stands for the crop's position in the set."""
    measured: Measures | None = None
    """What the crop was chosen by; None where crops were not stratified."""
    pixels_sha256: str = ""
    """SHA-256 of the image's decoded pixels, the same in every file format; empty in sets of earlier versions."""


@dataclass(frozen=True)
class Window:
    """The stored pixels of a crop with its margin, and the statistics of its whole image."""

    pixels: NDArray[Any]
    """(h, w, C), as the image file stores them: a quarter of the memory of float32."""
    stats: Statistics

    def in_unit(self) -> Window:
        """Return the window for a network that takes pixels in [0, 1]."""
        return Window(self.pixels, stored_statistics(self.pixels, UNIT))


def window_of(pixels: NDArray[Any], crop: CalibrationCrop, crop_px: int, tiling: Tiling) -> NDArray[Any]:
    """Return a crop with its margin, mirrored at the borders of the image.

    Args:
        pixels: the whole image, (H, W, C).
        crop: the place.
        crop_px: side of the crop; an image that is smaller is taken whole.
        tiling: the margin, and what sides and positions must be divisible by.
    """
    margin, step = tiling.margin_px, tiling.multiple_of
    height, width = pixels.shape[:2]
    y, x = crop.y // step * step, crop.x // step * step
    tall = -(-min(crop_px, height - y) // step) * step
    wide = -(-min(crop_px, width - x) // step) * step
    rows = reflected(y - margin, y + tall + margin, height)
    columns = reflected(x - margin, x + wide + margin, width)
    return np.asarray(pixels[rows[:, None], columns[None, :]])


def network_input(
    window: Window, crop: CalibrationCrop, seed: int, index: int
) -> tuple[NDArray[np.float32], Statistics]:
    """Return what the network is given for a crop, (1, 3, h, w), and the statistics of the image.

    Args:
        window: the crop with its margin.
        crop: its noise level and draw.
        seed: the seed of the set.
        index: the position of the crop in the set.
    """
    planes = np.ascontiguousarray(to_unit(window.pixels).transpose(2, 0, 1))
    if crop.noise_level is not None:
        draw = index if crop.draw is None else crop.draw
        planes = _with_noise(planes, crop.noise_level, np.random.default_rng([seed, draw]))
    return window.stats.apply(planes)[None], window.stats


def stored_statistics(pixels: NDArray[Any], normalization: Normalization) -> Statistics:
    """Return the statistics of stored pixels, (H, W, C), without making floats of all of them."""
    white = np.iinfo(pixels.dtype).max if np.issubdtype(pixels.dtype, np.integer) else 1
    return statistics(np.broadcast_to(pixels, (*pixels.shape[:2], 3)).transpose(2, 0, 1), normalization, white=white)


def _with_noise(planes: NDArray[np.float32], level: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return (3, h, w) in [0, 1] with the noise of a random camera at a level."""
    noisy = add_camera_noise(planes.transpose(1, 2, 0), sample_noise(rng, level=level), rng)
    return np.ascontiguousarray(noisy.transpose(2, 0, 1))
