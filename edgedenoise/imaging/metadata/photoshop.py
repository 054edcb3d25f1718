"""Photoshop's image resources, in which JPEG and TIFF files keep IPTC texts."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_IPTC: Final = 0x0404
_MARK: Final = b"8BIM"


def iptc_of(resources: bytes) -> bytes | None:
    """Return the IPTC record among image resources; None where there is none, or they are damaged."""
    return next((body for number, body in _resources(resources) if number == _IPTC), None)


def with_iptc(iptc: bytes) -> bytes:
    """Return image resources that hold an IPTC record alone."""
    return _MARK + struct.pack(">HHI", _IPTC, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)


def _resources(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (number, body) of each resource, up to the first damaged one."""
    at = 0
    while data[at : at + 4] == _MARK and at + 12 <= len(data):
        (number,) = struct.unpack_from(">H", data, at + 4)
        name_bytes = 1 + data[at + 6]
        at += 6 + name_bytes + name_bytes % 2
        if at + 4 > len(data):
            return
        (size,) = struct.unpack_from(">I", data, at)
        yield number, data[at + 4 : at + 4 + size]
        at += 4 + size + size % 2
