"""JPEG files as segments of bytes: which ones describe the image, and how they are written.

A file that breaks the format's rules raises `ValueError`, and the caller adds the file's name.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from edgedenoise.imaging.metadata import multi_picture, photoshop, xmp
from edgedenoise.imaging.metadata.embedded import Metadata, Trailer, stated_dpi
from edgedenoise.imaging.metadata.exif import PREFIX as EXIF_PREFIX
from edgedenoise.imaging.metadata.exif import exif_dpi

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator, Sequence

    from edgedenoise.imaging.metadata.embedded import Block

_XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\x00"
_ICC_PREFIX = b"ICC_PROFILE\x00"
_JFIF_PREFIX = b"JFIF\x00"
_MAX_PAYLOAD = 65533
_MAX_SEGMENTS = 255
_APP0, _APP1, _APP2 = b"\xff\xe0", b"\xff\xe1", b"\xff\xe2"
_APP13, _COM = b"\xff\xed", b"\xff\xfe"
_EXTENSION_PREFIX = b"http://ns.adobe.com/xmp/extension/\x00"
_PHOTOSHOP_PREFIX = b"Photoshop 3.0\x00"
_ADOBE_PREFIX = b"Adobe"
_GAIN_MAP_PREFIX = b"urn:iso:std:iso:ts:21496:-1\x00"
_MARKER = re.compile(rb"\xff[\x01-\xfe]")
_RESTARTS = range(0xD0, 0xD8)
_SCAN = 0xDA
FRAMES = {bytes((0xFF, code)) for code in range(0xC0, 0xD0)} - {b"\xff\xc4", b"\xff\xc8", b"\xff\xcc"}
"""Markers of the frame header: depth, size and components."""
SUBSAMPLINGS = {(1, 1): 0, (2, 1): 1, (2, 2): 2}
"""Samples of the brightness per sample of the colours, across and down -> the subsamplings that are written."""
_INCHES_PER_UNIT = {1: 1.0, 2: 2.54}  # JFIF density: per inch, per centimetre


def read_segments(data: bytes | mmap.mmap) -> list[Block]:
    """Split a JPEG file into the (marker, payload) segments that come before its first scan."""
    return _segments(data)[0]


def _segments(data: bytes | mmap.mmap) -> tuple[list[Block], list[int], int]:
    """Return the segments before the first scan, the offsets of their payloads, and the offset of what follows."""
    segments: list[Block] = []
    offsets: list[int] = []
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
            return segments, offsets, at
        (length,) = struct.unpack_from(">H", data, at + 2)
        if length < 2:
            raise ValueError(f"the segment at byte {at} has no length")
        offsets.append(at + 4)
        segments.append((marker, data[at + 4 : at + 2 + length]))
        at += 2 + length


def scans(data: bytes | mmap.mmap) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of each run of coded data: of every scan, between its restart markers."""
    return ((start, end) for code, start, end in _image(data) if code in _RESTARTS or code == _SCAN)


def _image(data: bytes | mmap.mmap) -> Iterator[tuple[int, int, int]]:
    """Yield the code of each marker of the image, and the start and the end of the coded data or segment behind it."""
    at = _segments(data)[2]
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xD9:
        code, start = data[at + 1], at + 2
        length = 0 if code in _RESTARTS else int.from_bytes(data[start : start + 2], "big")
        at = start + length
        if code in _RESTARTS or code == _SCAN:
            start = at
            found = _MARKER.search(data, at)
            at = len(data) if found is None else found.start()
        yield code, start, at


def late_segments(data: bytes | mmap.mmap) -> list[Block]:
    """Return the comments and application segments between the scans, where hardly any program puts one."""
    return [
        (marker, data[start + 2 : end])
        for marker, start, end in ((bytes((0xFF, code)), start, end) for code, start, end in _image(data))
        if _is_application(marker) or marker == _COM
    ]


def read_trailer(data: bytes) -> Trailer | None:
    """Return what follows the image in a JPEG file; None where nothing does."""
    segments, offsets, start = _segments(data)
    end = max((end for _, end in scans(data)), default=start) + 2  # behind the end mark
    if end >= len(data):
        return None
    indices = (
        at + len(multi_picture.PREFIX)
        for (marker, payload), at in zip(segments, offsets, strict=True)
        if marker == _APP2 and payload.startswith(multi_picture.PREFIX)
    )
    return Trailer(data[end:], end, next(indices, None))


def frame_header(segments: list[Block]) -> Block | None:
    """Return the marker and the payload of the frame header: depth, height, width and components; None without one."""
    return next(((marker, body) for marker, body in segments if marker in FRAMES and len(body) >= 6), None)


