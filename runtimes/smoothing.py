"""Statistics and noise level of a video, smoothed over time, so that noise in them does not become flicker.

The statistics of `whole-image` networks and the estimated noise level change a little from frame to frame, because
noise and small moving things change. The network then answers a little differently everywhere, which is seen as
flicker where nothing moves. Both are averaged over the last frames here, and begin anew where the scene changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from edgedenoise.imaging.normalize import WHOLE_IMAGE, Normalization, Statistics
from edgedenoise.noise.level import NoiseCurve

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgedenoise.runtimes.stored_image import StoredImage

SMOOTHED_FRAMES: Final = 16
"""Number of frames that count: half a second of most videos."""
_CUT_DEVIATIONS: Final = 0.25
_CUT_RATIO: Final = 1.5
"""A scene has changed where the mean moves by a quarter of the deviation, or the deviation by half of itself."""
_LAG: Final = 0.01
"""Largest distance of smoothed statistics from those of the frame, in deviations. Beyond it the image really changes,
and statistics that lag behind cost quality: 0.8 dB in a fast pan without this limit."""


@dataclass
class _Scene:
    """Smoothed values of the frames since the last change of the scene."""

    frames: int
    mean: NDArray[np.float64]
    """(3,)."""
    std: NDArray[np.float64]
    """(3,)."""
    farthest: NDArray[np.float64]
    """(3,): the largest distance from the mean, which falls slowly and rises at once, so that no value exceeds it."""


class Smoothing:
    """Smoothed statistics and noise level of the frames of one video, which are given in order.

    Args:
        frames: number of frames that count; 1 takes each frame as it is.
    """

    def __init__(self, frames: int = SMOOTHED_FRAMES) -> None:
        self._frames = frames
        self._scene: _Scene | None = None
        self._variance: NDArray[np.float64] | None = None
        self._curves = 0

    def statistics(self, image: StoredImage, normalization: Normalization) -> Statistics:
        """Return the statistics for the next frame.

        Args:
            image: the frame.
            normalization: normalization that the network was trained with. No value of this frame exceeds the limit of
                `whole-image-bounded`.
        """
        if normalization.kind == "unit" or self._frames == 1:
            return image.statistics(normalization)
        now = image.statistics(WHOLE_IMAGE)
        mean, std = now.mean.astype(np.float64), now.std.astype(np.float64)
        if self._scene is None or _is_cut(self._scene, mean, std):
            self._scene = _Scene(0, mean, std, np.zeros(3))
            self._curves = 0
        scene = self._scene
        scene.frames += 1
        share = 1 / min(scene.frames, self._frames)
        lag = _LAG * std
        scene.mean = np.clip(scene.mean + share * (mean - scene.mean), mean - lag, mean + lag)
        scene.std = np.clip(scene.std + share * (std - scene.std), std - lag, std + lag)
        std = scene.std
        if normalization.limit is not None:
            bands = [(band.min(axis=(0, 1)), band.max(axis=(0, 1))) for band in image.unit_bands()]
            low, high = np.min([low for low, _ in bands], axis=0), np.max([high for _, high in bands], axis=0)
            farthest = np.maximum(high - scene.mean, scene.mean - low)
            scene.farthest = np.maximum(farthest, scene.farthest + share * (farthest - scene.farthest))
            std = np.maximum(std, scene.farthest / normalization.limit)
        return Statistics(scene.mean.astype(np.float32), std.astype(np.float32))

    def curve(self, estimated: NoiseCurve) -> NoiseCurve:
        """Return the noise of the next frame from what was estimated for it."""
        variance = np.square(estimated.sigma)
        self._curves += 1
        if self._variance is None or self._curves == 1:
            self._variance = variance
        self._variance = self._variance + (variance - self._variance) / min(self._curves, self._frames)
        return NoiseCurve(np.sqrt(self._variance))


def _is_cut(scene: _Scene, mean: NDArray[np.float64], std: NDArray[np.float64]) -> bool:
    """Return whether the statistics of a frame belong to another scene."""
    ratio = std / scene.std
    moved = np.abs(mean - scene.mean) > _CUT_DEVIATIONS * scene.std
    return bool(moved.any() or (ratio > _CUT_RATIO).any() or (ratio < 1 / _CUT_RATIO).any())
