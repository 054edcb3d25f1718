"""BMP files decoded to `Image`."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from edgedenoise.imaging.metadata.embedded import notes_behind
from edgedenoise.imaging.pillow import from_pil, open_with_pillow

if TYPE_CHECKING:
    from edgedenoise.imaging.image import Image
    from edgedenoise.imaging.readers.options import ReadOptions

_FILE_HEADER_BYTES, _V3_BYTES, _V5_BYTES = 14, 40, 124
_PACKED: Final = frozenset({1, 2})  # run lengths of 8 and 4 bits
_CALIBRATED: Final = bytes(4)
_EMBEDDED: Final = b"DEBM"  # "MBED" as a little-endian number


def decode_bmp(data: bytes, name: str, options: ReadOptions) -> Image:  # noqa: ARG001  (as all readers)
    """Decode the bytes of a BMP file; `name` is what messages call it.

    Raises:
        ValueError: the file is damaged.
    """
    image = from_pil(open_with_pillow(data, "BMP", name), name=name)
    profile = _profile(data)
    icc = None if profile is None else data[profile] or None
    notes = _notes(data, 0 if profile is None else profile.stop)
    return replace(image, metadata=replace(image.metadata, icc=icc, notes=notes))


def _header(data: bytes) -> bytes:
    """Return the header of the bitmap, filled up with zeros to the length of version 5."""
    header = data[_FILE_HEADER_BYTES : _FILE_HEADER_BYTES + _V5_BYTES]
    return header[: int.from_bytes(header[:4], "little")].ljust(_V5_BYTES, b"\x00")


def _profile(data: bytes) -> slice | None:
    """Return where the colour profile is that a header of version 5 points at; None without one."""
    header = _header(data)
    if int.from_bytes(header[:4], "little") != _V5_BYTES or header[56:60] != _EMBEDDED:
        return None
    offset, length = struct.unpack_from("<II", header, 112)
    start = _FILE_HEADER_BYTES + offset
    return slice(start, start + length)


def _notes(data: bytes, profile_end: int) -> tuple[str, ...]:
    """Return what is not written back, in sentences."""
    header = _header(data)
    size, width, height, _, bits, compression, stored = struct.unpack_from("<IiiHHII", header)
    if size < _V3_BYTES:
        return ()
    (start,) = struct.unpack_from("<I", data, 10)
    pixels = stored if compression in _PACKED else -(-abs(width) * bits // 32) * 4 * abs(height)
    behind = data[max(start + pixels, profile_end) :].strip(b"\x00")
    calibrated = size > _V3_BYTES and header[56:60] == _CALIBRATED and any(header[60:108])
    found = ("its primaries and gamma are not kept",) if calibrated else ()
    return (*found, *notes_behind(len(behind)))
