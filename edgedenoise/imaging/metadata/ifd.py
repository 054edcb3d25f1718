"""TIFF's table of tags (image file directory), which EXIF uses too: read and written as bytes.

Classic TIFF and BigTIFF are read, classic TIFF is written. A file that breaks the format's rules raises
`ValueError`, and the caller adds the file's name.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from edgedenoise.imaging.metadata.embedded import stated_dpi

if TYPE_CHECKING:
    import mmap
    from collections.abc import Mapping

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_TYPE_CODES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_RATIONAL = 5
EXIF_IFD, GPS_IFD = 34665, 34853
_SUB_IFDS = frozenset({EXIF_IFD, GPS_IFD, 40965})  # the last is interoperability
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
_INCHES_PER_UNIT = {2: 1.0, 3: 2.54}  # per inch, per centimetre
Value = tuple[int, int, bytes]
"""Type, count and raw bytes of a tag."""


@dataclass(frozen=True)
class Ifd:
    """An image file directory: TIFF's table of tags."""

    order: str
    """Byte order as `struct` writes it: '<' or '>'."""
    values: Mapping[int, Value]
    """Tag to its value, in `order`."""
    children: Mapping[int, Ifd]
    """Tags that point at a further directory: EXIF, GPS, interoperability."""

    def numbers(self, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Return the whole numbers that a tag holds."""
        if tag not in self.values:
            return default
        kind, count, raw = self.values[tag]
        if kind not in _TYPE_CODES:
            raise ValueError(f"expected whole numbers in tag {tag}, got type {kind}")
        return struct.unpack(f"{self.order}{count}{_TYPE_CODES[kind]}", raw)

    def check_pixels_are_within(self, size: int) -> None:
        """Raise when a strip or tile ends behind a file of `size` bytes: libraries may fill in zeros."""
        for offsets, counts in ((273, 279), (324, 325)):
            for start, count in zip(self.numbers(offsets), self.numbers(counts), strict=False):
                if start + count > size:
                    raise ValueError(f"it ends after {size} bytes, inside its pixels")

    def raw(self, tag: int) -> bytes | None:
        """Return the bytes that a tag holds, or None."""
        return self.values[tag][2] if tag in self.values else None

    def dpi(self) -> tuple[float, float] | None:
        """Return the resolution in pixels per inch; None where the tags state none."""
        kind = self.values.get(RESOLUTION_UNIT, (0, 0, b""))[0]
        scale = _INCHES_PER_UNIT.get(self.numbers(RESOLUTION_UNIT)[0] if kind in _TYPE_CODES else 2)
        horizontal, vertical = self._rational(X_RESOLUTION), self._rational(Y_RESOLUTION)
        return stated_dpi(horizontal * scale, vertical * scale) if scale else None

    def _rational(self, tag: int) -> float:
        """Return the fraction that a tag holds; 0 where it holds none."""
        kind, count, raw = self.values.get(tag, (0, 0, b""))
        if kind != _RATIONAL or count != 1:
            return 0.0
        numerator, denominator = struct.unpack(f"{self.order}II", raw)
        return numerator / denominator if denominator else 0.0


def whole_numbers(order: str, kind: int, *numbers: int) -> Value:
    """Return whole numbers as the value of a tag."""
    return kind, len(numbers), struct.pack(f"{order}{len(numbers)}{_TYPE_CODES[kind]}", *numbers)


def resolution_values(order: str, dpi: tuple[float, float]) -> dict[int, Value]:
    """Return the three tags that state a resolution in pixels per inch."""
    values = {RESOLUTION_UNIT: whole_numbers(order, 3, 2)}
    for tag, value in zip((X_RESOLUTION, Y_RESOLUTION), dpi, strict=True):
        fraction = Fraction(value).limit_denominator(10_000)
        values[tag] = _RATIONAL, 1, struct.pack(f"{order}II", fraction.numerator, fraction.denominator)
    return values


def read_ifds(data: bytes | mmap.mmap) -> list[Ifd]:
    """Read the chain of directories of a TIFF file or of an EXIF block (classic and BigTIFF)."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        raise ValueError("it does not begin with a TIFF header")
    big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    ifds: list[Ifd] = []
    seen: set[int] = set()
    at = _unpack(f"{order}{'Q' if big else 'I'}", data, 8 if big else 4)
    while at:
        if at in seen:
            raise ValueError("its directories form a circle")
        seen.add(at)
        ifd, at = _read_ifd(data, at, order, big=big, depth=0)
        ifds.append(ifd)
    if not ifds:
        raise ValueError("it has no directory")
    return ifds


def _read_ifd(data: bytes | mmap.mmap, at: int, order: str, *, big: bool, depth: int) -> tuple[Ifd, int]:
    """Return the directory at offset `at` and the offset of the next one (0: none)."""
    word = "Q" if big else "I"
    head, word_bytes = struct.calcsize(f"={'Q' if big else 'H'}"), struct.calcsize(f"={word}")
    values: dict[int, Value] = {}
    children: dict[int, Ifd] = {}
    count = _unpack(f"{order}{'Q' if big else 'H'}", data, at)
    entry = 4 + 2 * word_bytes
    if at + head + count * entry > len(data):
        raise ValueError(f"it ends after {len(data)} bytes, inside a directory")
    for place in range(at + head, at + head + count * entry, entry):
        tag, kind = struct.unpack_from(f"{order}HH", data, place)
        number = _unpack(f"{order}{word}", data, place + 4)
        size = _TYPE_BYTES.get(kind, 0) * number
        if size == 0:
            continue
        start = (
            place + 4 + word_bytes if size <= word_bytes else _unpack(f"{order}{word}", data, place + 4 + word_bytes)
        )
        if start + size > len(data):
            raise ValueError(f"it ends after {len(data)} bytes, before the value of tag {tag}")
        values[tag] = (kind, number, data[start : start + size])
        if tag in _SUB_IFDS and depth < 3 and kind in _TYPE_CODES:
            child = struct.unpack(f"{order}{_TYPE_CODES[kind]}", values[tag][2][: _TYPE_BYTES[kind]])[0]
            children[tag] = _read_ifd(data, child, order, big=big, depth=depth + 1)[0]
    end = at + head + count * entry
    following = _unpack(f"{order}{word}", data, end) if end + word_bytes <= len(data) else 0
    return Ifd(order, values, children), following


def write_ifd(ifd: Ifd, strip: bytes = b"") -> bytes:
    """Return a TIFF file or EXIF block: header, `strip`, then `ifd` with everything that it points at."""
    body = bytearray(strip + b"\x00" * (len(strip) % 2))
    if len(body) > 0xFF000000:  # leaves space for the tags
        raise ValueError(f"expected at most 4 GB of pixels in a TIFF file, got {len(body)} bytes")
    at = _append_ifd(ifd, body)
    mark = b"II" if ifd.order == "<" else b"MM"
    return mark + struct.pack(f"{ifd.order}HI", 42, at) + bytes(body)


def _append_ifd(ifd: Ifd, body: bytearray) -> int:
    """Append a directory, its children and long values to `body`; return its offset in the file."""
    children = {tag: _append_ifd(child, body) for tag, child in ifd.children.items() if tag in ifd.values}
    entries: list[bytes] = []
    for tag in sorted(ifd.values):  # TIFF requires this order
        kind, count, raw = ifd.values[tag]
        if kind == 16:  # BigTIFF's long words
            kind, raw = 4, struct.pack(f"{ifd.order}{count}I", *ifd.numbers(tag))
        if tag in children:
            kind, count, raw = 4, 1, struct.pack(f"{ifd.order}I", children[tag])
        if len(raw) > 4:
            offset = 8 + len(body)
            body += raw + b"\x00" * (len(raw) % 2)
            raw = struct.pack(f"{ifd.order}I", offset)
        entries.append(struct.pack(f"{ifd.order}HHI", tag, kind, count) + raw.ljust(4, b"\x00"))
    at = 8 + len(body)
    body += struct.pack(f"{ifd.order}H", len(entries)) + b"".join(entries) + b"\x00\x00\x00\x00"
    return at


def _unpack(code: str, data: bytes | mmap.mmap, at: int) -> int:
    """Return the whole number at offset `at`."""
    if at < 0 or at + struct.calcsize(code) > len(data):
        raise ValueError(f"it ends after {len(data)} bytes, but points at byte {at}")
    value: int = struct.unpack_from(code, data, at)[0]
    return value
