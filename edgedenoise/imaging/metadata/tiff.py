"""TIFF files as bytes: their descriptive tags as an EXIF block, and a writer that keeps them."""

from __future__ import annotations

import struct
from dataclasses import replace
from io import BytesIO
from itertools import accumulate
from typing import TYPE_CHECKING, Any, BinaryIO

from edgedenoise.imaging.layout import Layout
from edgedenoise.imaging.metadata import photoshop
from edgedenoise.imaging.metadata.embedded import Metadata
from edgedenoise.imaging.metadata.encoding import NOT_COMPRESSED, TiffEncoding
from edgedenoise.imaging.metadata.exif import text_values
from edgedenoise.imaging.metadata.ifd import (
    EXIF_IFD,
    GPS_IFD,
    RESOLUTION_UNIT,
    X_RESOLUTION,
    Y_RESOLUTION,
    Ifd,
    ifd_bytes,
    in_order,
    read_ifds,
    resolution_values,
    whole_numbers,
    write_ifd,
)
from edgedenoise.imaging.metadata.tiff_pages import PIXEL_TAGS
from edgedenoise.imaging.metadata.tiff_strips import rows_per_strip, strips

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from edgedenoise.imaging.metadata.ifd import Value

_ORIENTATION, _XMP, _ICC, _IPTC, _PHOTOSHOP = 274, 700, 34675, 33723, 34377
# Tags that describe the image and not how this file stores its pixels: description, make, model, orientation,
# resolution, software, date, artist, host, rating, copyright, EXIF, GPS, the titles of Windows,
# the names of document and page, white point and primaries, and those of GeoTIFF and GDAL.
_DESCRIPTIVE = frozenset(
    {269, 270, 271, 272, 274, 285, 297, 305, 306, 315, 316, 18246, 18249, 33432}
    | {X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, EXIF_IFD, GPS_IFD}
    | {318, 319, 33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113}
    | set(range(40091, 40096))
)
# Kind of page, halftones, lowest and highest values, unused space, sub-images, padding: they describe the file.
_STORAGE = frozenset({254, 255, *range(263, 266), *range(280, 282), *range(288, 292), 330, 59932})
_BLOCKS = frozenset({_XMP, _ICC, _IPTC, _PHOTOSHOP})
_LAYERS = 37724
MAX_BYTES = 0xFF000000
"""Longest TIFF file that is written; its offsets have 32 bits."""


def read_metadata(ifd: Ifd) -> Metadata:
    """Return the metadata of a TIFF image; its descriptive tags become an EXIF block."""
    values = {tag: value for tag, value in ifd.values.items() if tag in _DESCRIPTIVE}
    exif = write_ifd(Ifd(ifd.order, values, ifd.children)) if values else None
    resources = ifd.raw(_PHOTOSHOP)
    iptc = ifd.raw(_IPTC) or (photoshop.iptc_of(resources) if resources else None)
    notes = notes_on_tags(ifd)
    return Metadata(ifd.raw(_ICC), exif, ifd.raw(_XMP), ifd.dpi(), iptc=iptc, photoshop=resources, notes=notes)


def notes_on_tags(ifd: Ifd) -> tuple[str, ...]:
    """Return which tags are not written back, in sentences."""
    others = set(ifd.values) - _DESCRIPTIVE - PIXEL_TAGS - _STORAGE - _BLOCKS
    found = ["its Photoshop layers are not kept"] if _LAYERS in others else []
    names = ", ".join(map(str, sorted(others - {_LAYERS})))
    return (*found, f"its TIFF tags {names} are not kept") if names else tuple(found)


def left_of_exif(exif: bytes) -> tuple[str, ...]:
    """Return the names of what an EXIF block holds that a TIFF page does not."""
    try:
        first, *others = read_ifds(exif)
    except ValueError:  # the block is refused when it is written
        return ()
    tags = set(first.values) - _DESCRIPTIVE - PIXEL_TAGS - _STORAGE - _BLOCKS
    names = [f"EXIF tags {', '.join(map(str, sorted(tags)))}"] if tags else []
    return (*names, "thumbnail in EXIF") if others else tuple(names)


def camera_metadata(ifd: Ifd) -> Metadata:
    """Return the metadata of a camera raw file from its first directory; the image is turned upright already."""
    values = {tag: value for tag, value in ifd.values.items() if tag in _DESCRIPTIVE - {_ORIENTATION}}
    exif = write_ifd(Ifd(ifd.order, values, ifd.children)) if values else None
    return Metadata(exif=exif, xmp=ifd.raw(_XMP))


def descriptive_tags(metadata: Metadata, order: str | None = None) -> Ifd:
    """Return the directory that carries `metadata` in a TIFF file, without the tags of the pixels.

    Args:
        metadata: the metadata of the page.
        order: byte order of the file; None for the one of the EXIF block.

    Raises:
        ValueError: the EXIF block is damaged, so that its tags cannot become the file's own.
    """
    source = read_ifds(metadata.exif)[0] if metadata.exif else Ifd(order or "<", {}, {})
    if order is not None and source.order != order:
        source = in_order(source, order)
    values = {tag: value for tag, value in source.values.items() if tag in _DESCRIPTIVE}
    if metadata.dpi is not None and metadata.dpi != source.dpi():
        values |= resolution_values(source.order, metadata.dpi)
    values |= text_values(metadata, values)[0]
    bodies = ((_ICC, 7, metadata.icc), (_XMP, 1, metadata.xmp), (_IPTC, 7, metadata.iptc))
    for tag, kind, body in (*bodies, (_PHOTOSHOP, 1, metadata.photoshop)):
        if body is not None:
            values[tag] = (kind, len(body), body)
    return replace(source, values=values, sub_images=())


