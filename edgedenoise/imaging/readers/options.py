"""What a caller accepts when a file is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgedenoise.imaging.layout import MAX_PIXELS

RawOutput = Literal["srgb", "linear"]
"""Curve of a developed raw file: the one of sRGB, or none."""


@dataclass(frozen=True)
class ReadOptions:
    """Options of `edgedenoise.imaging.files.read_image`."""

    frames: bool = False
    """Read animations and files of several pages; `Image.following` then yields what follows the first frame."""
    max_pixels: int = MAX_PIXELS
    """Pixels of the largest frame that is decoded."""
    convert_cmyk: bool = False
    """Convert CMYK to sRGB through the colour profile of the file."""
    raw: RawOutput = "srgb"
    """Curve of camera raw files that are developed."""
