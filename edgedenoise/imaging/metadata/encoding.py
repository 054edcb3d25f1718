"""How an image file compresses its pixels, so that they are written back in the same way and at about the same size."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from edgedenoise.imaging.metadata import jpeg

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator

    from edgedenoise.imaging.metadata.embedded import Block
    from edgedenoise.imaging.metadata.ifd import Ifd

_TABLES, _PROGRESSIVE = b"\xff\xdb", b"\xff\xc2"


def _zigzag(place: int) -> tuple[int, int]:
    """Return what sorts the places of an 8 x 8 block, row by row, in the order of a JPEG file."""
    row, column = divmod(place, 8)
    return row + column, row if (row + column) % 2 else column


_ZIGZAG: Final = tuple(sorted(range(64), key=_zigzag))
NOT_COMPRESSED, LZW, DEFLATE, PACKBITS = 1, 5, 8, 32773
_TIFF_COMPRESSIONS: Final = {NOT_COMPRESSED: NOT_COMPRESSED, LZW: LZW, PACKBITS: PACKBITS}
_PNG_LEVELS: Final = (1, 4, 6, 9)  # by the two bits in which zlib states its level


@dataclass(frozen=True)
class JpegEncoding:
    """Compression of a JPEG file."""

    quality: int = 95
    """Quality from 1 to 100, where there are no tables."""
    tables: tuple[tuple[int, ...], ...] = ()
    """Quantization tables of the components, 64 numbers each, row by row."""
    subsampling: int = 0
    """Resolution of the colours: 0 for 4:4:4 (full), 1 for 4:2:2, 2 for 4:2:0."""
    progressive: bool = False
    """Whether a viewer can show the image coarsely before it is complete."""

    def options(self) -> dict[str, Any]:
        """Return the options of Pillow for a JPEG file."""
        chosen = {"qtables": [list(table) for table in self.tables]} if self.tables else {"quality": self.quality}
        return {**chosen, "subsampling": self.subsampling, "progressive": self.progressive}


@dataclass(frozen=True)
class WebpEncoding:
    """Compression of a WebP file."""

    quality: int | None = None
    """Quality from 1 to 100; None for a file without loss."""


@dataclass(frozen=True)
class PngEncoding:
    """Compression of a PNG file."""

    level: int = 6
    """Effort from 0 (not compressed) to 9."""


@dataclass(frozen=True)
class TiffEncoding:
    """Compression of a TIFF file."""

    compression: int = NOT_COMPRESSED
    """Value of the tag Compression."""
    predictor: bool = False
    """Whether differences of neighbouring pixels are compressed instead of pixels, by LZW and Deflate."""

    @property
    def has_predictor(self) -> bool:
        """Whether differences are stored."""
        return self.predictor and self.compression in {LZW, DEFLATE}


Encoding = JpegEncoding | WebpEncoding | PngEncoding | TiffEncoding


def encoding_of(data: bytes | mmap.mmap, format_: str) -> Encoding | None:
    """Return how a sound file compresses its pixels; None for formats that compress in one way only.

    Of a TIFF file, each page is compressed by itself: see `tiff_encoding`.
    """
    if format_ == "JPEG":
        return _jpeg_encoding(jpeg.read_segments(data))
    if format_ == "WEBP":
        return _webp_encoding(data)
    if format_ == "PNG":
        return _png_encoding(data)
    return None


def tiff_encoding(ifd: Ifd) -> TiffEncoding:
    """Return how a page of a TIFF file is compressed; Deflate for compressions that we do not write."""
    compression = _TIFF_COMPRESSIONS.get(ifd.numbers(259, (1,))[0], DEFLATE)
    return TiffEncoding(compression, ifd.numbers(317, (1,))[0] == 2)


def _jpeg_encoding(segments: list[Block]) -> JpegEncoding | None:
    marker, frame = jpeg.frame_header(segments) or (b"", b"")
    components = [frame[at : at + 3] for at in range(6, len(frame) - 2, 3)]
    tables = {number: table for kind, body in segments if kind == _TABLES for number, table in _quantization(body)}
    if len(components) not in {1, 3} or any(component[2] not in tables for component in components):
        return None
    chosen = [tables[component[2]] for component in components]
    if len(chosen) == 3 and chosen[1] == chosen[2]:
        del chosen[2]
    subsampling = jpeg.SUBSAMPLINGS.get(jpeg.sampling(segments), 0)
    return JpegEncoding(tables=tuple(chosen), subsampling=subsampling, progressive=marker == _PROGRESSIVE)


def _quantization(body: bytes) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield the number and the values of each table in a segment."""
    at = 0
    while at < len(body):
        wide, number = body[at] >> 4, body[at] & 15
        size = 128 if wide else 64
        if at + 1 + size > len(body):
            return
        values = struct.unpack_from(">64H" if wide else ">64B", body, at + 1)
        table = [0] * 64
        for place, value in zip(_ZIGZAG, values, strict=True):
            table[place] = value
        yield number, tuple(table)
        at += 1 + size