def bits_per_sample(segments: list[Block]) -> int:
    """Return the bits per sample that the frame header declares (8 when there is none)."""
    frame = frame_header(segments)
    return 8 if frame is None else frame[1][0]


def sampling(segments: list[Block]) -> tuple[int, int]:
    """Return how many samples the brightness has per sample of the colours, across and down; (1, 1) for grayscale."""
    _, frame = frame_header(segments) or (b"", b"")
    factors = [(frame[at + 1] >> 4, frame[at + 1] & 15) for at in range(6, len(frame) - 2, 3)]
    if len(factors) != 3 or set(factors) == {factors[0]}:
        return 1, 1
    return factors[0]


def read_metadata(segments: list[Block], late: Sequence[Block] = ()) -> Metadata:
    """Return the metadata of a JPEG file from its segments; `late` ones come between the scans."""
    exif = b"".join(_app1(segments, EXIF_PREFIX)) or None  # long blocks are split over several segments
    packet = next(iter(_app1(segments, _XMP_PREFIX)), None)
    if packet is not None:
        packet = xmp.joined(packet, _app1(segments, _EXTENSION_PREFIX))
    resources = b"".join(
        body[len(_PHOTOSHOP_PREFIX) :]
        for marker, body in segments
        if marker == _APP13 and body.startswith(_PHOTOSHOP_PREFIX)
    )
    return Metadata(
        icc=_icc(segments),
        exif=exif,
        xmp=packet,
        dpi=_jfif_dpi(segments) or exif_dpi(exif),
        comments=tuple(body for marker, body in segments if marker == _COM),
        iptc=photoshop.iptc_of(resources),
        photoshop=resources or None,
        notes=_notes(segments, late),
        native=_descriptive(segments),
        native_format="JPEG",
        native_notes=_native_notes(segments),
    )


def blocks_of(metadata: Metadata) -> tuple[Block, ...]:
    """Return the segments that carry `metadata` in a JPEG file; the resolution is in the JFIF header instead.

    Raises:
        ValueError: the EXIF block, the image resources or the colour profile is longer than a JPEG file can hold.
    """
    if metadata.native_format == "JPEG":
        return metadata.native
    blocks: list[Block] = []
    if metadata.exif is not None:
        blocks.append(_segment(_APP1, EXIF_PREFIX + metadata.exif, "EXIF"))
    if metadata.xmp is not None:
        packet, parts = metadata.xmp, list[bytes]()
        if len(packet) > _MAX_PAYLOAD - len(_XMP_PREFIX):
            packet, parts = xmp.split(packet)
        blocks.append((_APP1, _XMP_PREFIX + packet))
        blocks += [(_APP1, _EXTENSION_PREFIX + part) for part in parts]
    if metadata.icc is not None:
        blocks += _profile_blocks(metadata.icc)
    resources = metadata.photoshop
    if resources is None and metadata.iptc is not None:
        resources = photoshop.with_iptc(metadata.iptc)
    if resources is not None:
        blocks.append(_segment(_APP13, _PHOTOSHOP_PREFIX + resources, "Photoshop image resources"))
    texts = [f"{keyword}: {text}".encode() for keyword, text in metadata.texts]
    blocks += [_segment(_COM, text, "comment") for text in (*metadata.comments, *texts)]
    return tuple(blocks)


def _segment(marker: bytes, payload: bytes, name: str) -> Block:
    if len(payload) > _MAX_PAYLOAD:
        raise ValueError(f"expected at most {_MAX_PAYLOAD} bytes of {name} in a JPEG, got {len(payload)}")
    return marker, payload


def with_profile(blocks: Sequence[Block], profile: bytes) -> tuple[Block, ...]:
    """Return segments with another colour profile."""
    others = [block for block in blocks if block[0] != _APP2 or not block[1].startswith(_ICC_PREFIX)]
    return (*others, *_profile_blocks(profile))


def _profile_blocks(profile: bytes) -> list[Block]:
    """Return the numbered segments of a colour profile."""
    part_bytes = _MAX_PAYLOAD - len(_ICC_PREFIX) - 2
    parts = [profile[at : at + part_bytes] for at in range(0, len(profile), part_bytes)]
    if len(parts) > _MAX_SEGMENTS:
        limit = part_bytes * _MAX_SEGMENTS
        raise ValueError(f"expected a colour profile of at most {limit} bytes in a JPEG, got {len(profile)}")
    return [(_APP2, _ICC_PREFIX + bytes((number, len(parts))) + part) for number, part in enumerate(parts, start=1)]


def insert_blocks(data: bytes, blocks: Sequence[Block]) -> bytes:
    """Return the JPEG file `data` with `blocks` placed after its start and JFIF header."""
    at = 2
    if data[2:4] == _APP0:  # JFIF must come first
        at = 4 + struct.unpack_from(">H", data, 4)[0]
    middle = b"".join(marker + struct.pack(">H", len(body) + 2) + body for marker, body in blocks)
    return data[:at] + middle + data[at:]


