"""Traces that a camera leaves in the noise of an image, and that resizing or filtering moves or removes.

A camera measures one colour per pixel of its mosaic and interpolates two, so the fine noise is stronger in every other
row and column. JPEG works in blocks of 8 pixels. Resampling weights the pixels with yet another period. Therefore fine
contrast is averaged over whole rows and columns, and the spectrum of these profiles is searched for lines: at 1/2 (a
mosaic), at the odd eighths (JPEG), and elsewhere (resampling). An image without the lines of a camera was altered.

Sources: Gallagher, 'Detection of linear and cubic interpolation in JPEG compressed images' (CRV 2005); Gallagher and
Chen, 'Image authentication by detecting traces of demosaicing' (CVPR workshops 2008). numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Float = NDArray[np.float64]

PERIODS = (720, 480, 240, 96)
"""Lengths of the searched profiles in pixels: 1/2, 1/3, 1/8 and 1/16 fall on whole bins of each."""
_STRIP_PX = 16
_SCENE_PX = 25  # slower variation along a profile is the scene
_LOWEST = 0.06  # cycles per pixel: below it, scenes have lines of their own
_GRID = 16  # JPEG's blocks of 8 pixels are 16 wide where colour is stored at half size
_NEAR_BINS = 3.2  # reach of a strong line; at most an 80th of the bins of a short profile
_WINDOW_BINS = 12  # a line is compared with the median of this many bins to either side


@dataclass(frozen=True)
class Traces:
    """Heights of spectral lines: logarithms of their power over that of their surroundings; chance is below 2."""

    mosaic: float
    """Height at 1/2 cycles per pixel: a colour mosaic was interpolated."""
    jpeg: float
    """Mean height at 1/8 and 3/8: JPEG blocks of 8 pixels. Halving an image leaves only lines at 1/4 and 1/2."""
    resampled: float
    """Largest height away from the sixteenths: the image was resampled, or shows a fine regular pattern."""
    resampled_period_px: float
    """Period of the line of `resampled`, in pixels."""


def profile_spectrum(crops: Sequence[NDArray[Any]]) -> Float | None:
    """Return the power spectrum of the fine contrast, mean over crops, channels, rows and columns.

    Args:
        crops: parts of one image, (H, W, 3) floats in 8-bit levels, all of one shape, at full resolution.

    Returns:
        (n / 2 + 1,), where n is the longest of `PERIODS` that fits both sides; None where none fits.
    """
    length = next((period for period in PERIODS if period <= min(crops[0].shape[:2])), None)
    if length is None:
        return None
    planes = [crop[..., channel] for crop in crops for channel in range(3)]
    spectra = [_spectrum(_ripple(way), length) for plane in planes for way in (plane, plane.T)]
    return np.asarray(np.mean(spectra, axis=0))


def find_traces(spectrum: Float) -> Traces:
    """Return the lines in a `profile_spectrum`, or in the mean of several of one length."""
    length = 2 * (len(spectrum) - 1)
    height = _over_surroundings(np.log(spectrum + 1e-12))
    frequency = np.arange(len(height)) / length
    off_grid = np.abs(frequency - np.round(frequency * _GRID) / _GRID) * length
    elsewhere = np.flatnonzero((frequency > _LOWEST) & (off_grid > min(_NEAR_BINS, length / 80)))
    highest = elsewhere[np.argmax(height[elsewhere])]

    def line(at: float) -> float:
        bin_ = round(at * length)
        return float(height[bin_ - 1 : bin_ + 2].max())

    return Traces(line(1 / 2), (line(1 / 8) + line(3 / 8)) / 2, float(height[highest]), float(1 / frequency[highest]))


def _ripple(plane: NDArray[Any]) -> Float:
    """Return the fine contrast of each column of (H, W) relative to its surroundings: (W - 2,), about 0.

    Strips of rows are first compared with their own surroundings, so that a busy part of the scene counts no more than
    a smooth one, which shows the lines.
    """
    contrast = np.abs(plane[:, 2:] - 2 * plane[:, 1:-1] + plane[:, :-2])
    strips = contrast[: len(contrast) // _STRIP_PX * _STRIP_PX].reshape(-1, _STRIP_PX, contrast.shape[1]).mean(axis=1)
    half = _SCENE_PX // 2
    sums = np.cumsum(np.pad(strips, ((0, 0), (half + 1, half)), mode="reflect"), axis=1, dtype=np.float64)
    scene = (sums[:, _SCENE_PX:] - sums[:, :-_SCENE_PX]) / _SCENE_PX
    # A completely flat strip is left out, and an edge counts at most as strong noise.
    ripple = np.where(scene > 0.05, np.minimum(strips / np.maximum(scene, 0.05), 3) - 1, 0)
    return np.asarray(ripple.mean(axis=0), np.float64)


def _spectrum(ripple: Float, length: int) -> Float:
    """Return the power spectrum of a profile, mean over its first and its last `length` pixels."""
    padded = np.pad(ripple, (0, max(0, length - len(ripple))))  # the second difference is two pixels shorter
    window = np.hanning(length)
    parts = (padded[:length], padded[-length:])
    return np.asarray(np.mean([np.abs(np.fft.rfft(part * window)) ** 2 for part in parts], axis=0))


def _over_surroundings(log_power: Float) -> Float:
    """Return the values without their running median."""
    padded = np.pad(log_power, _WINDOW_BINS, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * _WINDOW_BINS + 1)
    return np.asarray(log_power - np.median(windows, axis=1))
