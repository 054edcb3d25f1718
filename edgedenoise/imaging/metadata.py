"""What surrounds the pixels in a PNG, JPEG or TIFF file, handled as bytes.

`photo.py` decodes pixels with libraries, but libraries drop or rewrite what they do not know. Colour, camera
settings and captions belong to the photographer, so they are lifted out of the file and put back here, raw.
A file that ends too early or breaks its own rules raises `ValueError`; the caller knows the file's name.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

Block = tuple[bytes, bytes]
"""A PNG chunk (type, data) or a JPEG segment (marker, payload)."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_XMP_KEYWORD = b"XML:com.adobe.xmp"
# Chunks that are not marked safe-to-copy but describe the colours, which we do not change.
_PNG_COLOUR = frozenset({b"cHRM", b"gAMA", b"iCCP", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"tIME"})

EXIF_PREFIX = b"Exif\x00\x00"
_JPEG_XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\x00"
_JPEG_ICC_PREFIX = b"ICC_PROFILE\x00"
_JPEG_MAX_PAYLOAD = 65533
_APP1, _APP2, _APP13, _COM = b"\xff\xe1", b"\xff\xe2", b"\xff\xed", b"\xff\xfe"


# ---------------------------------------------------------------- PNG


def png_chunks(data: bytes) -> list[Block]:
    """Split a PNG file into its chunks and check every checksum, up to and with IEND.

    Pillow does not check the checksums of pixel data, and libpng only warns about some cuts.
    """
    chunks: list[Block] = []
    at = len(PNG_SIGNATURE)
    while not chunks or chunks[-1][0] != b"IEND":
        if at + 12 > len(data):
            raise ValueError(f"it ends after {len(data)} bytes, inside its chunk {len(chunks) + 1}")
        (length,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        if at + 12 + length > len(data):
            raise ValueError(f"it ends after {len(data)} bytes, inside its chunk {len(chunks) + 1}")
        (checksum,) = struct.unpack_from(">I", data, at + 8 + length)
        if zlib.crc32(body, zlib.crc32(kind)) != checksum:
            raise ValueError(f"the checksum of its chunk {len(chunks) + 1} is wrong")
        chunks.append((kind, body))
        at += 12 + length
    if chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        raise ValueError("it does not begin with an image header")
    return chunks


def png_descriptive(chunks: list[Block]) -> tuple[Block, ...]:
    """Return the chunks that stay true when only the pixels change.

    Ancillary chunks marked safe-to-copy (the fourth letter is small: PNG specification, 5.4), and the ones
    about colour. Those tied to a palette, a bit depth or an animation are left behind.
    """
    return tuple(
        (kind, body) for kind, body in chunks if kind[:1].islower() and (kind[3:4].islower() or kind in _PNG_COLOUR)
    )


def png_profiles(
    chunks: list[Block],
) -> tuple[bytes | None, bytes | None, bytes | None, tuple[float, float] | None]:
    """Return the ICC profile, the EXIF block, the XMP packet and the pixels per inch of a PNG file."""
    icc = exif = xmp = dpi = None
    for kind, body in chunks:
        if kind == b"iCCP":
            icc = _inflate(body.partition(b"\x00")[2][1:])
        elif kind == b"eXIf":
            exif = body.removeprefix(EXIF_PREFIX)
        elif kind == b"pHYs" and len(body) == 9 and body[8] == 1:  # per metre
            across, down = struct.unpack(">II", body[:8])
            dpi = (across * 0.0254, down * 0.0254)
        elif kind == b"iTXt" and body.startswith(_PNG_XMP_KEYWORD + b"\x00"):
            at = len(_PNG_XMP_KEYWORD) + 1
            text = body[at + 2 :].split(b"\x00", 2)[-1]  # after the language and the translated keyword
            xmp = _inflate(text) if body[at : at + 1] == b"\x01" else text
    return icc, exif, xmp, dpi


def png_bare(chunks: list[Block]) -> bytes:
    """Return a PNG file that has the pixels of `chunks`, with palette and transparency, and nothing else.

    Readers choke on what they do not need: Pillow refuses profiles and texts of more than a megabyte.
    """
    kept = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
    return PNG_SIGNATURE + b"".join(png_chunk(*chunk) for chunk in chunks if chunk[0] in kept)


def _inflate(data: bytes) -> bytes:
    """Decompress up to 64 MB."""
    decompressor = zlib.decompressobj()
    try:
        inflated = decompressor.decompress(data, 1 << 26)
    except zlib.error as error:
        raise ValueError(f"a profile in it cannot be decompressed ({error})") from error
    if not decompressor.eof:
        raise ValueError("a profile in it is cut short, or larger than 64 MB")
    return inflated


def png_insert(data: bytes, blocks: tuple[Block, ...]) -> bytes:
    """Return the PNG file `data` with `blocks` placed right after its header."""
    at = len(PNG_SIGNATURE) + 12 + 13
    return data[:at] + b"".join(png_chunk(*block) for block in blocks) + data[at:]


def png_from_profiles(icc: bytes | None, exif: bytes | None, xmp: bytes | None) -> tuple[Block, ...]:
    """Make the chunks that carry an ICC profile, EXIF and XMP from a file of another format."""
    blocks: list[Block] = []
    if icc is not None:
        blocks.append((b"iCCP", b"ICC Profile\x00\x00" + zlib.compress(icc)))
    if exif is not None:
        blocks.append((b"eXIf", exif))
    if xmp is not None:
        # keyword, not compressed, no language, no translated keyword
        blocks.append((b"iTXt", _PNG_XMP_KEYWORD + b"\x00\x00\x00\x00\x00" + xmp))
    return tuple(blocks)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """Return one chunk as it stands in a file: length, type, data, checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


# ---------------------------------------------------------------- JPEG


def jpeg_segments(data: bytes) -> list[Block]:
    """Split a JPEG file into the (marker, payload) segments that come before its first scan."""
    segments: list[Block] = []
    at = 2
    while True:
        while data[at : at + 2] == b"\xff\xff":  # any number of fill bytes may precede a marker
            at += 1
        marker = data[at : at + 2]
        if len(marker) < 2 or at + 4 > len(data):
            raise ValueError(f"it ends after {len(data)} bytes, before any pixels")
        if marker[:1] != b"\xff":
            raise ValueError(f"there is no marker at byte {at}, where one is due")
        if marker in {b"\xff\xda", b"\xff\xd9"}:
            return segments
        (length,) = struct.unpack_from(">H", data, at + 2)
        if length < 2:
            raise ValueError(f"the segment at byte {at} has no length")
        segments.append((marker, data[at + 4 : at + 2 + length]))
        at += 2 + length


def jpeg_bits(segments: list[Block]) -> int:
    """Return the bits per sample that the frame header declares (8 when there is none)."""
    frames = {bytes((0xFF, code)) for code in range(0xC0, 0xD0)} - {b"\xff\xc4", b"\xff\xc8", b"\xff\xcc"}
    return next((payload[0] for marker, payload in segments if marker in frames and payload), 8)


def jpeg_descriptive(segments: list[Block]) -> tuple[Block, ...]:
    """Return the segments that stay true when only the pixels change: EXIF, XMP, ICC, IPTC and comments.

    The index of further images in the file (APP2 'MPF') points at bytes that are not copied.
    """
    return tuple(
        (marker, payload)
        for marker, payload in segments
        if marker in {_APP1, _APP13, _COM} or (marker == _APP2 and payload.startswith(_JPEG_ICC_PREFIX))
    )


def jpeg_from_profiles(icc: bytes | None, exif: bytes | None, xmp: bytes | None) -> tuple[Block, ...]:
    """Make the segments that carry EXIF, XMP and an ICC profile from a file of another format.

    Raises:
        ValueError: EXIF or XMP is longer than a JPEG segment.
    """
    blocks: list[Block] = []
    for prefix, body, name in ((EXIF_PREFIX, exif, "EXIF"), (_JPEG_XMP_PREFIX, xmp, "XMP")):
        if body is not None:
            if len(prefix) + len(body) > _JPEG_MAX_PAYLOAD:
                raise ValueError(f"its {name} takes {len(body)} bytes and a JPEG holds at most 65 kB of it")
            blocks.append((_APP1, prefix + body))
    if icc is not None:
        room = _JPEG_MAX_PAYLOAD - len(_JPEG_ICC_PREFIX) - 2
        parts = [icc[at : at + room] for at in range(0, len(icc), room)]
        for number, part in enumerate(parts, start=1):
            blocks.append((_APP2, _JPEG_ICC_PREFIX + bytes((number, len(parts))) + part))
    return tuple(blocks)


def jpeg_insert(data: bytes, blocks: tuple[Block, ...]) -> bytes:
    """Return the JPEG file `data` with `blocks` placed after its start and JFIF header."""
    at = 2
    if data[2:4] == b"\xff\xe0":  # JFIF must come first
        at = 4 + struct.unpack_from(">H", data, 4)[0]
    middle = b"".join(marker + struct.pack(">H", len(body) + 2) + body for marker, body in blocks)
    return data[:at] + middle + data[at:]


# ---------------------------------------------------------------- TIFF (and EXIF, which is one)

_TYPE_BYTES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_TYPE_CODES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_EXIF_IFD, _GPS_IFD, _INTEROP_IFD = 34665, 34853, 40965
_SUB_IFDS = frozenset({_EXIF_IFD, _GPS_IFD, _INTEROP_IFD})
TIFF_XMP, TIFF_ICC = 700, 34675
# What describes the image, and not how this file stores its pixels: description, make, model,
# orientation, resolution, software, date, artist, host, rating, copyright, IPTC, Photoshop, EXIF, GPS, and
# Windows' own titles.
_TIFF_DESCRIPTIVE = frozenset(
    {270, 271, 272, 274, 282, 283, 296, 305, 306, 315, 316, 18246, 18249, 33432, 33723, 34377}
    | {_EXIF_IFD, _GPS_IFD}
    | set(range(40091, 40096))
)


@dataclass(frozen=True)
class Ifd:
    """An image file directory: TIFF's table of tags."""

    order: str
    """Byte order as `struct` writes it: '<' or '>'."""
    values: Mapping[int, tuple[int, int, bytes]]
    """Tag to (type, count, raw bytes in `order`)."""
    children: Mapping[int, Ifd]
    """Tags that point at a further directory: EXIF, GPS, interoperability."""

    def numbers(self, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Return the whole numbers that a tag holds."""
        if tag not in self.values:
            return default
        kind, count, raw = self.values[tag]
        if kind not in _TYPE_CODES:
            raise ValueError(f"tag {tag} is of type {kind}, where whole numbers are due")
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


def read_ifds(data: bytes) -> list[Ifd]:
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
            raise ValueError("its directories run in a circle")
        seen.add(at)
        ifd, at = _read_ifd(data, at, order, big=big, depth=0)
        ifds.append(ifd)
    if not ifds:
        raise ValueError("it has no directory")
    return ifds


def _read_ifd(data: bytes, at: int, order: str, *, big: bool, depth: int) -> tuple[Ifd, int]:
    """Return the directory at offset `at` and the offset of the next one (0: none)."""
    word = "Q" if big else "I"
    head, room = struct.calcsize(f"={'Q' if big else 'H'}"), struct.calcsize(f"={word}")
    values: dict[int, tuple[int, int, bytes]] = {}
    children: dict[int, Ifd] = {}
    count = _unpack(f"{order}{'Q' if big else 'H'}", data, at)
    entry = 4 + 2 * room
    if at + head + count * entry > len(data):
        raise ValueError(f"it ends after {len(data)} bytes, inside a directory")
    for place in range(at + head, at + head + count * entry, entry):
        tag, kind = struct.unpack_from(f"{order}HH", data, place)
        number = _unpack(f"{order}{word}", data, place + 4)
        size = _TYPE_BYTES.get(kind, 0) * number
        if size == 0:
            continue
        start = place + 4 + room if size <= room else _unpack(f"{order}{word}", data, place + 4 + room)
        if start + size > len(data):
            raise ValueError(f"it ends after {len(data)} bytes, before the value of tag {tag}")
        values[tag] = (kind, number, data[start : start + size])
        if tag in _SUB_IFDS and depth < 3 and kind in _TYPE_CODES:
            child = struct.unpack(f"{order}{_TYPE_CODES[kind]}", values[tag][2][: _TYPE_BYTES[kind]])[0]
            children[tag] = _read_ifd(data, child, order, big=big, depth=depth + 1)[0]
    end = at + head + count * entry
    following = _unpack(f"{order}{word}", data, end) if end + room <= len(data) else 0
    return Ifd(order, values, children), following


def exif_of_tiff(ifd: Ifd) -> bytes | None:
    """Return the tags of a TIFF image that describe the image, as an EXIF block."""
    values = {tag: value for tag, value in ifd.values.items() if tag in _TIFF_DESCRIPTIVE}
    return _classic(Ifd(ifd.order, values, ifd.children), b"") if values else None


def bare_tiff(data: bytes, ifd: Ifd) -> bytes:
    """Return a TIFF file that has the pixels of `ifd` and says nothing else about them.

    Pillow turns TIFF pixels by the orientation in EXIF or XMP; not knowing it, it leaves them as stored.
    """
    dropped = _TIFF_DESCRIPTIVE | {TIFF_XMP, TIFF_ICC}
    values = {tag: value for tag, value in ifd.values.items() if tag not in dropped}
    return _classic(Ifd(ifd.order, values, {}), data[8:])  # offsets stay: the new directory comes behind


def write_tiff(
    pixels: NDArray[np.unsignedinteger],
    *,
    alpha: bool,
    exif: bytes | None,
    icc: bytes | None,
    xmp: bytes | None,
) -> bytes:
    """Return an uncompressed TIFF file of (H, W, C) uint8 or uint16 pixels; the last channel may be alpha.

    The EXIF block's tags become the file's own, which is how TIFF keeps them. Written here because neither
    Pillow (no 16-bit colour) nor tifffile (no EXIF directories) writes both.
    """
    source = read_ifds(exif)[0] if exif else Ifd("<", {}, {})
    height, width, channels = pixels.shape
    order, bits = source.order, pixels.dtype.itemsize * 8
    colours = channels - alpha
    raw = pixels.astype(f"{order}u{pixels.dtype.itemsize}").tobytes()
    values = {tag: value for tag, value in source.values.items() if tag in _TIFF_DESCRIPTIVE}

    def put(tag: int, kind: int, *numbers: int) -> None:
        values[tag] = (kind, len(numbers), struct.pack(f"{order}{len(numbers)}{_TYPE_CODES[kind]}", *numbers))

    put(256, 4, width)
    put(257, 4, height)
    put(258, 3, *[bits] * channels)
    put(259, 3, 1)  # not compressed
    put(262, 3, 2 if colours == 3 else 1)  # RGB, or black is zero
    put(273, 4, 8)  # the one strip follows the header
    put(277, 3, channels)
    put(278, 4, height)
    put(279, 4, len(raw))
    put(284, 3, 1)
    if alpha:
        put(338, 3, 2)  # not premultiplied
    for tag, body in ((TIFF_ICC, icc), (TIFF_XMP, xmp)):
        if body is not None:
            values[tag] = (7 if tag == TIFF_ICC else 1, len(body), body)
    return _classic(Ifd(order, values, source.children), raw)


def _classic(ifd: Ifd, strip: bytes) -> bytes:
    """Return a TIFF file: header, `strip`, then `ifd` with everything that it points at."""
    body = bytearray(strip + b"\x00" * (len(strip) % 2))
    if len(body) > 0xFF000000:  # leaves package for the tags
        raise ValueError("a TIFF file holds at most 4 GB")
    at = _append_ifd(ifd, body)
    mark = b"II" if ifd.order == "<" else b"MM"
    return mark + struct.pack(f"{ifd.order}HI", 42, at) + bytes(body)


def _append_ifd(ifd: Ifd, body: bytearray) -> int:
    """Append a directory, its children and long values to `body`; return its offset in the file."""
    children = {tag: _append_ifd(child, body) for tag, child in ifd.children.items() if tag in ifd.values}
    entries: list[bytes] = []
    for tag in sorted(ifd.values):  # TIFF wants them in order
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


def _unpack(code: str, data: bytes, at: int) -> int:
    """Return the whole number at offset `at`."""
    if at < 0 or at + struct.calcsize(code) > len(data):
        raise ValueError(f"it ends after {len(data)} bytes, before byte {at} that it points at")
    value: int = struct.unpack_from(code, data, at)[0]
    return value
