"""The metadata that one image file carries beside its pixels, whatever its format."""

from __future__ import annotations

import math
from dataclasses import dataclass

Block = tuple[bytes, bytes]
"""A PNG chunk (type, data) or a JPEG segment (marker, payload)."""


@dataclass(frozen=True)
class Metadata:
    """Embedded metadata of an image file, byte for byte."""

    icc: bytes | None = None
    """ICC colour profile."""
    exif: bytes | None = None
    """EXIF block, beginning with its TIFF header (without the `Exif\\0\\0` of JPEG)."""
    xmp: bytes | None = None
    """XMP packet."""
    dpi: tuple[float, float] | None = None
    """Horizontal and vertical resolution in pixels per inch; None where the file states none."""
    native: tuple[Block, ...] = ()
    """All descriptive blocks of the file, raw. They are written back when the format stays the same."""
    native_format: str | None = None
    """The format that `native` belongs to: "PNG" or "JPEG"."""


def stated_dpi(horizontal: float, vertical: float) -> tuple[float, float] | None:
    """Return a resolution in pixels per inch, or None where a file's numbers state none.

    Files and libraries write 0 or 1 for "not known". More than 65535 fits into no JPEG.
    """
    horizontal, vertical = float(horizontal), float(vertical)
    if all(math.isfinite(value) and 1 < value <= 65535 for value in (horizontal, vertical)):
        return horizontal, vertical
    return None
