"""Maker notes of cameras: private directories in EXIF whose offsets count from the start of the file.

A maker note that moves in its file breaks unless these offsets move along. Notes with a header of their own (Nikon,
Olympus, Fujifilm, Apple) count from that header, and may be anywhere.
"""

from __future__ import annotations

import struct
from typing import Final

MAKER_NOTE: Final = 37500
"""Tag of the maker note in the EXIF directory."""

_HEADER_BYTES: Final = (0, 8, 12, 6, 10, 14)  # Canon, Olympus and Samsung; old Olympus; Sony and Panasonic; Pentax
_TYPE_BYTES: Final = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4)
_MAX_ENTRIES: Final = 1000


def moved(note: bytes, order: str, old: int, new: int) -> bytes:
    """Return a maker note for another place in its file.

    Args:
        note: the bytes of the note.
        order: byte order of the EXIF block.
        old: offset of the note in the file that it was read from.
        new: offset of the note in the file to write.

    Returns:
        The note with its offsets moved; the same note where it holds no offsets that count from the start of the file.
    """
    if old == new:
        return note
    for start in _HEADER_BYTES:
        for byte_order in (order, "<" if order == ">" else ">"):
            places = _offset_places(note, byte_order, start, old)
            if places:
                changed = bytearray(note)
                for place in places:
                    (offset,) = struct.unpack_from(f"{byte_order}I", note, place)
                    struct.pack_into(f"{byte_order}I", changed, place, offset + new - old)
                return bytes(changed)
    return note


def _offset_places(note: bytes, order: str, start: int, base: int) -> list[int]:
    """Return where a directory at `start` holds offsets into the note; none if it is no such directory."""
    if start + 2 > len(note):
        return []
    (count,) = struct.unpack_from(f"{order}H", note, start)
    if not 0 < count <= _MAX_ENTRIES or start + 2 + 12 * count > len(note):
        return []
    inside, outside = [], 0
    for place in range(start + 2, start + 2 + 12 * count, 12):
        _, kind, number, offset = struct.unpack_from(f"{order}HHII", note, place)
        if not 0 < kind < len(_TYPE_BYTES):
            return []
        size = _TYPE_BYTES[kind] * number
        if size > 4:
            if base <= offset and offset + size <= base + len(note):
                inside.append(place + 8)
            else:
                outside += 1
    return inside if len(inside) > 2 * outside else []
