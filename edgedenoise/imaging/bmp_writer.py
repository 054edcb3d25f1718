"""BMP files with an alpha channel, which Pillow reads but writes without its mask, so that readers ignore it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from edgedenoise.imaging.image import Image

_HEADERS_BYTES: Final = 14 + 108  # of the file, and of the bitmap in its version 4
_BIT_FIELDS, _SRGB = 3, 0x73524742
_INCH_M: Final = 0.0254


def bmp_bytes(image: Image) -> bytes:
    """Return a 32-bit BMP file of an 8-bit image with alpha; rows run from bottom to top."""
    colours, alpha = np.split(image.to_channels(), [-1], axis=2)
    rows = np.concatenate([np.broadcast_to(colours, (*alpha.shape[:2], 3))[..., ::-1], alpha], axis=2)[::-1]
    dpi = image.metadata.dpi or (0.0, 0.0)
    header = struct.pack("<2sIII", b"BM", _HEADERS_BYTES + rows.nbytes, 0, _HEADERS_BYTES)
    header += struct.pack("<IiiHHII", 108, image.width, image.height, 1, 32, _BIT_FIELDS, rows.nbytes)
    header += struct.pack("<iiII", *(round(value / _INCH_M) for value in dpi), 0, 0)
    header += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + struct.pack("<I", _SRGB) + bytes(48)
    return header + rows.tobytes()
