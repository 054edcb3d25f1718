"""WebP files as chunks of bytes: how an animation is timed, and how its frames are joined.

A file that breaks the format's rules raises `ValueError`, and the caller adds the file's name.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from edgedenoise.imaging.metadata.embedded import FrameTiming, notes_behind

if TYPE_CHECKING:
    import mmap

    from edgedenoise.imaging.metadata.embedded import Block, Metadata

_ICC_FLAG, _ALPHA_FLAG, _EXIF_FLAG, _XMP_FLAG, _ANIMATION_FLAG = 0x20, 0x10, 0x08, 0x04, 0x02
_DISPOSE, _NO_BLEND = 1, 2
_FRAME_HEADER_BYTES: Final = 16
_WRITTEN: Final = frozenset({b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP "})
_PIXELS: Final = frozenset({b"VP8 ", b"VP8L"})


def read_chunks(data: bytes) -> list[Block]:
    """Split a WebP file into its chunks, and check that it is complete.

    Raises:
        ValueError: the file ends inside a chunk, or holds no pixels.
    """
    (size,) = struct.unpack_from("<I", data, 4)
    if size + 8 > len(data):
        raise ValueError(f"it ends after {len(data)} bytes: expected {size + 8}")
    chunks = _split(data, 12, size + 8)
    kinds = {kind for kind, _ in chunks}
    if not kinds & (_PIXELS | {b"ANMF"}):
        raise ValueError("it holds no pixels")
    return chunks


def count_frames(data: bytes | mmap.mmap) -> int:
    """Return the number of frames of an animation; 0 for a still image."""
    at, count = 12, 0
    while at + 8 <= len(data):
        count += data[at : at + 4] == b"ANMF"
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + length + length % 2
    return count


def timings(chunks: list[Block]) -> tuple[FrameTiming, ...]:
    """Return the timing of each frame of an animation; none for a still image."""
    plays = next((struct.unpack_from("<H", body, 4)[0] for kind, body in chunks if kind == b"ANIM"), 0)
    found = []
    for kind, body in chunks:
        if kind == b"ANMF":
            if len(body) < _FRAME_HEADER_BYTES:
                raise ValueError("a frame of it has no header")
            _split(body, _FRAME_HEADER_BYTES, len(body))
            milliseconds = int.from_bytes(body[12:15], "little")
            disposal = "background" if body[15] & _DISPOSE else "keep"
            found.append(FrameTiming(Fraction(milliseconds, 1000), disposal, plays))  # type: ignore[arg-type]
    return tuple(found)


def notes(data: bytes, chunks: list[Block]) -> tuple[str, ...]:
    """Return which chunks of a file, and bytes behind it, are not written back, in sentences."""
    behind = len(data) - (int.from_bytes(data[4:8], "little") + 8)
    names = ", ".join(kind.decode("latin-1") for kind in sorted({kind for kind, _ in chunks} - _WRITTEN))
    return (*((f"its chunks {names} are not kept",) if names else ()), *notes_behind(behind))


def file_header(width: int, height: int, timing: FrameTiming, metadata: Metadata) -> bytes:
    """Return the first chunks of an animation, without the header of the file."""
    flags = _ANIMATION_FLAG | _ALPHA_FLAG
    for body, flag in ((metadata.icc, _ICC_FLAG), (metadata.exif, _EXIF_FLAG), (metadata.xmp, _XMP_FLAG)):
        flags |= flag if body else 0
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    parts = [chunk(b"VP8X", bytes((flags, 0, 0, 0)) + canvas)]
    if metadata.icc:
        parts.append(chunk(b"ICCP", metadata.icc))
    parts.append(chunk(b"ANIM", struct.pack("<IH", 0, min(timing.plays, 65535))))
    return b"".join(parts)


def frame_chunk(still: bytes, width: int, height: int, timing: FrameTiming) -> bytes:
    """Return one frame of an animation, which covers the canvas, from a WebP file of that frame alone."""
    pixels = [block for block in read_chunks(still) if block[0] in _PIXELS | {b"ALPH"}]
    milliseconds = min(round(timing.seconds * 1000), (1 << 24) - 1)
    header = bytes(6) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    flags = _NO_BLEND | (_DISPOSE if timing.disposal == "background" else 0)
    header += milliseconds.to_bytes(3, "little") + bytes((flags,))
    return chunk(b"ANMF", header + b"".join(chunk(*block) for block in pixels))


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return one chunk as a file stores it: type, length, data, a byte of padding after an odd length."""
    return kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def _split(data: bytes, at: int, end: int) -> list[Block]:
    chunks: list[Block] = []
    while at + 8 <= end:
        kind, length = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
        if at + 8 + length > end:
            raise ValueError(f"it ends inside its chunk {len(chunks) + 1}")
        chunks.append((kind, data[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return chunks
