"""HEIC and AVIF files as boxes: which parts of a file libraries leave out.

Libraries check the file. Here a box that breaks the rules ends the search.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from edgedenoise.imaging.metadata.embedded import notes_behind

if TYPE_CHECKING:
    from collections.abc import Iterator

    Box = tuple[bytes, int, int]

_STRUCTURE: Final = frozenset({b"ftyp", b"meta", b"mdat", b"idat", b"moov", b"free", b"skip", b"wide", b"pdin"})
"""Boxes of the file that hold the image, or nothing."""
_IMAGES: Final = frozenset({b"hvc1", b"av01", b"grid", b"iovl", b"iden", b"jpeg", b"avc1", b"unci", b"tmap", b"vvc1"})
_TONE_MAP, _EXIF, _MIME = b"tmap", b"Exif", b"mime"
_ALPHA: Final = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")
_DERIVED, _AUXILIARY, _THUMBNAIL = b"dimg", b"auxl", b"thmb"
_SRGB_PRIMARIES, _SRGB_TRANSFERS = frozenset({1, 2}), frozenset({1, 2, 6, 13})
"""Numbers of ITU-T H.273 for the colours that files without a profile are taken to have; 2 stands for unknown."""


def notes(data: bytes, *, has_profile: bool) -> tuple[str, ...]:
    """Return which parts of a file are not written back, each as a sentence.

    Args:
        data: the whole file.
        has_profile: whether the image has a colour profile, which replaces the numbers of its colours.
    """
    boxes = list(_boxes(data, 0, len(data)))
    found: list[str] = []
    for kind, start, end in boxes:
        if kind == b"meta":
            found += _notes_on_items(data, start + 4, end, has_profile=has_profile)
    others = sorted({kind.decode("latin-1") for kind, _, _ in boxes} - {kind.decode() for kind in _STRUCTURE})
    if others:
        found.append(f"its boxes {', '.join(others)} are not kept")
    behind = data[max((end for _, _, end in boxes), default=0) :].strip(b"\x00")
    return (*dict.fromkeys(found), *notes_behind(len(behind)))


def _notes_on_items(data: bytes, start: int, end: int, *, has_profile: bool) -> Iterator[str]:
    """Yield what is not written back of the items that a `meta` box describes."""
    inner = {kind: (first, last) for kind, first, last in _boxes(data, start, end)}
    properties = list(_properties(data, *inner.get(b"iprp", (0, 0))))
    items = dict(_items(data, *inner.get(b"iinf", (0, 0))))
    links = list(_references(data, *inner.get(b"iref", (0, 0))))
    kinds = list(items.values())
    if _TONE_MAP in kinds:
        yield "its gain map for bright screens (HDR) is not kept"
    for name in (data[first + 4 : last].partition(b"\x00")[0] for kind, first, last in properties if kind == b"auxC"):
        if name not in _ALPHA:
            yield f"its auxiliary image {name.decode('latin-1')} is not kept"
    if any(kind == _THUMBNAIL for kind, _, _ in links):
        yield "its thumbnail is not kept"
    parts = {item for kind, item, _ in links if kind in {_AUXILIARY, _THUMBNAIL}}
    parts |= {target for kind, _, targets in links if kind == _DERIVED for target in targets}
    whole = [item for item, kind in items.items() if kind in _IMAGES and kind != _TONE_MAP and item not in parts]
    if len(whole) > 1:
        yield f"{len(whole) - 1} further images in it are not kept"
    others = sorted({kind.decode("latin-1") for kind in kinds if kind not in {*_IMAGES, _EXIF, _MIME}})
    if others or kinds.count(_MIME) > 1:
        yield f"its items {', '.join([*others, *['mime'] * (kinds.count(_MIME) > 1)])} are not kept"
    for kind, first, last in properties:
        if kind == b"colr" and data[first : first + 4] == b"nclx" and last - first >= 8 and not has_profile:
            primaries, transfer = struct.unpack_from(">HH", data, first + 4)
            if primaries not in _SRGB_PRIMARIES or transfer not in _SRGB_TRANSFERS:
                yield f"its colours (primaries {primaries}, transfer {transfer} of H.273) are written as those of sRGB"


def _boxes(data: bytes, at: int, end: int) -> Iterator[Box]:
    """Yield the kind of each box, and the start and the end of its content."""
    while at + 8 <= end:
        size, kind, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        size = size or end - at
        if size < head or at + size > end or not kind.isascii():
            return
        yield kind, at + head, at + size
        at += size


def _properties(data: bytes, start: int, end: int) -> Iterator[Box]:
    """Yield the properties of all items."""
    for kind, first, last in _boxes(data, start, end):
        if kind == b"ipco":
            yield from _boxes(data, first, last)


def _items(data: bytes, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the kind of each item."""
    for kind, first, last in _boxes(data, start + (6 if data[start : start + 1] == b"\x00" else 8), end):
        version = data[first]
        wide = 4 if version == 3 else 2
        if kind == b"infe" and version in {2, 3} and last - first >= 4 + wide + 6:
            number = int.from_bytes(data[first + 4 : first + 4 + wide], "big")
            yield number, data[first + 6 + wide : first + 10 + wide]


def _references(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, tuple[int, ...]]]:
    """Yield the kind of each reference between items, the item that it is from, and those that it is to."""
    wide = 2 if data[start : start + 1] == b"\x00" else 4
    for kind, first, last in _boxes(data, start + 4, end):
        count = int.from_bytes(data[first + wide : first + wide + 2], "big")
        places = range(first + wide + 2, min(last, first + wide + 2 + count * wide), wide)
        targets = tuple(int.from_bytes(data[at : at + wide], "big") for at in places)
        yield kind, int.from_bytes(data[first : first + wide], "big"), targets
