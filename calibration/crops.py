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
from edgedenoise.noise.level import level_plane
from edgedenoise.noise.synthesis import add_camera_noise, sample_noise
from edgedenoise.runtimes import pipeline
from edgedenoise.runtimes.noise_plane import noise_of, with_plane

if TYPE_CHECKING:
    from numpy.typing import NDArray

SURROUNDINGS_PX = 192
"""With a crop of 128 pixels and its margin, the noise is estimated on some 550 x 550 pixels."""


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
    strength: float | None = None
    """Strength that the noise level is multiplied by, for networks that take it; None for 1."""
    draw: int | None = None
    """Number of the random draw of that noise; None stands for the crop's position in the set."""
    measured: Measures | None = None
    """What the crop was chosen by; None where crops were not stratified."""
    pixels_sha256: str = ""
    """SHA-256 of the image's decoded pixels, the same in every file format; empty in sets of earlier versions."""


@dataclass(frozen=True)
class Window:
    """The stored pixels of a crop with its margin, and what is known of its whole image."""

    pixels: NDArray[Any]
    """(h, w, C), as the image file stores them: a quarter of the memory of float32."""
    stats: Statistics
    sigma: NDArray[np.float32] | None = None
    """(h, w), noise of the crop, estimated on its whole image; None for networks that do not take the noise level."""
    surroundings_px: int = 0
    """Width of the border around the margin that only the noise is estimated on. It is there where noise is added to a
    clean crop, because the noise of the whole image is then unknown."""

    def in_unit(self) -> Window:
        """Return the crop with its margin for a network that takes pixels in [0, 1] and no noise level."""
        around = self.surroundings_px
        inner = self.pixels[around : self.pixels.shape[0] - around, around : self.pixels.shape[1] - around]
        return Window(inner, stored_statistics(inner, UNIT))


class CropSource:
    """An image that crops are cut from, with what is computed once for the whole image."""

    def __init__(self, pixels: NDArray[Any], normalization: Normalization, tiling: Tiling, crop_px: int) -> None:
        """Compute the statistics of an image.

        Args:
            pixels: the whole image, (H, W, C), as it is stored.
            normalization: the normalization of the network's input.
            tiling: halo and grid of the network.
            crop_px: side of a crop; an image that is smaller is taken whole.
        """
        self._pixels, self._tiling, self._crop_px = pixels, tiling, crop_px
        self._stats = stored_statistics(pixels, normalization)
        self._sigma: NDArray[np.float32] | None = None

    def window(self, crop: CalibrationCrop, *, takes_level: bool) -> Window:
        """Return a crop with its margin; with the noise of the image for a network that takes the noise level."""
        if not takes_level:
            return Window(window_of(self._pixels, crop, self._crop_px, self._tiling), self._stats)
        if crop.noise_level is not None:
            around = window_of(self._pixels, crop, self._crop_px, self._tiling, SURROUNDINGS_PX)
            return Window(around, self._stats, surroundings_px=SURROUNDINGS_PX)
        if self._sigma is None:
            self._sigma = noise_of(to_unit(self._pixels)).sigma
        cut, sigma = (window_of(values, crop, self._crop_px, self._tiling) for values in (self._pixels, self._sigma))
        return Window(cut, self._stats, sigma)


def window_of(
    pixels: NDArray[Any], crop: CalibrationCrop, crop_px: int, tiling: Tiling, surroundings_px: int = 0
) -> NDArray[Any]:
    """Return a crop with its margin, mirrored at the borders of the image.

    Args:
        pixels: the whole image, (H, W, C) or (H, W).
        crop: the place.
        crop_px: side of the crop; an image that is smaller is taken whole.
        tiling: the margin, and what sides and positions must be divisible by.
        surroundings_px: width of a border around the margin.
    """
    margin, step = tiling.margin_px + surroundings_px, tiling.multiple_of
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
    """Return what the network is given for a crop, (1, C, h, w), and the statistics of the image.

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
    sigma = window.sigma
    if window.surroundings_px:
        inner = slice(window.surroundings_px, -window.surroundings_px)
        sigma = noise_of(planes.transpose(1, 2, 0)).sigma[inner, inner]
        planes = planes[:, inner, inner]
    if sigma is not None:
        strength = 1.0 if crop.strength is None else crop.strength
        planes = with_plane(planes, level_plane(sigma * np.float32(strength)))
    return pipeline.network_input(planes, window.stats)[None], window.stats


def stored_statistics(pixels: NDArray[Any], normalization: Normalization) -> Statistics:
    """Return the statistics of stored pixels, (H, W, C), without making floats of all of them."""
    white = np.iinfo(pixels.dtype).max if np.issubdtype(pixels.dtype, np.integer) else 1
    return statistics(np.broadcast_to(pixels, (*pixels.shape[:2], 3)).transpose(2, 0, 1), normalization, white=white)


def _with_noise(planes: NDArray[np.float32], level: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return (3, h, w) in [0, 1] with the noise of a random camera at a level."""
    noisy = add_camera_noise(planes.transpose(1, 2, 0), sample_noise(rng, level=level), rng)
    return np.ascontiguousarray(noisy.transpose(2, 0, 1))