def _png_encoding(data: bytes | mmap.mmap) -> PngEncoding:
    at = data.find(b"IDAT") + 4
    level = _PNG_LEVELS[data[at + 1] >> 6]
    stored = data[at + 2] & 6 == 0  # the type of the first block
    return PngEncoding(0 if stored and level == 1 else level)


def _webp_encoding(data: bytes | mmap.mmap) -> WebpEncoding:
    at = 12
    while at + 8 <= len(data):
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if kind == b"VP8 ":
            return WebpEncoding(_webp_quality(data[at + 8 : at + 8 + length]))
        if kind == b"VP8L":
            return WebpEncoding()
        at += 8 + (16 if kind == b"ANMF" else length + length % 2)  # the pixels of a frame are within its chunk
    return WebpEncoding()


def _webp_quality(frame: bytes) -> int:
    """Return the quality that libwebp was given, as far as the quantizers of the first frame show it.

    The header is described in RFC 6386, 9.3 to 9.6; libwebp takes q = 127 (1 - c) where c is the cube root of 2/3 of
    the quality below 0.75, and of twice the quality less one above.
    """
    bits = _BoolDecoder(frame[10:])
    bits.take(2)  # colour space, clamping
    segments: list[int] = []
    absolute = False
    if bits.take(1):
        has_map, has_data = bits.take(1), bits.take(1)
        if has_data:
            absolute = bits.take(1) == 1
            segments = [bits.take_signed(7) for _ in range(4)]
            for _ in range(4):
                bits.take_signed(6)
        for _ in range(3 if has_map else 0):
            bits.take(8 if bits.take(1) else 0)
    bits.take(10)  # the loop filter: kind, level, sharpness
    if bits.take(1) and bits.take(1):
        for _ in range(8):
            bits.take_signed(6)
    bits.take(2)  # partitions
    base = bits.take(7)
    quantizers = [value if absolute else base + value for value in segments] or [base]
    linear = (1 - min(max(sum(quantizers) / len(quantizers) / 127, 0), 1)) ** 3
    quality = linear * 1.5 if linear < 0.5 else (linear + 1) / 2
    return min(max(math.ceil(100 * quality), 1), 100)


class _BoolDecoder:
    """Decoder of RFC 6386, 7.3, for bits of even probability."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._value = int.from_bytes(data[:2].ljust(2, b"\x00"), "big")
        self._at = 2
        self._range = 255
        self._shifted = 0

    def take(self, count: int) -> int:
        """Return an unsigned number of some bits."""
        number = 0
        for _ in range(count):
            number = number << 1 | self._bit()
        return number

    def take_signed(self, count: int) -> int:
        """Return an optional number with its sign: 0 where it is left out."""
        if not self._bit():
            return 0
        number = self.take(count)
        return -number if self._bit() else number

    def _bit(self) -> int:
        split = 1 + ((self._range - 1) >> 1)
        bit = int(self._value >= split << 8)
        if bit:
            self._range -= split
            self._value -= split << 8
        else:
            self._range = split
        while self._range < 128:
            self._value <<= 1
            self._range <<= 1
            self._shifted += 1
            if self._shifted == 8:
                self._shifted = 0
                self._value |= self._data[self._at] if self._at < len(self._data) else 0
                self._at += 1
        return bit