def with_trailer(data: bytes, trailer: Trailer | None) -> bytes:
    """Return the JPEG file `data` with what followed the image that it was made of, and with a valid index of it."""
    indexed = with_index(data, trailer, len(data))
    return indexed if trailer is None else indexed + trailer.data


def with_index(data: bytes, trailer: Trailer | None, image_end: int) -> bytes:
    """Return the beginning of a JPEG file, or all of it, with a valid index of what follows the image, or without one.

    Args:
        data: all segments before the first scan at least.
        trailer: what will follow the image.
        image_end: length of the image with `data` as it is.
    """
    segments, offsets, _ = _segments(data)
    for (marker, payload), at in zip(segments, offsets, strict=True):
        if marker != _APP2 or not payload.startswith(multi_picture.PREFIX):
            continue
        base = at + len(multi_picture.PREFIX)
        index = None
        if trailer is not None and trailer.index_at is not None:
            index = multi_picture.moved_index(
                payload[len(multi_picture.PREFIX) :], trailer.image_end, trailer.index_at, image_end, base
            )
        if index is None:  # it would point at nothing
            segment = 4 + len(payload)
            return with_index(data[: at - 4] + data[at + len(payload) :], trailer, image_end - segment)
        data = data[:base] + index + data[base + len(index) :]
    return data


def scan_start(data: bytes) -> int:
    """Return the offset of the coded data of a JPEG file with one scan: behind its segments and the scan header."""
    at = _segments(data)[2]
    return at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def with_height(data: bytes, height: int) -> bytes:
    """Return the beginning of a JPEG file with another height in its frame header."""
    segments, offsets, _ = _segments(data)
    at = next(at for (marker, _), at in zip(segments, offsets, strict=True) if marker in FRAMES)
    return data[: at + 1] + struct.pack(">H", height) + data[at + 3 :]


def _descriptive(segments: list[Block]) -> tuple[Block, ...]:
    """Return the segments that stay true when only the pixels change.

    These are EXIF, XMP, ICC, IPTC, comments, the parameters of a gain map, and the index of further images.
    """
    kept = (_ICC_PREFIX, multi_picture.PREFIX, _GAIN_MAP_PREFIX)
    return tuple(
        (marker, payload)
        for marker, payload in segments
        if marker in {_APP1, _APP13, _COM} or (marker == _APP2 and payload.startswith(kept))
    )


def _notes(segments: list[Block], late: Sequence[Block]) -> tuple[str, ...]:
    """Return which segments are not written back, in sentences."""
    own = (_JFIF_PREFIX, _ADOBE_PREFIX)  # they are made anew
    dropped = [(marker, body) for marker, body in segments if _is_application(marker) and not body.startswith(own)]
    others = {*dropped, *late} - set(_descriptive(segments))
    found = []
    if others:
        found.append(f"its segments {', '.join(sorted({_name(block) for block in others}))} are not kept")
    if any(body.startswith(_JFIF_PREFIX) and any(body[12:14]) for marker, body in segments if marker == _APP0):
        found.append("the small copy of the image in its JFIF header is not kept")
    return tuple(found)


def only_in_jpeg(metadata: Metadata) -> tuple[str, ...]:
    """Return the names of descriptive segments of a JPEG file that no other format holds."""
    mapped = {_APP1: (EXIF_PREFIX, _XMP_PREFIX, _EXTENSION_PREFIX), _APP13: (_PHOTOSHOP_PREFIX,)}
    names = {
        f"segment {_name((marker, body))}"
        for marker, body in metadata.native
        if marker in mapped and not body.startswith(mapped[marker])
    }
    if metadata.icc is None and any(body.startswith(_ICC_PREFIX) for _, body in metadata.native):
        names.add("incomplete colour profile")
    return tuple(sorted(names))


def _name(block: Block) -> str:
    """Return the name of a segment: its marker, and the word that its content begins with."""
    marker, body = block
    if marker == _COM:
        return "COM"
    word = re.match(rb"[A-Za-z0-9][\w ./:-]{2,31}", body)
    number = f"APP{marker[1] - 0xE0}"
    return number if word is None else f"{number} ({word[0].decode('ascii').strip()})"


def _native_notes(segments: list[Block]) -> tuple[str, ...]:
    """Return which subsampling is not written back, in a sentence."""
    across, down = sampling(segments)
    if (across, down) in SUBSAMPLINGS:
        return ()
    return (f"its colours, of 1/{across} of the columns and 1/{down} of the rows, are written in full resolution",)


def _is_application(marker: bytes) -> bool:
    return 0xE0 <= marker[1] <= 0xEF


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
