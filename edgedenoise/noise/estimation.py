"""Estimates of the level and the spatial correlation of noise, from one image (numpy only).

The usual estimators read the finest wavelet band, where camera noise has little energy: demosaicking and smoothing in
the camera have moved it to lower frequencies. Here, noise is the residual of flat blocks after a plane is subtracted.
Flatness is measured at a coarser scale than noise, so that selecting the flattest blocks does not select the least
noisy ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedenoise.errors import ImageError
from edgedenoise.imaging.image import to_unit
from edgedenoise.noise.blocks import BINS, BLOCK_PX, FEWEST_FLAT, as_blocks, coarse_activity, find_flat, without_plane

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float = NDArray[np.float32]

LAGS = 8
"""Largest distance in pixels for which the autocorrelation is measured."""
_CLIPPED_SHARE = 0.05  # blocks with more pixels at black or white are left out
_FLOOR_SHARE = 0.02
_RISE_BLOCKS = 40  # a bin with fewer does not separate flat blocks from busy ones


@dataclass(frozen=True, eq=False)
class NoiseEstimate:
    """Result of `estimate_noise`; levels are 8-bit levels, 0 to 255, whatever the depth of the image."""

    sigma_levels: NDArray[np.float64]
    """(3,): root mean square of the noise per channel over the whole image."""
    brightness_levels: NDArray[np.float64]
    """(16,): centres of the brightness bins."""
    sigma_by_brightness: NDArray[np.float64]
    """(16, 3): noise per bin and channel; NaN where the image has too few flat blocks."""
    autocorrelation: NDArray[np.float64]
    """(8,): correlation of the noise with itself at 1 to 8 pixels, over rows, columns and channels."""
    flat_blocks: int
    """Number of blocks in the estimate, all channels together; below about 50 it is unreliable."""
    clipped_share: float
    """Share of samples at black or white, 0 to 1."""
    floor_levels: float
    """Noise of the quietest fiftieth of the blocks, mean over channels; texture affects it least."""
    texture_rise: float
    """Natural logarithm of the variance of the busier half of the blocks over that of the flattest of equal brightness:
    about 0 where noise exceeds texture, above 1 where texture dominates."""
    channel_autocorrelation: NDArray[np.float64]
    """(3, 8): as `autocorrelation`, by channel, over the blocks that are flat in the *other* channels. Unless the
    channels are copies, this selection does not bias the estimate."""
    independence: float
    """Contrast of neighbouring pixels over that of pixels 3 apart, both in checker patterns, which depend little on the
    scene: 1 for independent noise, less for smoother noise."""

    @property
    def sigma(self) -> float:
        """Root mean square noise over all channels, in 8-bit levels."""
        return float(np.sqrt(np.mean(self.sigma_levels**2)))


def estimate_noise(pixels: NDArray[Any]) -> NoiseEstimate:
    """Estimate noise per brightness and its spatial correlation from one image.

    Independent noise is estimated within 5 %. Camera noise is estimated somewhat low (0.8 to 0.9 of the truth at the
    median of real images): variation slower than a block of 16 pixels counts as image, and the flattest blocks are a
    little less noisy than the others. Texture that fills an image (grass, film grain) counts as noise: below about 5
    levels the estimate may be twice the truth.

    Args:
        pixels: (H, W), (H, W, 1) or (H, W, 3), uint8, uint16 or float in [0, 1]; cropped, never resized.

    Returns:
        Noise level, correlation, and how reliable they are.

    Raises:
        ImageError: the array is not an image, or smaller than 16 x 16.

    Example:
        >>> import numpy as np
        >>> noise = np.random.default_rng(0).normal(128, 10, (256, 256, 3))
        >>> 9 < estimate_noise(noise.round().astype(np.uint8)).sigma < 11
        True
    """
    levels = to_unit(pixels) * np.float32(255)
    height, width = levels.shape[:2]
    if min(height, width) < BLOCK_PX:
        raise ImageError(
            f"the image is too small: expected at least {BLOCK_PX} x {BLOCK_PX} pixels, got {height} x {width}"
        )
    centres = (np.arange(BINS) + 0.5) * 256 / BINS
    by_brightness = np.full((BINS, 3), np.nan)
    sigma = np.zeros(3)
    products, flat_blocks = np.zeros(LAGS + 1), 0
    floors: list[float] = []
    rises: list[tuple[float, int]] = []
    checkers, by_channel = np.zeros(2), np.zeros((3, LAGS + 1))
    everywhere = np.stack([coarse_activity(as_blocks(levels[..., channel])) for channel in range(3)])
    for channel in range(3):
        blocks, others = as_blocks(levels[..., channel]), everywhere.sum(axis=0) - everywhere[channel]
        activity = everywhere[channel]
        clipped = ((blocks <= 0.5) | (blocks >= 254.5)).mean(axis=(1, 2))
        if (clipped <= _CLIPPED_SHARE).sum() >= FEWEST_FLAT:
            unclipped = clipped <= _CLIPPED_SHARE
            blocks, activity, others = blocks[unclipped], activity[unclipped], others[unclipped]
        brightness = blocks.mean(axis=(1, 2))
        residual = without_plane(blocks)
        variance = (residual**2).sum(axis=(1, 2)) / (BLOCK_PX**2 - 3)  # a plane takes three degrees of freedom
        flat, bins = find_flat(activity, brightness)
        for bin_ in np.unique(bins[flat]):
            by_brightness[bin_, channel] = np.sqrt(np.median(variance[flat & (bins == bin_)]))
        known = np.isfinite(by_brightness[:, channel])
        curve = np.interp(brightness, centres[known], by_brightness[known, channel])
        sigma[channel] = np.sqrt(np.mean(curve**2))
        even = residual / np.sqrt(np.maximum(variance, 1e-12))[:, None, None]
        products += _lag_products(even[flat])
        by_channel[channel] = _lag_products(even[find_flat(others, brightness)[0]])
        checkers += [_checker(even[flat], 1), _checker(even[flat], 3)]
        flat_blocks += int(flat.sum())
        floors.append(float(np.sqrt(np.quantile(variance, _FLOOR_SHARE))))
        rises += _texture_rises(activity, variance, bins)
    correlation = products[1:] / products[0] if products[0] > 0 else np.zeros(LAGS)
    extremes = float(((levels <= 0) | (levels >= 255)).mean())
    known_channels = np.maximum(by_channel[:, :1], 1e-12)
    independence = float(checkers[0] / checkers[1]) if checkers[1] > 0 else 1.0
    rise, weight = np.array(rises or [(0.0, 1)]).T
    return NoiseEstimate(
        sigma,
        centres,
        by_brightness,
        correlation,
        flat_blocks,
        extremes,
        floor_levels=float(np.mean(floors)),
        texture_rise=float(np.average(rise, weights=weight)),
        channel_autocorrelation=by_channel[:, 1:] / known_channels,
        independence=independence,
    )


def autocorrelation(noise: NDArray[Any]) -> NDArray[np.float64]:
    """Return the correlation of known noise with itself at distances of 1 to 8 pixels.

    It is the counterpart of `NoiseEstimate.autocorrelation` where the truth is known. Both are measured in the same
    blocks, so that variation slower than a block counts as image in both.

    Args:
        noise: (H, W, C) floats, noisy minus clean, at least 16 x 16.

    Returns:
        (8,), one correlation per distance.

    Raises:
        ImageError: the array has another shape.
    """
    if noise.ndim != 3 or min(noise.shape[:2]) < BLOCK_PX:
        raise ImageError(
            f"the noise has the wrong shape: expected (H, W, C), at least {BLOCK_PX} x {BLOCK_PX}, got {noise.shape}"
        )
    products = np.zeros(LAGS + 1)
    for channel in range(noise.shape[2]):
        products += _lag_products(without_plane(as_blocks(noise[..., channel].astype(np.float32))))
    return products[1:] / products[0] if products[0] > 0 else np.zeros(LAGS)


def _texture_rises(activity: Float, variance: Float, bins: NDArray[np.intp]) -> list[tuple[float, int]]:
    """Return (rise, blocks) of every brightness bin with enough blocks, without the darkest and the brightest."""
    rises = []
    for bin_ in range(1, BINS - 1):
        members = np.flatnonzero(bins == bin_)
        count = len(members)
        if count < _RISE_BLOCKS:
            continue
        ordered = variance[members[np.argsort(activity[members], kind="stable")]] + 0.1  # tenth: rounding's variance
        flattest, busier = ordered[: max(4, count // 25)], ordered[count // 8 : count // 2]
        rises.append((float(np.log(np.median(busier) / np.median(flattest))), count))
    return rises


def _checker(residual: Float, step: int) -> float:
    """Return the mean squared contrast of (N, S, S) in 2 x 2 checker patterns of pixels `step` apart."""
    across = residual[:, :, step:] - residual[:, :, :-step]
    return float(np.mean((across[:, step:] - across[:, :-step]) ** 2, dtype=np.float64))


def _lag_products(residual: Float) -> NDArray[np.float64]:
    """Return the mean product of (N, S, S) with itself at distances 0 to 8, over rows and columns."""
    out = np.empty(LAGS + 1)
    for lag in range(LAGS + 1):
        end = residual.shape[1] - lag
        across = np.mean(residual[:, :, :end] * residual[:, :, lag:], dtype=np.float64)
        down = np.mean(residual[:, :end] * residual[:, lag:], dtype=np.float64)
        out[lag] = (across + down) / 2
    return out
