"""XMP packets as bytes: extended packets of JPEG, and claims about parts that a file no longer has.

Packets are changed by text search, so that all other bytes of them stay as they are.
"""

from __future__ import annotations

import hashlib
import re
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_GAIN_MAP: Final = b"http://ns.adobe.com/hdr-gain-map/1.0/"
_CONTAINER: Final = b"http://ns.google.com/photos/1.0/container/"
_CAMERA: Final = b"http://ns.google.com/photos/1.0/camera/"
_CLAIMS: Final = {_GAIN_MAP: rb"\w+", _CONTAINER: rb"Directory", _CAMERA: rb"(?:MotionPhoto|MicroVideo)\w*"}
"""Namespace -> names of the properties that describe data behind the image."""
_PART_BYTES: Final = 65_000
_MAIN: Final = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
    b' xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="%s"/></rdf:RDF></x:xmpmeta>'
    b'<?xpacket end="w"?>'
)


def without_claims(packet: bytes) -> bytes:
    """Return a packet that claims no gain map, motion-photo video or other data behind the image."""
    for namespace, names in _CLAIMS.items():
        for prefix in re.findall(rb"xmlns:([\w.-]+)\s*=\s*[\"']" + re.escape(namespace) + rb"[\"']", packet):
            name = re.escape(prefix) + rb":" + names
            packet = re.sub(rb"\s+" + name + rb"\s*=\s*(?:\"[^\"]*\"|'[^']*')", b"", packet)
            packet = re.sub(rb"<(" + name + rb")(?:\s[^>]*)?(?:/>|(?<!/)>.*?</\1\s*>)\s*", b"", packet, flags=re.DOTALL)
    return packet


def joined(packet: bytes, parts: Sequence[bytes]) -> bytes:
    """Return a packet with the properties of its extended packet.

    Args:
        packet: the main packet.
        parts: extended segments of a JPEG file, each with its digest, total length and offset in front.

    Returns:
        One packet; the main packet as it is where the extended one is incomplete.
    """
    found = re.search(rb"HasExtendedXMP\s*(?:=\s*[\"']|>)\s*([0-9A-Fa-f]{32})", packet)
    if found is None:
        return packet
    pieces = {struct.unpack_from(">I", part, 36)[0]: part[40:] for part in parts if part[:32] == found[1] and part[40:]}
    extended = b"".join(pieces[at] for at in sorted(pieces))
    if hashlib.md5(extended, usedforsecurity=False).hexdigest().upper().encode() != found[1].upper():
        return packet
    inner = re.search(rb"<rdf:RDF[^>]*>(.*)</rdf:RDF\s*>", extended, re.DOTALL)
    if inner is None:
        return packet
    packet = re.sub(rb"\s+[\w.-]+:HasExtendedXMP\s*=\s*(?:\"[^\"]*\"|'[^']*')", b"", packet)
    packet = re.sub(rb"<([\w.-]+:HasExtendedXMP)>.*?</\1>", b"", packet, flags=re.DOTALL)
    end = packet.rfind(b"</rdf:RDF")
    if end < 0:  # an RDF element without content
        return re.sub(rb"<(rdf:RDF[^>]*)/>", lambda match: b"<" + match[1] + b">" + inner[1] + b"</rdf:RDF>", packet)
    return packet[:end] + inner[1] + packet[end:]


def split(packet: bytes) -> tuple[bytes, list[bytes]]:
    """Return a short main packet and the extended segments that carry a packet too long for one JPEG segment."""
    body = re.sub(rb"<\?xpacket[^>]*\?>", b"", packet).strip()
    digest = hashlib.md5(body, usedforsecurity=False).hexdigest().upper().encode()
    parts = [
        digest + struct.pack(">II", len(body), at) + body[at : at + _PART_BYTES]
        for at in range(0, len(body), _PART_BYTES)
    ]
    return _MAIN % digest, parts
