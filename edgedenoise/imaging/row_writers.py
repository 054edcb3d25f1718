"""Large images written by rows: PNG, JPEG and TIFF files of any size within the memory of a band.

A PNG file is filtered and compressed as libpng does it. A JPEG file is made of strips: each is encoded alone, and
restart markers join them, so the coefficients are those of the whole image. It is sequential: progressive files need
the whole image.
"""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
from PIL import Image as PILImage

from edgedenoise.imaging.metadata import jpeg, png
from edgedenoise.imaging.metadata.tiff import TiffPages
from edgedenoise.imaging.metadata.transfer import transferred
from edgedenoise.imaging.pixel_rows import regrouped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from edgedenoise.imaging.layout import Layout
    from edgedenoise.imaging.metadata.embedded import Metadata
    from edgedenoise.imaging.metadata.encoding import JpegEncoding
    from edgedenoise.imaging.row_files import ImageRows
    from edgedenoise.imaging.saving import SaveOptions

    Bands = Iterable[NDArray[Any]]

WRITTEN_BY_ROWS: Final = frozenset({"JPEG", "PNG", "TIFF"})
"""Formats that are written by rows."""
_PIECE_BYTES: Final = 1 << 20
_BAND_BYTES: Final = 1 << 17  # filters of PNG stay in the cache
_MCU_ROWS: Final = 8  # of a strip: restart markers are numbered modulo 8
_RESTART_7: Final = b"\xff\xd7"
_END: Final = b"\xff\xd9"


