"""Size, channels and depth of an image, which are known before its pixels are decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_PIXELS: Final = 1_000_000_000
"""Largest number of pixels that is accepted by default; cameras have up to 400 million."""


@dataclass(frozen=True)
class Layout:
    """Size, channels and depth of an image."""

    width: int
    """Number of columns."""
    height: int
    """Number of rows."""
    channels: int
    """Number of channels without alpha: 1 (grayscale) or 3 (RGB)."""
    bits: int
    """Bits per sample: 8 or 16, or 32 for floats."""
    alpha: bool
    """Whether there is an alpha channel."""
    frames: int = 1
    """Frames of an animation; 1 for a still image."""

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.width * self.height

    @property
    def stored_bytes(self) -> int:
        """Bytes of the decoded samples, alpha included."""
        return self.pixels * (self.channels + self.alpha) * self.bits // 8
