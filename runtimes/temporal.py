"""What a denoiser remembers of a video between its frames."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from edgedenoise.errors import UsageError
from edgedenoise.runtimes.reuse import BlockReuse
from edgedenoise.runtimes.smoothing import SMOOTHED_FRAMES, Smoothing
from edgedenoise.runtimes.stored_image import StoredImage

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from edgedenoise.imaging.normalize import Normalization, Statistics
    from edgedenoise.imaging.tiling import Tiling
    from edgedenoise.noise.level import NoiseCurve
    from edgedenoise.runtimes.noise_plane import ImageNoise

_ESTIMATE_EVERY: Final = 16
"""Frames between two estimates of the noise, where only the reuse of blocks needs it."""


@dataclass(frozen=True, eq=False)
class WholeFrame:
    """What is known of a frame as a whole, and used for every part of it."""

    stats: Statistics
    """Statistics to normalize by."""
    noise: ImageNoise | None
    """Noise, for a network that takes its level."""
    is_negligible: bool = False
    """Whether the frame has so little noise that it is returned unchanged."""

    def part(self, rows: slice, columns: slice) -> WholeFrame:
        """Return what is known of the frame, for a part of it."""
        return replace(self, noise=None if self.noise is None else self.noise.part(rows, columns))


class Temporal:
    """State of one video, whose frames are given in order.

    Args:
        tiling: what the network needs.
        smooth: whether the statistics and the noise level are smoothed over time.
        reuse: whether the output is reused where the image has not moved.
    """

    def __init__(self, tiling: Tiling, *, smooth: bool = True, reuse: bool = False) -> None:
        if reuse and not tiling.is_exact:
            raise UsageError(
                "the network looks at the whole image, so that the output of a part cannot be reused",
                hint="Leave out --reuse.",
            )
        self.reuse = BlockReuse(tiling) if reuse else None
        """Blocks of the last output; None where every frame is denoised as a whole."""
        self._smoothing = Smoothing(SMOOTHED_FRAMES if smooth else 1)
        self._curve: NoiseCurve | None = None
        self._age = 0

    def frame(self, image: StoredImage, normalization: Normalization, noise: ImageNoise | None) -> WholeFrame:
        """Return what is known of the next frame.

        Args:
            image: the frame.
            normalization: normalization that the network was trained with.
            noise: noise of this frame, for a network that takes its level.
        """
        if noise is not None:
            self._curve = self._smoothing.curve(noise.curve)
            noise = replace(noise, curve=self._curve)
        stats = self._smoothing.statistics(image, normalization)
        return WholeFrame(stats, noise, noise is not None and noise.is_negligible)

    def reused(
        self, image: StoredImage, frame: WholeFrame, run: Callable[[StoredImage, WholeFrame], NDArray[Any]]
    ) -> NDArray[Any]:
        """Return the output (H, W, C) of the next frame, of which only the blocks that moved are computed.

        Args:
            image: the frame.
            frame: what is known of it.
            run: denoises a part of it, of which the second argument is known.
        """
        if self.reuse is None:
            return run(image, frame)
        array = image.pixels.window(1).rows(0, image.pixels.height)

        def part(rows: slice, columns: slice) -> NDArray[Any]:
            known_gray = replace(StoredImage.of(array[rows, columns]), known_gray=image.is_gray)
            return run(known_gray, frame.part(rows, columns))

        return self.reuse(array, self._noise_curve(image, frame), part)

    def _noise_curve(self, image: StoredImage, frame: WholeFrame) -> NoiseCurve:
        """Return the noise of a frame, which networks that do not take it need less often."""
        if frame.noise is not None:
            return frame.noise.curve
        if self._curve is None or self._age >= _ESTIMATE_EVERY:
            self._curve, self._age = self._smoothing.curve(image.noise(None).curve), 0
        self._age += 1
        return self._curve