def write_bands(image: ImageRows, format_: str, stream: BinaryIO, options: SaveOptions) -> None:
    """Write an image as a file; one band of rows is in memory at a time.

    Args:
        image: the image; its rows are read once.
        format_: one of `WRITTEN_BY_ROWS`.
        stream: receives the file; it can be read and sought.
        options: compression of the file.

    Raises:
        ValueError: the format cannot hold the metadata of the image.
    """
    metadata = transferred(image.metadata, format_)
    rows = max(1, _BAND_BYTES // (image.layout.stored_bytes // image.layout.height))
    bands = image.pixels.start(rows)
    if format_ == "TIFF":
        TiffPages(stream, metadata, options.tiff(image)).add_rows(bands, image.layout, metadata)
    elif format_ == "PNG":
        _write_png(bands, image.layout, metadata, options.png(image).level, stream)
    else:
        _write_jpeg(bands, image.layout, metadata, options.jpeg(image), stream)


def _write_png(bands: Bands, layout: Layout, metadata: Metadata, level: int, stream: BinaryIO) -> None:
    colour = 0 if layout.channels == 1 else 2
    header = struct.pack(">IIBBBBB", layout.width, layout.height, layout.bits, colour, 0, 0, 0)
    stream.write(png.SIGNATURE)
    for block in ((b"IHDR", header), *png.blocks_of(metadata)):
        stream.write(png.chunk_bytes(*block))
    strategy = zlib.Z_FILTERED if level else zlib.Z_DEFAULT_STRATEGY
    compressor = zlib.compressobj(level, zlib.DEFLATED, zlib.MAX_WBITS, 9, strategy)
    waiting = bytearray()
    for rows in _png_rows(bands, layout, filtered=level > 0):
        waiting += compressor.compress(rows)
        if len(waiting) >= _PIECE_BYTES:
            stream.write(png.chunk_bytes(b"IDAT", bytes(waiting)))
            waiting.clear()
    stream.write(png.chunk_bytes(b"IDAT", bytes(waiting) + compressor.flush()))
    stream.write(png.chunk_bytes(b"IEND", b""))


def _png_rows(bands: Bands, layout: Layout, *, filtered: bool) -> Iterator[bytes]:
    """Yield the rows of bands as PNG stores them: a byte that names the filter, then the filtered bytes."""
    pixel_bytes = layout.channels * layout.bits // 8
    above = np.zeros(layout.width * pixel_bytes, np.uint8)
    for band in bands:
        raw = np.ascontiguousarray(band, f">u{layout.bits // 8}").view(np.uint8).reshape(len(band), -1)
        if filtered:
            kinds, rows = _png_filtered(raw, above, pixel_bytes)
        else:
            kinds, rows = np.zeros(len(raw), np.uint8), raw
        above = raw[-1]
        yield np.concatenate([kinds[:, None], rows], axis=1).tobytes()


def _png_filtered(
    raw: NDArray[np.uint8], above: NDArray[np.uint8], pixel_bytes: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return for each row the filter whose bytes are smallest, as libpng chooses it, and the filtered rows.

    The filters are those of the PNG specification, 9.2: none, Sub, Up, Average, Paeth.
    """
    up = np.concatenate([above[None], raw[:-1]])
    left, corner = (np.pad(rows[:, :-pixel_bytes], ((0, 0), (pixel_bytes, 0))) for rows in (raw, up))
    average = ((left.astype(np.uint16) + up) >> 1).astype(np.uint8)
    best, kinds, least = raw.copy(), np.zeros(len(raw), np.uint8), _png_cost(raw)
    for kind, predicted in enumerate((left, up, average, _paeth(left, up, corner)), start=1):
        rows = raw - predicted
        cost = _png_cost(rows)
        better = cost < least
        best[better], kinds[better], least[better] = rows[better], kind, cost[better]
    return kinds, best


def _png_cost(rows: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the sum of the bytes of each row as distances from 0 modulo 256."""
    return np.asarray(np.minimum(rows, np.uint8(0) - rows).sum(axis=1, dtype=np.int64))


def _paeth(left: NDArray[np.uint8], up: NDArray[np.uint8], corner: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the neighbour that is nearest to left + up - corner."""
    a, b, c = (values.astype(np.int16) for values in (left, up, corner))
    to_left, to_up = np.abs(b - c), np.abs(a - c)
    to_corner = np.abs(a + b - 2 * c)
    return np.where((to_left <= to_up) & (to_left <= to_corner), left, np.where(to_up <= to_corner, up, corner))


def _write_jpeg(bands: Bands, layout: Layout, metadata: Metadata, encoding: JpegEncoding, stream: BinaryIO) -> None:
    trailer = metadata.trailer if metadata.native_format == "JPEG" else None
    mcu_px = 16 if layout.channels == 3 and encoding.subsampling == 2 else 8
    start, head, written = stream.tell(), b"", b""
    for strip in regrouped(bands, _MCU_ROWS * mcu_px):
        file = _jpeg_strip(strip, metadata, encoding)
        at = jpeg.scan_start(file)
        if not head:
            head = jpeg.insert_blocks(jpeg.with_height(file[:at], layout.height), jpeg.blocks_of(metadata))
            written = jpeg.with_index(head, trailer, len(head))
            stream.write(written)
        else:
            stream.write(_RESTART_7)
        stream.write(file[at:].removesuffix(_END))
    stream.write(_END)
    end = stream.tell()
    indexed = jpeg.with_index(head, trailer, len(head) + end - start - len(written))
    if len(indexed) != len(written):
        raise ValueError("expected a JPEG of less than 4 GB with the index of its further images, got a longer one")
    stream.seek(start)
    stream.write(indexed)
    stream.seek(end)
    if trailer is not None:
        stream.write(trailer.data)


def _jpeg_strip(strip: NDArray[Any], metadata: Metadata, encoding: JpegEncoding) -> bytes:
    """Return a JPEG file of some rows, with a restart marker behind each row of blocks."""
    stream = BytesIO()
    pixels = PILImage.fromarray(np.ascontiguousarray(strip[..., 0] if strip.shape[2] == 1 else strip))
    options = {**encoding.options(), "progressive": False}
    pixels.save(stream, "JPEG", dpi=metadata.dpi or (0, 0), restart_marker_rows=1, **options)
    return stream.getvalue()