def write_tiff(pixels: NDArray[Any], metadata: Metadata, *, alpha: bool, encoding: TiffEncoding | None = None) -> bytes:
    """Return a TIFF file of (H, W, C) uint8, uint16 or float32 pixels; the last channel may be alpha.

    Raises:
        ValueError: as `TiffPages.add`.
    """
    stream = BytesIO()
    TiffPages(stream, metadata, encoding).add(pixels, metadata, alpha=alpha)
    return stream.getvalue()


class TiffPages:
    """Writes a TIFF file page by page.

    The tags of the EXIF block become those of the page, as TIFF stores them. Neither Pillow (no 16-bit colour) nor
    tifffile (no EXIF directories) writes both. An EXIF block with a maker note is written at the start of the file as
    it is, so that the offsets in the note stay valid.
    """

    def __init__(self, stream: BinaryIO, metadata: Metadata, encoding: TiffEncoding | None = None) -> None:
        """Begin a file in `stream`, in the byte order of the EXIF block of its first page.

        Args:
            stream: receives the file.
            metadata: metadata of the first page.
            encoding: compression of all pages; None for none.
        """
        self._encoding = encoding or TiffEncoding()
        self._stream = stream
        self._start = stream.tell()
        first = descriptive_tags(metadata)
        self._order = first.order
        self._link = 4  # where the offset of the next directory belongs
        camera = first.children.get(EXIF_IFD)
        self._keeps_exif = camera is not None and camera.note_at is not None
        body = (metadata.exif or b"")[8:] if self._keeps_exif else b""
        stream.write((b"II*\x00" if self._order == "<" else b"MM\x00*") + bytes(4) + body + bytes(len(body) % 2))

    def add(self, pixels: NDArray[Any], metadata: Metadata, *, alpha: bool) -> None:
        """Append a page of (H, W, C) uint8, uint16 or float32 pixels; the last channel may be alpha.

        Raises:
            ValueError: the EXIF block is damaged, or the file would be larger than 4 GB.
        """
        height, width, channels = pixels.shape
        layout = Layout(width, height, channels - alpha, pixels.dtype.itemsize * 8, alpha)
        self.add_rows([pixels], layout, metadata)

    def add_rows(self, bands: Iterable[NDArray[Any]], layout: Layout, metadata: Metadata) -> None:
        """Append a page of a layout, whose rows come in bands (rows, W, C), alpha last; otherwise as `add`."""
        tags = descriptive_tags(metadata, self._order)
        if self._keeps_exif and self._link == 4:  # the directories of the first page are in the file, in their place
            tags = replace(tags, children={})
        at = self._stream.tell() - self._start
        if at + layout.stored_bytes > MAX_BYTES:
            raise ValueError(
                f"expected at most {MAX_BYTES} bytes of pixels in a TIFF file, got {at + layout.stored_bytes}"
            )
        encoding = replace(self._encoding, predictor=False) if layout.bits == 32 else self._encoding
        rows = rows_per_strip(layout, encoding)
        ordered = (band.astype(f"{self._order}{band.dtype.kind}{band.dtype.itemsize}", copy=False) for band in bands)
        lengths = [self._stream.write(strip) for strip in strips(ordered, rows, encoding)]
        if encoding.compression == NOT_COMPRESSED:
            lengths = [sum(lengths)]
        offsets = [at, *(at + length for length in accumulate(lengths[:-1]))]
        self._stream.write(bytes(sum(lengths) % 2))
        values = {**tags.values, **_layout_tags(self._order, layout)}
        values |= _strip_tags(self._order, rows, offsets, lengths, encoding)
        body, directory = ifd_bytes(Ifd(self._order, values, tags.children), self._stream.tell() - self._start)
        end = self._stream.tell() - self._start + len(body)
        self._stream.write(body)
        self._stream.seek(self._start + self._link)
        self._stream.write(struct.pack(f"{self._order}I", directory))
        self._stream.seek(self._start + end)
        self._link = end - 4  # the directory comes last, and its link last in it


def _strip_tags(
    order: str, rows: int, offsets: list[int], lengths: list[int], encoding: TiffEncoding
) -> dict[int, Value]:
    """Return the tags that describe where and how the pixels of a page are stored."""
    values = {
        259: whole_numbers(order, 3, encoding.compression),
        273: whole_numbers(order, 4, *offsets),
        278: whole_numbers(order, 4, rows),
        279: whole_numbers(order, 4, *lengths),
    }
    if encoding.has_predictor:
        values[317] = whole_numbers(order, 3, 2)
    return values


def _layout_tags(order: str, layout: Layout) -> dict[int, Value]:
    """Return the tags that describe the pixels of a page."""
    samples = layout.channels + layout.alpha
    values = {
        256: whole_numbers(order, 4, layout.width),
        257: whole_numbers(order, 4, layout.height),
        258: whole_numbers(order, 3, *[layout.bits] * samples),
        262: whole_numbers(order, 3, 2 if layout.channels == 3 else 1),  # RGB, or black is zero
        277: whole_numbers(order, 3, samples),
        284: whole_numbers(order, 3, 1),
    }
    if layout.bits == 32:
        values[339] = whole_numbers(order, 3, *[3] * samples)  # floating point
    if layout.alpha:
        values[338] = whole_numbers(order, 3, 2)  # not premultiplied
    return values
