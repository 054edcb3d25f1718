"""The noise level that some networks take as a fourth input channel.

The host computes the channel once for the whole image, before it is cut into tiles, so that tiled and whole outputs are
equal: it estimates the noise by brightness, multiplies it by the user's strength, and reads it for each pixel at the
local brightness. docs/reference/bundle-format.md describes the channel for hosts in other languages.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from edgedenoise.bundles.manifest import NoiseLevel
from edgedenoise.errors import IncompatibleError, UsageError
from edgedenoise.imaging.pixel_rows import BAND_ROWS
from edgedenoise.noise.level import PLANE_GAIN, Brightness, NoiseCurve, level_plane
from edgedenoise.noise.level_estimator import BlockMosaic, LevelEstimator

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

SHIPPED = NoiseLevel("edgedenoise-level", 1, PLANE_GAIN)
"""What a bundle records whose network takes the noise level."""
MAX_STRENGTH = 2.0
"""Largest strength of networks that take the noise level: they remove noise of up to twice the estimated level."""
LEAST_LSB = 1.0
"""Images with less estimated noise than this (RMS, in 8-bit levels) are returned unchanged."""
_LSB = 255.0


@dataclass(frozen=True, eq=False)
class ImageNoise:
    """The noise of one image. Its level is computed for the rows that are asked for: it is not held for every pixel."""

    height: int
    width: int
    curve: NoiseCurve
    """Standard deviation by brightness, with white as 1."""
    brightness: Brightness | None
    """Local brightness of the image; None where the user stated the noise, which then is the same everywhere."""
    top: int = 0
    """First row of a part of the image that `brightness` is of."""
    left: int = 0
    """First column of that part."""

    @property
    def is_estimated(self) -> bool:
        """Whether it was estimated; otherwise the user stated it."""
        return self.brightness is not None

    def sigma_of(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the standard deviation at each pixel of rows start..stop-1, (rows, W), with white as 1."""
        if self.brightness is None:
            return np.full((stop - start, self.width), self.curve.at(0), np.float32)
        rows = self.brightness.rows(self.top + start, self.top + stop)
        return self.curve.at(rows[:, self.left : self.left + self.width])

    def part(self, rows: slice, columns: slice) -> ImageNoise:
        """Return the noise of a part of the image, with the levels that its pixels have in the whole."""
        height, width = rows.stop - rows.start, columns.stop - columns.start
        return replace(self, height=height, width=width, top=self.top + rows.start, left=self.left + columns.start)

    @property
    def sigma(self) -> NDArray[np.float32]:
        """Standard deviation at each pixel, (H, W), with white as 1."""
        return self.sigma_of(0, self.height)

    @cached_property
    def rms_lsb(self) -> float:
        """Root mean square over the image, in 8-bit levels."""
        squares = (
            np.square(self.sigma_of(top, min(top + BAND_ROWS, self.height)), dtype=np.float64).sum()
            for top in range(0, self.height, BAND_ROWS)
        )
        return float(np.sqrt(sum(squares) / (self.height * self.width))) * _LSB

    @property
    def is_negligible(self) -> bool:
        """Whether the image is to be returned unchanged."""
        return self.rms_lsb < LEAST_LSB if self.is_estimated else self.rms_lsb == 0

    def plane_of(self, start: int, stop: int, strength: float = 1.0) -> NDArray[np.float32]:
        """Return the fourth input channel for rows start..stop-1, (rows, W) in [0, 1], for a strength."""
        return level_plane(self.sigma_of(start, stop) * np.float32(strength))

    def plane(self, strength: float = 1.0) -> NDArray[np.float32]:
        """Return the fourth input channel of the whole image, (H, W) in [0, 1], for a strength."""
        return self.plane_of(0, self.height, strength)


def noise_of(unit: NDArray[np.float32]) -> ImageNoise:
    """Estimate the noise of an image.

    Args:
        unit: (H, W, 3) in [0, 1], the whole image; grayscale as three equal channels.
    """
    return noise_of_rows([unit], unit.shape[0], unit.shape[1])


def noise_of_rows(bands: Iterable[NDArray[np.float32]], height: int, width: int) -> ImageNoise:
    """Estimate the noise of an image that is read by rows.

    Args:
        bands: (rows, W, 3) in [0, 1], from top to bottom; all but the last have a multiple of `BAND_ROWS` rows.
        height: rows of the image.
        width: columns of the image.
    """
    mosaic, brightness = BlockMosaic(height, width), Brightness(height, width)
    for band in bands:
        mosaic.add(band)
        brightness.add(band)
    return ImageNoise(height, width, LevelEstimator.shipped().curve(mosaic.unit), brightness)


def stated_noise(lsb: float, height: int, width: int) -> ImageNoise:
    """Return noise of one level everywhere, which the user stated in 8-bit levels."""
    return ImageNoise(height, width, NoiseCurve.constant(lsb / _LSB), None)


def with_plane(pixels: NDArray[np.float32], plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (3, H, W) pixels with the noise level as a fourth channel, (4, H, W)."""
    return np.concatenate([pixels, plane[None]])


def check_noise_level(level: NoiseLevel, source: object) -> None:
    """Check that this version computes the noise level that a bundle asks for.

    Raises:
        IncompatibleError: the bundle needs another estimator, a later version of it, or another gain.
    """
    if level.estimator != SHIPPED.estimator or level.version > SHIPPED.version or level.gain != SHIPPED.gain:
        raise IncompatibleError(
            f"{source} needs a noise level that this version does not compute: expected {SHIPPED.estimator} up to"
            f" version {SHIPPED.version} with gain {SHIPPED.gain:g}, got {level.estimator} {level.version} with"
            f" gain {level.gain:g}",
            hint="Upgrade with: pip install -U edgedenoise",
        )


def is_number(value: object) -> bool:
    """Return whether an option is a number of Python or NumPy."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_strength(strength: float, most: float = MAX_STRENGTH) -> None:
    """Check that a strength is in range.

    Raises:
        UsageError: it is not.
    """
    if not is_number(strength) or not 0 <= strength <= most:
        meaning = "the network's output" if most == 1 else "twice the estimated noise"
        raise UsageError(
            f"strength is {strength!r}; expected 0 (the input) to {most:g} ({meaning})",
            hint="Take 1, the default, to remove all noise, or 0.7 to keep some of it.",
        )
