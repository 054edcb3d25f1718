"""Image files decoded by rows through libvips, so that memory does not grow with the image.

libvips decodes the pixels alone. Metadata are read by our own code, which keeps them byte for byte.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgedenoise.imaging.headers import HEAD_BYTES, check_pixel_count, format_of, tiff_layout
from edgedenoise.imaging.layout import Layout
from edgedenoise.imaging.metadata import jpeg, png, tiff
from edgedenoise.imaging.metadata.encoding import JpegEncoding, encoding_of, tiff_encoding
from edgedenoise.imaging.metadata.ifd import read_ifds
from edgedenoise.imaging.metadata.tiff_pages import (
    BITS,
    COMPRESSION,
    PHOTOMETRIC,
    PLANAR,
    SAMPLE_FORMAT,
    SAMPLES,
    check_pixels_are_complete,
    is_raw,
    notes_on_pages,
)
from edgedenoise.imaging.optional import import_io
from edgedenoise.imaging.pixel_rows import PixelRows
from edgedenoise.imaging.readers.decoding import errors_of
from edgedenoise.imaging.readers.jpeg_scans import check_scans
from edgedenoise.imaging.readers.raw import RAW_EXTENSIONS
from edgedenoise.imaging.row_files import ImageRows

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray


_DTYPES: Final[dict[int, tuple[str, np.dtype[Any]]]] = {8: ("uchar", np.dtype("u1")), 16: ("ushort", np.dtype("u2"))}
_BASELINE: Final = frozenset({b"\xff\xc0", b"\xff\xc1", b"\xff\xc2"})
_LOSSLESS: Final = frozenset({1, 5, 8, 32773, 32946})  # none, LZW, Deflate, PackBits, old Deflate
_PURPOSE: Final = "reading an image by rows"


def open_by_rows(path: Path, name: str, max_pixels: int) -> ImageRows | None:
    """Open a file whose pixels are decoded by rows.

    Args:
        path: PNG, JPEG or TIFF.
        name: what messages call it.
        max_pixels: largest number of pixels that is accepted.

    Returns:
        The image; None where the file is of a kind that has to be decoded whole: interlaced, with alpha or a palette,
        CMYK, floating point, of several pages, and other formats.

    Raises:
        OSError: the file cannot be read.
        ImageError: it is too large.
        DamagedImageError: it is cut short or corrupt.
        RuntimeUnavailableError: the `large` extra is not installed.
    """
    with path.open("rb") as stream:
        format_ = format_of(stream.read(HEAD_BYTES)) or ""
        reader = _READERS.get(format_)
        if reader is None or path.suffix.lower() in RAW_EXTENSIONS:
            return None
        pyvips = import_io("pyvips", _PURPOSE)
        with errors_of(format_, name):
            image = reader(path, stream)
            if image is None:
                return None
            check_pixel_count(image.layout, name, max_pixels)
            opened = _opened(pyvips, stream.fileno())
            layout = image.layout
            found = opened.width, opened.height, opened.bands, opened.format
            if found != (layout.width, layout.height, layout.channels, _DTYPES[layout.bits][0]):
                return None
    return image


def _opened(pyvips: Any, descriptor: int) -> Any:
    """Open the image of a file for one pass from top to bottom.

    Raises:
        ValueError: it is damaged.
    """
    try:
        source = pyvips.Source.new_from_descriptor(descriptor)
        return pyvips.Image.new_from_source(source, "", access="sequential", fail_on="error")
    except pyvips.Error as error:
        raise ValueError(_reason(error)) from error


def _rows(path: Path, layout: Layout, format_: str) -> PixelRows:
    """Return the rows of a file, which is opened anew for each pass."""
    dtype = _DTYPES[layout.bits][1]

    def start(rows: int) -> Iterator[NDArray[Any]]:
        pyvips = import_io("pyvips", _PURPOSE)
        with path.open("rb") as stream, errors_of(format_, str(path)):
            region = pyvips.Region.new(_opened(pyvips, stream.fileno()))
            for top in range(0, layout.height, rows):
                count = min(rows, layout.height - top)
                try:
                    band = region.fetch(0, top, layout.width, count)
                except pyvips.Error as error:
                    raise ValueError(_reason(error)) from error
                yield np.frombuffer(band, dtype).reshape(count, layout.width, layout.channels)

    return PixelRows(layout.height, layout.width, layout.channels, dtype, start)


def _reason(error: Any) -> str:
    """Return what libvips reports, in one line."""
    detail = getattr(error, "detail", None) or str(error)
    return " ".join(str(detail).split())


def _open_png(path: Path, stream: io.BufferedReader) -> ImageRows | None:
    size = os.fstat(stream.fileno()).st_size
    chunks = png.read_chunks_of(stream, size)
    metadata = png.read_metadata(chunks, bytes_behind=size - stream.tell())
    header = chunks[0][1]
    width, height = (int.from_bytes(header[at : at + 4], "big") for at in (0, 4))
    bits, colour, interlaced = header[8], header[9], header[12]
    if bits not in _DTYPES or colour not in {0, 2} or interlaced or {b"tRNS", b"acTL"} & {kind for kind, _ in chunks}:
        return None
    layout = Layout(width, height, 1 if colour == 0 else 3, bits, False)
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        encoding = encoding_of(data, "PNG")
    return ImageRows(_rows(path, layout, "PNG"), metadata, "PNG", encoding)


def _open_jpeg(path: Path, stream: io.BufferedReader) -> ImageRows | None:
    stream.seek(0)
    data = stream.read()
    segments = jpeg.read_segments(data)
    marker, frame = jpeg.frame_header(segments) or (b"", b"")
    if marker not in _BASELINE or jpeg.bits_per_sample(segments) != 8 or frame[5] not in {1, 3}:
        return None
    height, width = (int.from_bytes(frame[at : at + 2], "big") for at in (1, 3))
    layout = Layout(width, height, frame[5], 8, False)
    check_scans(data, layout.pixels)
    metadata = replace(jpeg.read_metadata(segments, jpeg.late_segments(data)), trailer=jpeg.read_trailer(data))
    encoding = encoding_of(data, "JPEG")
    if isinstance(encoding, JpegEncoding) and encoding.progressive:
        note = "it is written as a sequential JPEG, because a progressive one needs the whole image in memory"
        metadata = replace(metadata, native_notes=(*metadata.native_notes, note))
    return ImageRows(_rows(path, layout, "JPEG"), metadata, "JPEG", encoding)


def _open_tiff(path: Path, stream: io.BufferedReader) -> ImageRows | None:
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        ifds, size = read_ifds(data, sub_images=True), len(data)
        raw = is_raw(ifds, data)
        notes = notes_on_pages(ifds, data)
    page = ifds[0]
    layout = tiff_layout(page)
    samples, bits = page.numbers(SAMPLES, (1,))[0], set(page.numbers(BITS, (1,)))
    plain = (
        not raw
        and len(ifds) == 1
        and not page.sub_images
        and len(bits) == 1
        and bits <= set(_DTYPES)
        and set(page.numbers(SAMPLE_FORMAT, (1,))) == {1}
        and (samples, page.numbers(PHOTOMETRIC, (0,))[0]) in {(1, 1), (3, 2)}
        and page.numbers(PLANAR, (1,))[0] == 1
        and page.numbers(COMPRESSION, (1,))[0] in _LOSSLESS
    )
    if not plain:
        return None
    check_pixels_are_complete(page, size)
    metadata = tiff.read_metadata(page)
    metadata = replace(metadata, notes=(*metadata.notes, *notes))
    return ImageRows(_rows(path, layout, "TIFF"), metadata, "TIFF", tiff_encoding(page))


_READERS: Final[dict[str, Callable[[Path, io.BufferedReader], ImageRows | None]]] = {
    "JPEG": _open_jpeg,
    "PNG": _open_png,
    "TIFF": _open_tiff,
}
