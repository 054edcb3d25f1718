"""What a caller accepts when a file is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from edgedenoise.errors import UsageError
from edgedenoise.imaging.layout import MAX_PIXELS

RawOutput = Literal["srgb", "linear"]
"""Curve of a developed raw file: the one of sRGB, or none."""


@dataclass(frozen=True)
class ReadOptions:
    """Options of `edgedenoise.imaging.files.read_image`.

    Raises:
        UsageError: a value is not accepted.
    """

    frames: bool = False
    """Read animations and files of several pages; `Image.following` then yields what follows the first frame."""
    max_pixels: int = MAX_PIXELS
    """Pixels of the largest frame that is decoded."""
    convert_cmyk: bool = False
    """Convert CMYK to sRGB through the colour profile of the file."""
    raw: RawOutput = "srgb"
    """Curve of camera raw files that are developed."""

    def __post_init__(self) -> None:
        if self.raw not in get_args(RawOutput):
            raise UsageError(f"the curve of raw files is not accepted: expected srgb or linear, got {self.raw!r}")
