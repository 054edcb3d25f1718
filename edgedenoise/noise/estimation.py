"""How noisy an image is, and how far its noise reaches, told from that image alone (numpy only).

The usual estimators read the finest wavelet band, where a camera's noise has hardly any energy: demosaicking
and the camera's own smoothing have moved it to lower frequencies. Here noise is what is left in flat blocks
after a plane is taken away, and flatness is judged at a coarser scale than the noise is measured at, so that
choosing the flattest blocks does not choose the least noisy ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedenoise.errors import ImageError
from edgedenoise.imaging.image import to_unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float = NDArray[np.float32]

BLOCK_PX = 16
"""Side of a block, and the smallest side of an image that can be judged."""
LAGS = 8
"""Autocorrelation is told for distances of 1 to this many pixels."""
_COARSE_PX = 4  # flatness is judged on means of this many pixels squared
_BINS = 16
_FLAT_SHARE = 0.05  # the flattest twentieth: measured on images, more of them brings texture in
_FEWEST_FLAT = 6
_CLIPPED_SHARE = 0.05  # blocks with more pixels at black or white than this say little about noise
_FLOOR_SHARE = 0.02
_RISE_BLOCKS = 40  # a bin with fewer does not tell flat blocks from busy ones


@dataclass(frozen=True, eq=False)
class NoiseEstimate:
    """What `estimate_noise` found; levels are 8-bit levels, 0 to 255, whatever the image's depth."""

    sigma_levels: NDArray[np.float64]
    """(3,): root mean square noise per channel over the whole image."""
    brightness_levels: NDArray[np.float64]
    """(16,): centres of the brightness bins."""
    sigma_by_brightness: NDArray[np.float64]
    """(16, 3): noise per bin and channel; NaN where the image has too few flat blocks."""
    autocorrelation: NDArray[np.float64]
    """(8,): correlation of the noise with itself 1 to 8 pixels away, over rows, columns and channels."""
    flat_blocks: int
    """How many blocks the estimate rests on, all channels together; below some 50 it is a guess."""
    clipped_share: float
    """Share of samples at black or white, 0 to 1."""
    floor_levels: float
    """Noise of the quietest fiftieth of the blocks, mean over channels: where texture has least to say."""
    texture_rise: float
    """How much more the busier half of the blocks varies than the flattest of equal brightness, natural logarithm
    of the variances: about 0 where noise drowns texture, above 1 where texture is most of what is seen."""
    channel_autocorrelation: NDArray[np.float64]
    """(3, 8): as `autocorrelation`, by channel, over the blocks that the *other* channels call flat: where those
    are not a copy, choosing the blocks does not lower what is measured in them, and it reads as the truth does."""
    independence: float
    """Contrast of neighbouring pixels over that of pixels 3 apart, both in checker patterns, which hardly see the
    scene: 1 for independent noise, less the smoother it is."""

    @property
    def sigma(self) -> float:
        """Root mean square noise over all channels, in 8-bit levels."""
        return float(np.sqrt(np.mean(self.sigma_levels**2)))


