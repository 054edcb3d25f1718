"""TIFF's table of tags (image file directory), which EXIF uses too: read and written as bytes.

Classic TIFF and BigTIFF are read, classic TIFF is written. A file that breaks the format's rules raises
`ValueError`, and the caller adds the file's name.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from edgedenoise.imaging.metadata import maker_notes
from edgedenoise.imaging.metadata.embedded import stated_dpi

if TYPE_CHECKING:
    import mmap
    from collections.abc import Mapping

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_TYPE_CODES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_LONG_WORDS = frozenset({16, 18})
_WORD_BYTES = {3: 2, 4: 4, 5: 4, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}  # swapped as one
_RATIONAL = 5
EXIF_IFD, GPS_IFD = 34665, 34853
_SUB_IFDS = frozenset({EXIF_IFD, GPS_IFD, 40965})  # the last is interoperability
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
_SUB_IMAGES = 330
_MAX_ENTRIES_PER_DIRECTORY, _MAX_ENTRIES = 4096, 500_000  # TIFF has a few hundred tags, and stacks thousands of pages
_MAX_VALUE_SHARE = 2  # values overlap rarely, so that together they are no longer than the file
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
    sub_images: tuple[Ifd, ...] = ()
    """Directories of further images that belong to this one: previews, pyramids, and the raw data of a camera."""
    note_at: int | None = None
    """Offset of the maker note in the file that was read."""
    end: int = 0
    """Offset behind the directory, its values and those of its children in the file that was read."""

    def numbers(self, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Return the whole numbers that a tag holds."""
        if tag not in self.values:
            return default
        kind, count, raw = self.values[tag]
        if kind not in _TYPE_CODES:
            raise ValueError(f"expected whole numbers in tag {tag}, got type {kind}")
        return struct.unpack(f"{self.order}{count}{_TYPE_CODES[kind]}", raw)

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


def read_ifds(data: bytes | mmap.mmap, *, sub_images: bool = False) -> list[Ifd]:
    """Read the chain of directories of a TIFF file or of an EXIF block (classic and BigTIFF).

    The work is bounded: directories and entries are counted, each directory is read once, and the values together
    may not be much longer than the file.

    Args:
        data: the whole file or block.
        sub_images: also read the directories that `SubIFDs` names, where raw files and previews are.

    Returns:
        The directories, in the order of the chain.

    Raises:
        ValueError: the file breaks the rules of TIFF.
    """
    return _Reader(data, sub_images=sub_images).chain()


class _Reader:
    """Reads the directories of one file and keeps count of the work."""

    def __init__(self, data: bytes | mmap.mmap, *, sub_images: bool) -> None:
        order = {b"II": "<", b"MM": ">"}.get(data[:2])
        if order is None or len(data) < 8:
            raise ValueError("it does not begin with a TIFF header")
        self.data, self.order, self.sub_images = data, order, sub_images
        self.big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
        self.word = "Q" if self.big else "I"
        self.word_bytes = struct.calcsize(f"={self.word}")
        self.entries_left = _MAX_ENTRIES
        self.bytes_left = _MAX_VALUE_SHARE * len(data)
        self.read: dict[int, tuple[Ifd, int]] = {}
        self.reading: set[int] = set()
        self.slices: dict[tuple[int, int], bytes] = {}

    def chain(self) -> list[Ifd]:
        """Return the directories that the header leads to."""
        ifds: list[Ifd] = []
        seen: set[int] = set()
        at = self.unpack(self.word, 8 if self.big else 4)
        while at:
            if at in seen:
                raise ValueError("its directories form a circle")
            seen.add(at)
            ifd, at = self.directory(at, depth=0)
            ifds.append(ifd)
        if not ifds:
            raise ValueError("it has no directory")
        return ifds

    def directory(self, at: int, depth: int) -> tuple[Ifd, int]:
        """Return the directory at offset `at` and the offset of the next one (0: none)."""
        if at in self.read:
            return self.read[at]
        if at in self.reading:
            raise ValueError("its directories form a circle")
        self.reading.add(at)
        head, entry = (8 if self.big else 2), 4 + 2 * self.word_bytes
        count = self.unpack("Q" if self.big else "H", at)
        if at + head + count * entry > len(self.data):
            raise ValueError(f"it ends after {len(self.data)} bytes, inside a directory")
        self.entries_left -= count
        if count > _MAX_ENTRIES_PER_DIRECTORY or self.entries_left < 0:
            raise ValueError(
                f"it has too many tags: expected at most {_MAX_ENTRIES_PER_DIRECTORY} in a directory and"
                f" {_MAX_ENTRIES} in all"
            )
        values: dict[int, Value] = {}
        note_at: int | None = None
        end = at + head + count * entry
        furthest = end + self.word_bytes
        for place in range(at + head, at + head + count * entry, entry):
            tag, kind = struct.unpack_from(f"{self.order}HH", self.data, place)
            number = self.unpack(self.word, place + 4)
            size = _TYPE_BYTES.get(kind, 0) * number
            if size and tag not in values:  # of a tag that is repeated, the first counts
                start = place + 4 + self.word_bytes
                if size > self.word_bytes:
                    start = self.unpack(self.word, start)
                values[tag] = (kind, number, self.value(tag, start, size))
                furthest = max(furthest, start + size)
                if tag == maker_notes.MAKER_NOTE:
                    note_at = start
        following = self.unpack(self.word, end) if end + self.word_bytes <= len(self.data) else 0
        children, sub_images = self.children(values, depth), self.sub_directories(values, depth)
        furthest = max(furthest, *(ifd.end for ifd in (*children.values(), *sub_images)), 0)
        ifd = Ifd(self.order, values, children, sub_images, note_at, furthest)
        self.reading.remove(at)
        self.read[at] = ifd, following
        return ifd, following

    def value(self, tag: int, start: int, size: int) -> bytes:
        """Return the bytes of a value; directories that share a value share its bytes."""
        if start + size > len(self.data):
            raise ValueError(f"it ends after {len(self.data)} bytes, before the value of tag {tag}")
        if (start, size) not in self.slices:
            self.bytes_left -= size
            if self.bytes_left < 0:
                raise ValueError("the values of its tags overlap")
            self.slices[start, size] = self.data[start : start + size]
        return self.slices[start, size]

    def children(self, values: Mapping[int, Value], depth: int) -> dict[int, Ifd]:
        """Return the EXIF, GPS and interoperability directories that `values` point at."""
        children: dict[int, Ifd] = {}
        for tag in _SUB_IFDS & values.keys():
            offsets = self.offsets(values[tag])
            if offsets and depth < 3:
                children[tag] = self.directory(offsets[0], depth + 1)[0]
        return children

    def sub_directories(self, values: Mapping[int, Value], depth: int) -> tuple[Ifd, ...]:
        """Return the directories of further images that `values` point at."""
        if not self.sub_images or depth or _SUB_IMAGES not in values:
            return ()
        return tuple(self.directory(at, depth + 1)[0] for at in self.offsets(values[_SUB_IMAGES]))

    def offsets(self, value: Value) -> tuple[int, ...]:
        """Return the whole numbers of a value; none where it holds others."""
        kind, count, raw = value
        return struct.unpack(f"{self.order}{count}{_TYPE_CODES[kind]}", raw) if kind in _TYPE_CODES else ()

    def unpack(self, code: str, at: int) -> int:
        """Return the whole number at offset `at`."""
        if at < 0 or at + struct.calcsize(f"={code}") > len(self.data):
            raise ValueError(f"it ends after {len(self.data)} bytes, but points at byte {at}")
        value: int = struct.unpack_from(f"{self.order}{code}", self.data, at)[0]
        return value


