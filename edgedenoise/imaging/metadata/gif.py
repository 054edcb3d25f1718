"""GIF files as blocks of bytes: how an animation is timed, and how its frames are joined.

A file that breaks the format's rules raises `ValueError`, and the caller adds the file's name.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final, Literal

from edgedenoise.imaging.metadata.embedded import FrameTiming, notes_behind

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator

_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
_CONTROL, _COMMENT, _APPLICATION = 0xF9, 0xFE, 0xFF
_PLAIN_TEXT = 0x01
_NETSCAPE: Final = b"NETSCAPE2.0"
_XMP: Final = b"XMP DataXMP"
_ICC: Final = b"ICCRGBG1012"
_SQUARE: Final = 49  # (49 + 15) / 64
_DISPOSALS: Final[dict[int, Literal["background", "previous"]]] = {2: "background", 3: "previous"}
_DISPOSAL_CODES: Final = {"keep": 1, "background": 2, "previous": 3}


@dataclass(frozen=True)
class GifInfo:
    """What the blocks of a GIF file state beside the pixels."""

    timings: tuple[FrameTiming, ...]
    """One per frame."""
    comments: tuple[bytes, ...]
    """Comments, in the order of the file."""
    xmp: bytes | None
    """XMP packet."""
    icc: bytes | None
    """ICC colour profile."""
    transparent: bool
    """Whether a frame has a transparent colour."""
    canvas: tuple[int, int]
    """(width, height) of the screen and of all frames: a frame that reaches beyond the screen enlarges it."""
    notes: tuple[str, ...]
    """What is not written back, each as a sentence."""


def read_gif(data: bytes | mmap.mmap) -> GifInfo:
    """Read the blocks of a GIF file and check that it is complete.

    Raises:
        ValueError: the file ends inside a block, or holds no frame.
    """
    controls: list[tuple[int, int]] = []
    comments: list[bytes] = []
    xmp: bytes | None = None
    icc: bytes | None = None
    plays, control, transparent = 1, (0, 0), False
    dropped: set[str] = set()
    behind = 0
    canvas = struct.unpack("<HH", data[6:10].ljust(4, b"\x00"))
    for kind, body in _blocks(data):
        if kind == _CONTROL and len(body) >= 4:
            control = struct.unpack_from("<BH", body)
            transparent |= bool(body[0] & 1)
        elif kind == _COMMENT:
            comments.append(body)
        elif kind == _APPLICATION and body[:11] == _NETSCAPE and len(body) >= 14 and body[11] == 1:
            (loops,) = struct.unpack_from("<H", body, 12)
            plays = loops + 1 if loops else 0  # the file counts repetitions
        elif kind == _APPLICATION and body[:11] == _ICC:
            icc = body[11:] or None
        elif kind == _APPLICATION and body[:11] not in {_NETSCAPE, _XMP}:
            dropped.add(body[:11].decode("latin-1"))
        elif kind == _PLAIN_TEXT:
            dropped.add("plain text")
        elif kind == _TRAILER:
            behind = len(body.strip(b"\x00"))
        elif kind == _IMAGE:
            controls.append(control)
            control = (0, 0)
            left, top, width, height = struct.unpack("<HHHH", body)
            canvas = max(canvas[0], left + width), max(canvas[1], top + height)
    if not controls:
        raise ValueError("it holds no frame")
    start = data.find(_XMP)
    if start >= 0:  # XMP breaks the rule of sub-blocks: the packet is stored as it is, with a trailer of 258 bytes
        end = data.find(b"\x00\x00", start)
        packet = data[start + len(_XMP) : max(start, end - 257)] if end > 0 else b""
        xmp = packet.rstrip(b"\x01\xff") or None
    timings = tuple(
        FrameTiming(Fraction(delay, 100), _DISPOSALS.get(flags >> 2 & 7, "keep"), plays) for flags, delay in controls
    )
    notes = (f"its extensions {', '.join(sorted(dropped))} are not kept",) if dropped else ()
    shape = ("its shape of pixels is not kept",) if data[12] not in {0, _SQUARE} else ()
    return GifInfo(timings, tuple(comments), xmp, icc, transparent, canvas, (*notes, *shape, *notes_behind(behind)))


def file_header(width: int, height: int, timing: FrameTiming | None, comments: tuple[bytes, ...]) -> bytes:
    """Return the start of a GIF file without a global palette: screen, repetitions and comments."""
    parts = [b"GIF89a", struct.pack("<HHBBB", width, height, 0x70, 0, 0)]
    if timing is not None and timing.plays != 1:
        loops = timing.plays - 1 if timing.plays else 0
        parts.append(b"\x21\xff\x0b" + _NETSCAPE + struct.pack("<BBHB", 3, 1, min(loops, 65535), 0))
    parts += [b"\x21\xfe" + _sub_blocks(comment) for comment in comments]
    return b"".join(parts)


def frame_block(still: bytes, timing: FrameTiming | None, transparent: int | None) -> bytes:
    """Return one frame of an animation from a GIF file of that frame alone.

    Args:
        still: a whole GIF file with one image and a global palette.
        timing: how the frame is shown.
        transparent: index of the transparent colour, or None.
    """
    flags = still[10]
    palette = still[13 : 13 + 3 * (2 << (flags & 7))]
    at = 13 + len(palette)
    while still[at] == _EXTENSION:
        at = _skip_sub_blocks(still, at + 2)
    left, top, width, height, image_flags = struct.unpack_from("<HHHHB", still, at + 1)
    end = _skip_sub_blocks(still, at + 11)
    disposal = 0 if timing is None else _DISPOSAL_CODES[timing.disposal]
    delay = 0 if timing is None else min(round(timing.seconds * 100), 65535)
    control = b""
    if timing is not None or transparent is not None:
        packed = disposal << 2 | (transparent is not None)
        control = b"\x21\xf9\x04" + struct.pack("<BHBB", packed, delay, transparent or 0, 0)
    local = image_flags & 0x60 | 0x80 | flags & 7
    descriptor = struct.pack("<BHHHHB", _IMAGE, left, top, width, height, local)
    return control + descriptor + palette + still[at + 10 : end]


def _blocks(data: bytes | mmap.mmap) -> Iterator[tuple[int, bytes]]:
    """Yield (kind, body) of every extension, (image, position and size) of every frame, and (trailer, what follows)."""
    if len(data) < 13:
        raise ValueError(f"it ends after {len(data)} bytes, inside its header")
    flags = data[10]
    at = 13 + (3 * (2 << (flags & 7)) if flags & 0x80 else 0)
    frames = 0
    while True:
        if at >= len(data):
            raise ValueError(f"it ends after {len(data)} bytes, without an end mark")
        mark = data[at]
        if mark == _TRAILER:
            yield _TRAILER, data[at + 1 :]
            return
        if mark == _EXTENSION and at + 2 < len(data):
            end = _skip_sub_blocks(data, at + 2)
            yield data[at + 1], _joined(data, at + 2, end)
        elif mark == _IMAGE and at + 10 < len(data):
            flags = data[at + 9]
            frames += 1
            end = _skip_sub_blocks(data, at + 11 + (3 * (2 << (flags & 7)) if flags & 0x80 else 0))
            yield _IMAGE, data[at + 1 : at + 9]
        elif frames and mark not in {_EXTENSION, _IMAGE}:  # junk behind the last frame, which every program ignores
            yield _TRAILER, data[at:]
            return
        elif mark in {_EXTENSION, _IMAGE}:
            raise ValueError(f"it ends after {len(data)} bytes, inside a block")
        else:
            raise ValueError(f"byte {at} is {mark} where a block must begin")
        at = end


def _skip_sub_blocks(data: bytes | mmap.mmap, at: int) -> int:
    """Return the offset behind a chain of sub-blocks."""
    while True:
        if at >= len(data):
            raise ValueError(f"it ends after {len(data)} bytes, inside a block")
        length = data[at]
        at += 1 + length
        if not length:
            return at


def _joined(data: bytes | mmap.mmap, at: int, end: int) -> bytes:
    parts = []
    while at < end and data[at]:
        parts.append(data[at + 1 : at + 1 + data[at]])
        at += 1 + data[at]
    return b"".join(parts)


def _sub_blocks(body: bytes) -> bytes:
    pieces = [body[at : at + 255] for at in range(0, len(body), 255)]
    return b"".join(bytes((len(piece),)) + piece for piece in pieces) + b"\x00"
