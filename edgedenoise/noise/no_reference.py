"""Measure a denoised image without its ground truth: the noise that is left, and the detail that was kept.

The two belong together. A strong blur leaves no noise and keeps no detail; the input itself keeps everything. Both are
measured in blocks that are chosen in the noisy image, so the results of several denoisers are compared at the same
places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedenoise.errors import ImageError
from edgedenoise.imaging.image import to_unit
from edgedenoise.imaging.metrics import luma
from edgedenoise.noise.blocks import (
    BLOCK_PX,
    COARSE_PX,
    FEWEST_FLAT,
    as_blocks,
    coarse_activity,
    find_flat,
    without_plane,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgedenoise.noise.blocks import Float

_DETAILED_SHARE = 0.2  # the fifth of the blocks with the strongest coarse structure
_CLIPPED_SHARE = 0.05
_LEAST_SIGNAL = 0.1  # detail whose energy is less than a tenth of the noise's is not measured


@dataclass(frozen=True)
class NoReferenceQuality:
    """Result of `Places.measure`."""

    residual_noise_lsb: float
    """Noise left in flat blocks: standard deviation around a plane, in 8-bit levels, over all channels."""
    detail_kept: float | None
    """Share of fine detail that was kept in busy blocks: 1 when all of it was, 0 when none was, and above 1 when it was
    amplified. None where the image has too little detail above its noise."""


class Places:
    """The flat and the busy blocks of a noisy image.

    Args:
        noisy: (H, W), (H, W, 1) or (H, W, 3), uint8, uint16 or float in [0, 1].

    Raises:
        ImageError: the array is not an image, or smaller than 16 x 16.

    Example:
        >>> import numpy as np
        >>> noise = np.random.default_rng(0).normal(128, 10, (256, 256, 3))
        >>> noisy = noise.round().astype(np.uint8)
        >>> 9 < Places(noisy).measure(noisy).residual_noise_lsb < 11
        True
    """

    def __init__(self, noisy: NDArray[Any]) -> None:
        levels = _levels(noisy)
        self._shape = levels.shape
        gray = as_blocks(_gray(levels))
        clipped = np.mean((gray <= 0.5) | (gray >= 254.5), axis=(1, 2)) > _CLIPPED_SHARE
        self._used = np.flatnonzero(~clipped) if (~clipped).sum() >= FEWEST_FLAT else np.arange(len(gray))
        gray = gray[self._used]
        activity = coarse_activity(gray)
        brightness = gray.mean(axis=(1, 2))
        self._flat, bins = find_flat(activity, brightness)
        busiest = max(1, round(_DETAILED_SHARE * len(gray)))
        self._busy = np.setdiff1d(np.argsort(activity, kind="stable")[-busiest:], np.flatnonzero(self._flat))
        self._fine = _fine(gray)
        self._noise = _Curve(self._flat, bins, brightness)

    def measure(self, denoised: NDArray[Any]) -> NoReferenceQuality:
        """Measure a denoised image.

        Detail is the share of the input's fine structure that is in the result: the covariance of both over the
        variance of the input, each without the part that noise has in it, which is measured in flat blocks of the same
        brightness. For a linear filter the share is right within 0.06: texture in the flattest blocks counts as noise,
        so strong blurs are rated up to 0.04 too low in the tests. A denoiser that leaves more noise in busy areas than
        in flat ones is rated high: the shipped `edge` keeps 0.86 and is rated 1.05 on Kodak images with camera noise of
        20 dB;
        at 32 dB it keeps 0.97 and is rated 1.01 (benchmarks/no_reference.py).

        Args:
            denoised: as large as the noisy image.

        Raises:
            ImageError: the sizes differ.
        """
        levels = _levels(denoised)
        if levels.shape != self._shape:
            raise ImageError(
                f"the images differ in size: expected {self._shape[:2]} as the noisy one, got {levels.shape[:2]}"
            )
        flat = self._used[self._flat]
        variances = [
            np.sum(without_plane(as_blocks(levels[..., channel])[flat]) ** 2, axis=(1, 2)) / (BLOCK_PX**2 - 3)
            for channel in range(levels.shape[2])
        ]
        residual = float(np.sqrt(np.mean([np.median(variance) for variance in variances])))
        return NoReferenceQuality(residual, self._detail_kept(_fine(as_blocks(_gray(levels))[self._used])))

    def true_detail_kept(self, denoised: NDArray[Any], clean: NDArray[Any]) -> float:
        """Return the share of fine detail that was kept, where the clean image is known: to check the estimate.

        Args:
            denoised: as large as the noisy image.
            clean: the same without noise.
        """
        mine, true = (_fine(as_blocks(_gray(_levels(image)))[self._used])[self._busy] for image in (denoised, clean))
        return float(np.sum(mine * true, dtype=np.float64) / np.sum(true * true, dtype=np.float64))

    def _detail_kept(self, fine: Float) -> float | None:
        if not len(self._busy):
            return None
        given, common = _mean_products(self._fine, self._fine), _mean_products(self._fine, fine)
        noise, common_noise = self._noise.through(given), self._noise.through(common)
        signal = float(np.sum(given[self._busy] - noise[self._busy]))
        if signal <= _LEAST_SIGNAL * float(np.sum(noise[self._busy])) or signal <= 0:
            return None
        return float(np.sum(common[self._busy] - common_noise[self._busy])) / signal


def _mean_products(a: Float, b: Float) -> NDArray[np.float64]:
    """Return the mean of a x b of each block, (N,)."""
    sums: NDArray[np.float64] = np.einsum("nyx,nyx->n", a, b, dtype=np.float64)
    return sums / (BLOCK_PX * BLOCK_PX)


def _levels(pixels: NDArray[Any]) -> Float:
    levels = to_unit(pixels) * np.float32(255)
    height, width = levels.shape[:2]
    if min(height, width) < BLOCK_PX:
        raise ImageError(
            f"the image is too small: expected at least {BLOCK_PX} x {BLOCK_PX} pixels, got {height} x {width}"
        )
    return levels


def _gray(levels: Float) -> Float:
    return luma(levels).astype(np.float32)


def _fine(blocks: Float) -> Float:
    """Return (N, 16, 16) blocks without the means of their cells of 4x4 pixels."""
    cells = BLOCK_PX // COARSE_PX
    split = blocks.reshape(-1, cells, COARSE_PX, cells, COARSE_PX)
    return np.asarray((split - split.mean(axis=(2, 4), keepdims=True)).reshape(blocks.shape), np.float32)


class _Curve:
    """A value by brightness, known from the flat blocks of each brightness bin and interpolated between them."""

    def __init__(self, flat: NDArray[np.bool_], bins: NDArray[np.intp], brightness: Float) -> None:
        members = [np.flatnonzero(flat & (bins == bin_)) for bin_ in np.unique(bins[flat])]
        centres = np.array([float(brightness[blocks].mean()) for blocks in members])
        order = np.argsort(centres)
        self._members = [members[at] for at in order]
        self._centres = centres[order]
        self._brightness = brightness

    def through(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the value expected for every block, (N,), from the mean of the flat blocks of its brightness."""
        means = [float(values[blocks].mean()) for blocks in self._members]
        return np.asarray(np.interp(self._brightness, self._centres, means), np.float64)
