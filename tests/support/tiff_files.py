"""TIFF files made byte by byte, for tests of the reader."""

from __future__ import annotations

import struct

import numpy as np

Tag = tuple[int, int, tuple[int, ...]]
"""Number, type (3: 16 bits, 4: 32 bits) and values of a tag."""


def directory(tags: list[Tag], at: int, following: int = 0) -> bytes:
    """Return a little-endian directory whose values are stored behind it; `at` is its own offset."""
    values_at = at + 2 + 12 * len(tags) + 4
    entries, values = [], b""
    for number, kind, numbers in sorted(tags):
        raw = struct.pack(f"<{len(numbers)}{'H' if kind == 3 else 'I'}", *numbers)
        stored = raw.ljust(4, b"\x00")
        if len(raw) > 4:
            stored = struct.pack("<I", values_at + len(values))
            values += raw
        entries.append(struct.pack("<HHI", number, kind, len(numbers)) + stored)
    return struct.pack("<H", len(tags)) + b"".join(entries) + struct.pack("<I", following) + values


def self_pointing(count: int) -> bytes:
    """Return a TIFF file of `count` EXIF tags that all point at their own directory."""
    entries = b"".join(struct.pack("<HHII", 34665, 4, 1, 8) for _ in range(count))
    return b"II*\x00" + struct.pack("<IH", 8, count) + entries + bytes(4)


def whole_file_tags(count: int) -> bytes:
    """Return a TIFF file of `count` tags, each of which claims the bytes of the whole file."""
    size = 8 + 2 + 12 * count + 4
    entries = b"".join(struct.pack("<HHII", 1000 + number, 1, size - number, number) for number in range(count))
    return b"II*\x00" + struct.pack("<IH", 8, count) + entries + bytes(4)


def with_tag(data: bytes, tag: int, value: int) -> bytes:
    """Return a little-endian TIFF file whose first directory states another number for a tag."""
    changed = bytearray(data)
    (at,) = struct.unpack_from("<I", changed, 4)
    (count,) = struct.unpack_from("<H", changed, at)
    for place in range(at + 2, at + 2 + 12 * count, 12):
        number, kind = struct.unpack_from("<HH", changed, place)
        if number == tag:
            struct.pack_into("<H" if kind == 3 else "<I", changed, place + 8, value)
            return bytes(changed)
    raise AssertionError(f"the file has no tag {tag}")


def mosaic(height: int = 64, width: int = 96) -> np.ndarray:
    """Return a Bayer mosaic (red, green / green, blue) of a flat reddish gray with noise, of 14 bits."""
    rng = np.random.default_rng(0)
    levels = np.empty((height, width))
    levels[0::2, 0::2], levels[0::2, 1::2], levels[1::2, 0::2], levels[1::2, 1::2] = 6000, 4000, 4000, 3000
    return (levels + rng.normal(0, 100, levels.shape)).clip(0, 16383).astype(np.uint16)