def estimate_noise(pixels: NDArray[Any]) -> NoiseEstimate:
    """Estimate noise per brightness and its spatial correlation from one image.

    Independent noise is read within 5 %. A camera's reads somewhat low (0.8 to 0.9 of the truth at the median
    of real images): what is slower than a block of 16 pixels counts as image, and the flattest blocks
    are a little less noisy than the others. Texture that fills an image (grass, film grain) counts as
    noise: below some 5 levels the estimate may be twice the truth.

    Args:
        pixels: (H, W), (H, W, 1) or (H, W, 3), uint8, uint16 or float in [0, 1]; cropped, never resized.

    Raises:
        ImageError: it is not an image, or smaller than 16 x 16.
    """
    levels = to_unit(pixels) * np.float32(255)
    height, width = levels.shape[:2]
    if min(height, width) < BLOCK_PX:
        raise ImageError(f"an image of {height} x {width} pixels was given; accepted: at least {BLOCK_PX} x {BLOCK_PX}")
    centres = (np.arange(_BINS) + 0.5) * 256 / _BINS
    by_brightness = np.full((_BINS, 3), np.nan)
    sigma = np.zeros(3)
    products, flat_blocks = np.zeros(LAGS + 1), 0
    floors: list[float] = []
    rises: list[tuple[float, int]] = []
    checkers, by_channel = np.zeros(2), np.zeros((3, LAGS + 1))
    everywhere = np.stack([_activity(_blocks(levels[..., channel])) for channel in range(3)])
    for channel in range(3):
        blocks, others = _blocks(levels[..., channel]), everywhere.sum(axis=0) - everywhere[channel]
        activity = everywhere[channel]
        clipped = ((blocks <= 0.5) | (blocks >= 254.5)).mean(axis=(1, 2))
        if (clipped <= _CLIPPED_SHARE).sum() >= _FEWEST_FLAT:
            unclipped = clipped <= _CLIPPED_SHARE
            blocks, activity, others = blocks[unclipped], activity[unclipped], others[unclipped]
        brightness = blocks.mean(axis=(1, 2))
        residual = _without_plane(blocks)
        variance = (residual**2).sum(axis=(1, 2)) / (BLOCK_PX**2 - 3)  # a plane takes three degrees of freedom
        flat, bins = _flat_blocks(activity, brightness)
        for bin_ in np.unique(bins[flat]):
            by_brightness[bin_, channel] = np.sqrt(np.median(variance[flat & (bins == bin_)]))
        known = np.isfinite(by_brightness[:, channel])
        curve = np.interp(brightness, centres[known], by_brightness[known, channel])
        sigma[channel] = np.sqrt(np.mean(curve**2))
        even = residual / np.sqrt(np.maximum(variance, 1e-12))[:, None, None]
        products += _lag_products(even[flat])
        by_channel[channel] = _lag_products(even[_flat_blocks(others, brightness)[0]])
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
    """Return the correlation of known noise with itself at distances of 1 to 8 pixels, (8,).

    The counterpart of `NoiseEstimate.autocorrelation` where the truth is known: it is measured in the same
    blocks, so that what is slower than a block counts as image in both.

    Args:
        noise: (H, W, C) floats, noisy minus clean, at least 16 x 16.

    Raises:
        ImageError: another shape.
    """
    if noise.ndim != 3 or min(noise.shape[:2]) < BLOCK_PX:
        raise ImageError(f"noise must be (H, W, C) and at least {BLOCK_PX} x {BLOCK_PX}, not {noise.shape}")
    products = np.zeros(LAGS + 1)
    for channel in range(noise.shape[2]):
        products += _lag_products(_without_plane(_blocks(noise[..., channel].astype(np.float32))))
    return products[1:] / products[0] if products[0] > 0 else np.zeros(LAGS)


def _blocks(plane: Float) -> Float:
    """Cut (H, W) into (N, 16, 16), leaving the last rows and columns out."""
    rows, columns = plane.shape[0] // BLOCK_PX, plane.shape[1] // BLOCK_PX
    cut = plane[: rows * BLOCK_PX, : columns * BLOCK_PX].reshape(rows, BLOCK_PX, columns, BLOCK_PX)
    return cut.swapaxes(1, 2).reshape(-1, BLOCK_PX, BLOCK_PX)


def _without_plane(blocks: Float) -> Float:
    """Take the plane that fits best away from each of (N, S, S) blocks."""
    side = blocks.shape[1]
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    ramp /= np.sqrt((ramp**2).sum() * side)  # of length 1 over a block
    down = np.einsum("nyx,y->n", blocks, ramp)[:, None, None] * ramp[:, None]
    across = np.einsum("nyx,x->n", blocks, ramp)[:, None, None] * ramp
    return np.asarray(blocks - blocks.mean(axis=(1, 2), keepdims=True) - down - across, np.float32)


def _activity(blocks: Float) -> Float:
    """Return the energy of each block's coarse structure, (N,): its means of 4 x 4 pixels without their plane."""
    cells = BLOCK_PX // _COARSE_PX
    coarse = blocks.reshape(-1, cells, _COARSE_PX, cells, _COARSE_PX).mean(axis=(2, 4))
    return np.asarray((_without_plane(coarse) ** 2).sum(axis=(1, 2)), np.float32)


def _flat_blocks(activity: Float, brightness: Float) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Choose the flattest blocks of every brightness bin by their coarse structure; return also the bins."""
    bins = np.clip(brightness * _BINS / 256, 0, _BINS - 1).astype(np.intp)
    flat = np.zeros(len(activity), bool)
    for bin_ in np.unique(bins):
        members = np.flatnonzero(bins == bin_)
        wanted = max(_FEWEST_FLAT, round(_FLAT_SHARE * len(members)))
        if len(members) >= _FEWEST_FLAT:
            flat[members[np.argsort(activity[members], kind="stable")[:wanted]]] = True
    if not flat.any():  # a small image: take what there is
        flat[np.argsort(activity, kind="stable")[:_FEWEST_FLAT]] = True
    return flat, bins


def _texture_rises(activity: Float, variance: Float, bins: NDArray[np.intp]) -> list[tuple[float, int]]:
    """Return (rise, blocks) of every brightness bin that has blocks enough, darkest and brightest left out."""
    rises = []
    for bin_ in range(1, _BINS - 1):
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
