"""BMP files decoded to `Image`."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from edgedenoise.imaging.pillow import from_pil, open_with_pillow

if TYPE_CHECKING:
    from edgedenoise.imaging.image import Image
    from edgedenoise.imaging.readers.options import ReadOptions

_FILE_HEADER_BYTES, _V5_BYTES = 14, 124
_EMBEDDED: Final = b"DEBM"  # "MBED" as a little-endian number


def decode_bmp(data: bytes, name: str, options: ReadOptions) -> Image:  # noqa: ARG001  (as all readers)
    """Decode the bytes of a BMP file; `name` is what messages call it.

    Raises:
        ValueError: the file is damaged.
    """
    image = from_pil(open_with_pillow(data, "BMP", name), name=name)
    return replace(image, metadata=replace(image.metadata, icc=_profile(data)))


def _profile(data: bytes) -> bytes | None:
    """Return the colour profile that a header of version 5 points at; None without one."""
    header = data[_FILE_HEADER_BYTES : _FILE_HEADER_BYTES + _V5_BYTES]
    if len(header) < _V5_BYTES or int.from_bytes(header[:4], "little") != _V5_BYTES or header[56:60] != _EMBEDDED:
        return None
    offset, length = struct.unpack_from("<II", header, 112)
    start = _FILE_HEADER_BYTES + offset
    return data[start : start + length] or None
