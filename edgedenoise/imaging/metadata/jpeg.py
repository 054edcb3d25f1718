"""JPEG files as segments of bytes: which ones describe the image, and how they are written.

A file that breaks the format's rules raises `ValueError`, and the caller adds the file's name.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from edgedenoise.imaging.metadata.embedded import Metadata, stated_dpi
from edgedenoise.imaging.metadata.exif import PREFIX as EXIF_PREFIX
from edgedenoise.imaging.metadata.exif import exif_dpi

if TYPE_CHECKING:
    import mmap
    from collections.abc import Sequence

    from edgedenoise.imaging.metadata.embedded import Block

_XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\x00"
_ICC_PREFIX = b"ICC_PROFILE\x00"
_JFIF_PREFIX = b"JFIF\x00"
_MAX_PAYLOAD = 65533
_MAX_SEGMENTS = 255
_APP0, _APP1, _APP2, _APP13, _COM = b"\xff\xe0", b"\xff\xe1", b"\xff\xe2", b"\xff\xed", b"\xff\xfe"
FRAMES = {bytes((0xFF, code)) for code in range(0xC0, 0xD0)} - {b"\xff\xc4", b"\xff\xc8", b"\xff\xcc"}
"""Markers of the frame header: depth, size and components."""
_INCHES_PER_UNIT = {1: 1.0, 2: 2.54}  # JFIF density: per inch, per centimetre


def read_segments(data: bytes | mmap.mmap) -> list[Block]:
    """Split a JPEG file into the (marker, payload) segments that come before its first scan."""
    return _segments(data)[0]


def scan_start(data: bytes | mmap.mmap) -> int:
    """Return the offset of the marker of the first scan."""
    return _segments(data)[1]


def _segments(data: bytes | mmap.mmap) -> tuple[list[Block], int]:
    """Return the segments before the first scan, and the offset of what follows them."""
    segments: list[Block] = []
    at = 2
    while True:
        while data[at : at + 2] == b"\xff\xff":  # any number of fill bytes may precede a marker
            at += 1
        marker = data[at : at + 2]
        if len(marker) < 2 or at + 4 > len(data):
            raise ValueError(f"it ends after {len(data)} bytes, before any pixels")
        if marker[:1] != b"\xff":
            raise ValueError(f"byte {at} is {marker[:1]!r} where a marker must begin")
        if marker in {b"\xff\xda", b"\xff\xd9"}:
            return segments, at
        (length,) = struct.unpack_from(">H", data, at + 2)
        if length < 2:
            raise ValueError(f"the segment at byte {at} has no length")
        segments.append((marker, data[at + 4 : at + 2 + length]))
        at += 2 + length


def bits_per_sample(segments: list[Block]) -> int:
    """Return the bits per sample that the frame header declares (8 when there is none)."""
    return next((payload[0] for marker, payload in segments if marker in FRAMES and payload), 8)


def read_metadata(segments: list[Block]) -> Metadata:
    """Return the metadata of a JPEG file from its segments."""
    exif = b"".join(_app1(segments, EXIF_PREFIX)) or None  # long blocks are split over several segments
    xmp = next(iter(_app1(segments, _XMP_PREFIX)), None)
    dpi = _jfif_dpi(segments) or exif_dpi(exif)
    return Metadata(_icc(segments), exif, xmp, dpi, native=_descriptive(segments), native_format="JPEG")


def blocks_of(metadata: Metadata) -> tuple[Block, ...]:
    """Return the segments that carry `metadata` in a JPEG file; the resolution is in the JFIF header instead.

    Raises:
        ValueError: the EXIF block, the XMP packet or the colour profile is longer than a JPEG file can hold.
    """
    if metadata.native_format == "JPEG":
        return metadata.native
    blocks: list[Block] = []
    for prefix, body, name in ((EXIF_PREFIX, metadata.exif, "EXIF"), (_XMP_PREFIX, metadata.xmp, "XMP")):
        if body is not None:
            limit = _MAX_PAYLOAD - len(prefix)
            if len(body) > limit:
                raise ValueError(f"expected at most {limit} bytes of {name} in a JPEG, got {len(body)}")
            blocks.append((_APP1, prefix + body))
    if metadata.icc is not None:
        part_bytes = _MAX_PAYLOAD - len(_ICC_PREFIX) - 2
        parts = [metadata.icc[at : at + part_bytes] for at in range(0, len(metadata.icc), part_bytes)]
        if len(parts) > _MAX_SEGMENTS:
            limit = part_bytes * _MAX_SEGMENTS
            raise ValueError(f"expected a colour profile of at most {limit} bytes in a JPEG, got {len(metadata.icc)}")
        for number, part in enumerate(parts, start=1):
            blocks.append((_APP2, _ICC_PREFIX + bytes((number, len(parts))) + part))
    return tuple(blocks)


def without_profile(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Return segments without the colour profile."""
    return tuple(block for block in blocks if block[0] != _APP2 or not block[1].startswith(_ICC_PREFIX))


def insert_blocks(data: bytes, blocks: Sequence[Block]) -> bytes:
    """Return the JPEG file `data` with `blocks` placed after its start and JFIF header."""
    at = 2
    if data[2:4] == _APP0:  # JFIF must come first
        at = 4 + struct.unpack_from(">H", data, 4)[0]
    middle = b"".join(marker + struct.pack(">H", len(body) + 2) + body for marker, body in blocks)
    return data[:at] + middle + data[at:]


def _descriptive(segments: list[Block]) -> tuple[Block, ...]:
    """Return the segments that stay true when only the pixels change: EXIF, XMP, ICC, IPTC and comments.

    The index of further images in the file (APP2 'MPF') points at bytes that are not copied.
    """
    return tuple(
        (marker, payload)
        for marker, payload in segments
        if marker in {_APP1, _APP13, _COM} or (marker == _APP2 and payload.startswith(_ICC_PREFIX))
    )


def _app1(segments: list[Block], prefix: bytes) -> list[bytes]:
    """Return what follows `prefix` in each APP1 segment that begins with it."""
    return [body[len(prefix) :] for marker, body in segments if marker == _APP1 and body.startswith(prefix)]


def _icc(segments: list[Block]) -> bytes | None:
    """Return the colour profile, joined from its numbered parts; None when a part is missing."""
    bodies = [body[len(_ICC_PREFIX) :] for marker, body in segments if marker == _APP2 and body.startswith(_ICC_PREFIX)]
    parts = {body[0]: body[2:] for body in bodies if len(body) > 2}
    complete = bool(parts) and len(parts) == bodies[0][1]
    return b"".join(parts[number] for number in sorted(parts)) if complete else None


def _jfif_dpi(segments: list[Block]) -> tuple[float, float] | None:
    """Return the resolution that the JFIF header states."""
    for marker, payload in segments:
        if marker == _APP0 and payload.startswith(_JFIF_PREFIX) and len(payload) >= 12:
            unit, horizontal, vertical = struct.unpack_from(">BHH", payload, 7)
            scale = _INCHES_PER_UNIT.get(unit)
            return stated_dpi(horizontal * scale, vertical * scale) if scale else None
    return None
