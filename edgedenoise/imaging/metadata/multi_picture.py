"""The index (MPF) of further images in a JPEG file.

It counts from its own place in the file, and states the length of the first image. Both change when the first image is
written again.
"""

from __future__ import annotations

import struct
from typing import Final

from edgedenoise.imaging.metadata.ifd import read_ifds

PREFIX: Final = b"MPF\x00"
"""Beginning of the APP2 segment that holds the index."""
_ENTRIES: Final = 0xB002
_ENTRY_BYTES: Final = 16


def moved_index(index: bytes, old_end: int, old_base: int, new_end: int, new_base: int) -> bytes | None:
    """Return the index of further images for a first image of another length.

    Args:
        index: the index, beginning with its TIFF header.
        old_end: offset behind the first image in the file that was read.
        old_base: offset of the index in that file.
        new_end: offset behind the first image in the file to write.
        new_base: offset of the index in that file.

    Returns:
        The index of the same length; None where it is damaged or does not fit.
    """
    try:
        ifd = read_ifds(index)[0]
    except ValueError:
        return None
    entries = ifd.raw(_ENTRIES)
    if entries is None or len(entries) % _ENTRY_BYTES:
        return None
    order, shift = ifd.order, (new_end - new_base) - (old_end - old_base)
    changed = bytearray(entries)
    for at in range(0, len(entries), _ENTRY_BYTES):
        size, offset = struct.unpack_from(f"{order}II", entries, at + 4)
        if at == 0:
            size = new_end
        elif offset + old_base >= old_end:
            offset += shift
        if not 0 <= offset < 1 << 32:
            return None
        struct.pack_into(f"{order}II", changed, at + 4, size, offset)
    place = index.find(entries)
    return index[:place] + bytes(changed) + index[place + len(entries) :]
