"""The metadata that one image file carries beside its pixels, whatever its format."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from fractions import Fraction

Block = tuple[bytes, bytes]
"""A PNG chunk (type, data) or a JPEG segment (marker, payload)."""


@dataclass(frozen=True)
class FrameTiming:
    """How an animation shows one frame."""

    seconds: Fraction
    """Time that the frame is shown."""
    disposal: Literal["keep", "background", "previous"] = "keep"
    """What becomes of the frame before the next one is drawn."""
    plays: int = 0
    """Times that the whole animation is shown; 0 for ever."""


@dataclass(frozen=True)
class Trailer:
    """What follows the image in a JPEG file: gain map, further images, the video of a motion photo."""

    data: bytes
    """Everything behind the end of the image."""
    image_end: int
    """Offset of `data` in the file that it was read from."""
    index_at: int | None
    """Offset of the index of further images in that file; None where it has none."""


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
    comments: tuple[bytes, ...] = ()
    """Plain comments, in the encoding of the file."""
    iptc: bytes | None = None
    """IPTC record (IIM)."""
    photoshop: bytes | None = None
    """Photoshop's image resources, which hold the IPTC record too."""
    texts: tuple[tuple[str, str], ...] = ()
    """Texts of PNG: keyword and content."""
    trailer: Trailer | None = None
    """What follows the image in a JPEG file."""
    native: tuple[Block, ...] = ()
    """All descriptive blocks of the file, raw. They are written back when the format stays the same."""
    native_format: str | None = None
    """The format that `native` belongs to: "PNG" or "JPEG"."""
    native_notes: tuple[str, ...] = ()
    """What changes in a file of the same format, each as a sentence."""
    timing: FrameTiming | None = None
    """How an animation shows this frame; None for a still image or a page."""
    notes: tuple[str, ...] = ()
    """Parts of the file that were not read, or are written back as they are, each as a sentence."""


def stated_dpi(horizontal: float, vertical: float) -> tuple[float, float] | None:
    """Return a resolution in pixels per inch, or None where a file's numbers state none.

    Files and libraries write 0 or 1 for "not known". More than 65535 fits into no JPEG.
    """
    horizontal, vertical = float(horizontal), float(vertical)
    if all(math.isfinite(value) and 1 < value <= 65535 for value in (horizontal, vertical)):
        return horizontal, vertical
    return None


def notes_behind(count: int) -> tuple[str, ...]:
    """Return that bytes behind the end of an image are not written back, in a sentence; none where there are none."""
    return (f"{count} bytes behind its end are not kept",) if count > 0 else ()
