"""The bytes of an image file decoded to an `Image`, whatever its format.

The header of each format is read before its pixels are decoded, and a file that would lose bits, frames or channels
is refused. 8-bit images and 16-bit grayscale go through Pillow, the rest of 16 bits through the `io` extra.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedenoise.errors import DamagedImageError, ImageError
from edgedenoise.imaging.headers import MAX_PIXELS, check_pixel_count, format_of, layout_of
from edgedenoise.imaging.pillow import ACCEPTED_FORMATS, from_pil, open_with_pillow
from edgedenoise.imaging.readers.jpeg import decode_jpeg
from edgedenoise.imaging.readers.png import decode_png
from edgedenoise.imaging.readers.pnm import check_pnm_depth
from edgedenoise.imaging.readers.tiff import decode_tiff

if TYPE_CHECKING:
    from edgedenoise.imaging.image import Image

# Common formats that are not read: the message names them.
_FOREIGN = {b"GIF8": "GIF", b"8BPS": "Photoshop", b"\xff\x0a": "JPEG XL", b"%PDF": "PDF", b"<svg": "SVG"}


def decode_image(data: bytes, *, name: str = "the image", max_pixels: int = MAX_PIXELS) -> Image:
    """Decode the bytes of an image file.

    Args:
        data: the whole file.
        name: what messages call it.
        max_pixels: largest number of pixels that is accepted.

    Returns:
        The image with its embedded metadata.

    Raises:
        ImageError, DamagedImageError, RuntimeUnavailableError: as `edgedenoise.imaging.files.read_image`.
    """
    format_ = _format_of(data, name)
    try:
        check_pixel_count(layout_of(data, format_), name, max_pixels)
        if format_ == "PNG":
            return decode_png(data, name)
        if format_ == "TIFF":
            return decode_tiff(data, name)
        if format_ == "JPEG":
            return decode_jpeg(data, name)
        if format_ == "PPM":
            check_pnm_depth(data, name)
        return from_pil(open_with_pillow(data, format_, name), name=name)
    except ValueError as error:  # raised by the parsers for a file that breaks its format's rules
        raise DamagedImageError(
            f"{name} is a damaged {format_} file: {error}", hint="Copy the file again from its source."
        ) from error


def _format_of(data: bytes, name: str) -> str:
    """Return the format that the first bytes of a file stand for."""
    if not data:
        raise ImageError(f"{name} is empty: expected {ACCEPTED_FORMATS}, got a file of 0 bytes")
    head = data[:16]
    format_ = format_of(head)
    if format_ is not None:
        return format_
    foreign = next((kind for mark, kind in _FOREIGN.items() if head.startswith(mark)), None)
    if head[4:8] == b"ftyp":
        foreign = "HEIC, AVIF or video"
    what = f"a {foreign} file, which is not supported" if foreign else "not an image file"
    raise ImageError(f"{name} is {what}: expected {ACCEPTED_FORMATS}, got a file that begins with {head[:8]!r}")