def write_ifd(ifd: Ifd, strip: bytes = b"") -> bytes:
    """Return a TIFF file or EXIF block: header, `strip`, then `ifd` with everything that it points at."""
    start = 8 + len(strip) + len(strip) % 2
    body, at = ifd_bytes(ifd, start)
    mark = b"II" if ifd.order == "<" else b"MM"
    return mark + struct.pack(f"{ifd.order}HI", 42, at) + strip + bytes(len(strip) % 2) + body


def ifd_bytes(ifd: Ifd, start: int) -> tuple[bytes, int]:
    """Return a directory with everything that it points at, and the directory's offset in the file.

    Args:
        ifd: the directory; it comes last in the bytes, and ends with the offset of a next one: 0.
        start: offset of the bytes in the file, an even number.
    """
    body = bytearray()
    at = _append_ifd(ifd, body, start)
    return bytes(body), at


def in_order(ifd: Ifd, order: str) -> Ifd:
    """Return a directory in another byte order; values of bytes stay as they are."""
    values = {}
    for tag, (kind, count, raw) in ifd.values.items():
        width = _WORD_BYTES.get(kind, 1)
        swapped = raw if width == 1 else b"".join(raw[at : at + width][::-1] for at in range(0, len(raw), width))
        values[tag] = kind, count, swapped
    children = {tag: in_order(child, order) for tag, child in ifd.children.items()}
    return Ifd(order, values, children)


def _append_ifd(ifd: Ifd, body: bytearray, start: int) -> int:
    """Append a directory, its children and long values to `body`; return its offset in the file."""
    children = {tag: _append_ifd(child, body, start) for tag, child in ifd.children.items() if tag in ifd.values}
    entries: list[bytes] = []
    for tag in sorted(ifd.values):  # TIFF requires this order
        kind, count, raw = ifd.values[tag]
        if kind in _LONG_WORDS:  # of BigTIFF
            if max(ifd.numbers(tag)) >= 1 << 32:
                raise ValueError(f"tag {tag} holds a number that does not fit into 32 bits")
            kind, raw = 4, struct.pack(f"{ifd.order}{count}I", *ifd.numbers(tag))
        if tag in children:
            kind, count, raw = 4, 1, struct.pack(f"{ifd.order}I", children[tag])
        if len(raw) > 4:
            offset = start + len(body)
            if tag == maker_notes.MAKER_NOTE and ifd.note_at is not None:
                raw = maker_notes.moved(raw, ifd.order, ifd.note_at, offset)
            body += raw + b"\x00" * (len(raw) % 2)
            raw = struct.pack(f"{ifd.order}I", offset)
        entries.append(struct.pack(f"{ifd.order}HHI", tag, kind, count) + raw.ljust(4, b"\x00"))
    at = start + len(body)
    body += struct.pack(f"{ifd.order}H", len(entries)) + b"".join(entries) + b"\x00\x00\x00\x00"
    return at
