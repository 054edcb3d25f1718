"""Noise as a camera's own denoising leaves it (numpy only).

Cameras denoise before they write a JPEG: they smooth colour more than brightness, and texture less than smooth places.
What is left has few high frequencies and is stronger in texture. On PolyU's files the noise of neighbouring pixels has
a correlation of 0.6 to 0.7, and it is twice as strong in texture as in smooth places (`docs/results/noise-level.md`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgedenoise.noise.cameras import InCameraDenoising

    Float = NDArray[np.float32]

TEXTURE_PX: Final = 2.0
"""Standard deviation in pixels of the Gaussians that separate texture from its surroundings and average it."""


def denoised_in_camera(noise: Float, clean: Float, denoising: InCameraDenoising) -> Float:
    """Return what a camera's denoising leaves of the noise.

    Args:
        noise: (H, W, 3), encoded as the image is.
        clean: the image without noise (H, W, 3) in [0, 1].
        denoising: widths of the smoothing, and the texture that is spared.

    Returns:
        (H, W, 3); `noise` itself, up to rounding, where both widths are 0.
    """
    brightness = clean.mean(axis=2)
    texture = blurred(np.square(brightness - blurred(brightness, TEXTURE_PX)), TEXTURE_PX)
    energy = np.float32(denoising.texture**2 * float(np.square(noise.mean(axis=2)).mean()) + 1e-12)
    kept = (texture / (texture + energy))[..., None]
    gray = noise.mean(axis=2, keepdims=True)
    smooth = blurred(gray, denoising.gray_px) + blurred(noise - gray, denoising.colour_px)
    return np.asarray(smooth + kept * (noise - smooth), np.float32)


def blurred(values: Float, sigma_px: float) -> Float:
    """Return (H, W, ...) filtered along both axes by a Gaussian; edges are repeated."""
    if not sigma_px:
        return values
    radius = math.ceil(3 * sigma_px)
    weights = np.exp(-np.square(np.arange(-radius, radius + 1) / sigma_px) / 2)
    weights = (weights / weights.sum()).astype(np.float32)
    for axis in (0, 1):
        size = values.shape[axis]
        padded = np.pad(values, [(radius, radius) if axis == at else (0, 0) for at in range(values.ndim)], mode="edge")
        parts = (
            padded[step : step + size] if axis == 0 else padded[:, step : step + size] for step in range(2 * radius + 1)
        )
        values = np.asarray(sum(weight * part for weight, part in zip(weights, parts, strict=True)), np.float32)
    return values
