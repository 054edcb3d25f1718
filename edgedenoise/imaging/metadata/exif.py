"""EXIF blocks: the resolution that they state, changed without moving anything else in them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from edgedenoise.imaging.metadata.ifd import Ifd, Value, read_ifds, resolution_values, write_ifd

if TYPE_CHECKING:
    from collections.abc import Container

    from edgedenoise.imaging.metadata.embedded import Metadata

PREFIX: Final = b"Exif\x00\x00"
"""Marker in front of an EXIF block in JPEG and in some PNG and WEBP files."""
_TEXT_TAGS: Final = {
    "Description": 270,
    "Title": 269,
    "Comment": 270,
    "Software": 305,
    "Author": 315,
    "Copyright": 33432,
}


def exif_dpi(exif: bytes | None) -> tuple[float, float] | None:
    """Return the resolution that an EXIF block states; None where it states none or cannot be read."""
    if exif is None:
        return None
    try:
        return read_ifds(exif)[0].dpi()
    except ValueError:  # the block is copied as it is, readable or not
        return None


def text_values(metadata: Metadata, present: Container[int]) -> tuple[dict[int, Value], tuple[str, ...]]:
    """Return comments and texts as tags of TIFF and EXIF, and the keywords of those that no tag holds.

    Args:
        metadata: the metadata of another format.
        present: tags that are there already, and are not replaced.
    """
    values: dict[int, Value] = {}
    left: list[str] = []
    comments = [("Comment", comment.decode("utf-8", "replace")) for comment in metadata.comments]
    for keyword, text in (*metadata.texts, *comments):
        tag = _TEXT_TAGS.get(keyword)
        if tag is None or tag in present or tag in values:
            left.append(keyword)
        else:
            raw = text.encode() + b"\x00"
            values[tag] = (2, len(raw), raw)
    return values, tuple(left)


def with_texts(exif: bytes | None, metadata: Metadata) -> bytes | None:
    """Return an EXIF block that also states comments and texts, for formats that have no other place for them."""
    try:
        ifd = read_ifds(exif)[0] if exif else Ifd("<", {}, {})
    except ValueError:
        return exif
    values, _ = text_values(metadata, ifd.values)
    if not values:
        return exif
    if exif is None:
        return write_ifd(Ifd("<", values, {}))
    return _with_tags(exif, ifd.order, values) if exif[2:4] in {b"*\x00", b"\x00*"} else exif


def with_dpi(exif: bytes | None, dpi: tuple[float, float]) -> bytes:
    """Return an EXIF block that states `dpi`, for formats that store a resolution nowhere else.

    A block that states about the same already, and one that cannot be read, is returned as it is. Otherwise only the
    first directory is written anew, behind the block: maker notes hold offsets and break when they are moved.
    """
    if exif is None:
        return write_ifd(Ifd("<", resolution_values("<", dpi), {}))
    stated = exif_dpi(exif)
    if stated is not None and all(abs(a - b) < 0.5 for a, b in zip(stated, dpi, strict=True)):
        return exif
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(exif[:4])
    try:
        read_ifds(exif)
    except ValueError:
        return exif
    return exif if order is None else _with_tags(exif, order, resolution_values(order, dpi))


def _with_tags(exif: bytes, order: str, values: dict[int, Value]) -> bytes:
    """Return a classic EXIF block whose first directory has other `values`; all other bytes stay in place."""
    (at,) = struct.unpack_from(f"{order}I", exif, 4)
    (count,) = struct.unpack_from(f"{order}H", exif, at)
    entries = {}
    for start in range(at + 2, at + 2 + 12 * count, 12):
        entries[struct.unpack_from(f"{order}H", exif, start)[0]] = exif[start : start + 12]
    following = exif[at + 2 + 12 * count :][:4].ljust(4, b"\x00")
    body = bytearray(exif + b"\x00" * (len(exif) % 2))
    for tag, (kind, number, raw) in values.items():
        stored = raw.ljust(4, b"\x00")
        if len(raw) > 4:
            stored = struct.pack(f"{order}I", len(body))
            body += raw
        entries[tag] = struct.pack(f"{order}HHI", tag, kind, number) + stored
    body[4:8] = struct.pack(f"{order}I", len(body))
    body += struct.pack(f"{order}H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + following
    return bytes(body)
