"""Traces that a camera leaves in the grain of an image, and that resizing or filtering moves or wipes out.

Of every mosaic pixel one colour is measured and two are interpolated, so the fine noise of a camera image is
stronger in every other row and column. JPEG works in blocks of 8 pixels. Whatever resamples the image afterwards
weights its pixels with another period again. So fine contrast is averaged over whole rows and columns, and the
spectrum of those profiles is searched for lines: at 1/2 (a mosaic), at the odd eighths (JPEG), anywhere else
(resampling). Where a camera's lines ought to be and are not, something has been done to the image.

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
"""Lengths of the profiles that are searched, in pixels: 1/2, 1/3, 1/8 and 1/16 fall on whole bins of each."""
_STRIP_PX = 16
_SCENE_PX = 25  # what is slower than this along a profile is the scene
_LOWEST = 0.06  # cycles per pixel: below, scenes have lines of their own
_GRID = 16  # JPEG's blocks of 8 pixels are 16 wide in colour that is stored at half size
_NEAR_BINS = 3.2  # a strong line reaches this far, and an 80th of a short profile's bins
_WINDOW_BINS = 12  # a line is compared with the median of this many bins to either side


@dataclass(frozen=True)
class Traces:
    """Heights of the lines, as natural logarithms of their power over their surroundings'; chance stays below 2."""

    mosaic: float
    """At 1/2 cycles per pixel: a colour mosaic was interpolated."""
    jpeg: float
    """Mean of those at 1/8 and 3/8: JPEG blocks of 8 pixels. (Halved, they leave those at 1/4 and 1/2 alone.)"""
    resampled: float
    """The highest at no sixteenth: the image was resampled, or shows something finely regular."""
    resampled_period_px: float
    """Its period."""


def profile_spectrum(crops: Sequence[NDArray[Any]]) -> Float | None:
    """Return the power spectrum of the fine contrast of rows and columns, mean over crops, channels and both ways.

    Args:
        crops: parts of one image, (H, W, 3) floats in 8-bit levels, all of one shape, at full resolution.

    Returns:
        (n / 2 + 1,), n the longest of `PERIODS` that fits both sides, or None where none does.
    """
    length = next((period for period in PERIODS if period <= min(crops[0].shape[:2])), None)
    if length is None:
        return None
    planes = [crop[..., channel] for crop in crops for channel in range(3)]
    spectra = [_spectrum(_ripple(way), length) for plane in planes for way in (plane, plane.T)]
    return np.asarray(np.mean(spectra, axis=0))


def find_traces(spectrum: Float) -> Traces:
    """Look for the lines in one image's `profile_spectrum`, or in the mean of several of one length."""
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
    """Return how much finer contrast every column of (H, W) has than its surroundings: (W - 2,), about 0.

    Strips of rows are compared with their own surroundings first, so that a busy part of the scene counts no more
    than a calm one, where the lines are.
    """
    contrast = np.abs(plane[:, 2:] - 2 * plane[:, 1:-1] + plane[:, :-2])
    strips = contrast[: len(contrast) // _STRIP_PX * _STRIP_PX].reshape(-1, _STRIP_PX, contrast.shape[1]).mean(axis=1)
    half = _SCENE_PX // 2
    sums = np.cumsum(np.pad(strips, ((0, 0), (half + 1, half)), mode="reflect"), axis=1, dtype=np.float64)
    scene = (sums[:, _SCENE_PX:] - sums[:, :-_SCENE_PX]) / _SCENE_PX
    # Flat to the last level, a strip says nothing; an edge in it counts as strong grain, no more.
    ripple = np.where(scene > 0.05, np.minimum(strips / np.maximum(scene, 0.05), 3) - 1, 0)
    return np.asarray(ripple.mean(axis=0), np.float64)


def _spectrum(ripple: Float, length: int) -> Float:
    """Return the power of a profile, mean of its first and last `length` pixels."""
    padded = np.pad(ripple, (0, max(0, length - len(ripple))))  # the second difference is two pixels shorter
    window = np.hanning(length)
    parts = (padded[:length], padded[-length:])
    return np.asarray(np.mean([np.abs(np.fft.rfft(part * window)) ** 2 for part in parts], axis=0))


def _over_surroundings(log_power: Float) -> Float:
    """Take the running median away."""
    padded = np.pad(log_power, _WINDOW_BINS, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * _WINDOW_BINS + 1)
    return np.asarray(log_power - np.median(windows, axis=1))
