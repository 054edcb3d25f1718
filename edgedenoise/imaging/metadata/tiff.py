"""TIFF files as bytes: their descriptive tags as an EXIF block, and a writer that keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedenoise.imaging.metadata.embedded import Metadata
from edgedenoise.imaging.metadata.ifd import (
    EXIF_IFD,
    GPS_IFD,
    RESOLUTION_UNIT,
    X_RESOLUTION,
    Y_RESOLUTION,
    Ifd,
    read_ifds,
    resolution_values,
    whole_numbers,
    write_ifd,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ORIENTATION, _XMP, _ICC = 274, 700, 34675
# Tags that describe the image and not how this file stores its pixels: description, make, model, orientation,
# resolution, software, date, artist, host, rating, copyright, IPTC, Photoshop, EXIF, GPS, and the titles of Windows.
_DESCRIPTIVE = frozenset(
    {270, 271, 272, 274, 305, 306, 315, 316, 18246, 18249, 33432, 33723, 34377}
    | {X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, EXIF_IFD, GPS_IFD}
    | set(range(40091, 40096))
)
METADATA_TAGS = _DESCRIPTIVE | {_XMP, _ICC}
"""Tags that `read_metadata` takes from a TIFF file."""


def read_metadata(ifd: Ifd) -> Metadata:
    """Return the metadata of a TIFF image; its descriptive tags become an EXIF block."""
    values = {tag: value for tag, value in ifd.values.items() if tag in _DESCRIPTIVE}
    exif = write_ifd(Ifd(ifd.order, values, ifd.children)) if values else None
    return Metadata(ifd.raw(_ICC), exif, ifd.raw(_XMP), ifd.dpi())


def camera_metadata(ifd: Ifd) -> Metadata:
    """Return the metadata of a camera raw file from its first directory; the image is turned upright already."""
    values = {tag: value for tag, value in ifd.values.items() if tag in _DESCRIPTIVE - {_ORIENTATION}}
    exif = write_ifd(Ifd(ifd.order, values, ifd.children)) if values else None
    return Metadata(exif=exif, xmp=ifd.raw(_XMP))


def descriptive_tags(metadata: Metadata) -> Ifd:
    """Return the directory that carries `metadata` in a TIFF file, without the tags of the pixels.

    Raises:
        ValueError: the EXIF block is damaged, so that its tags cannot become the file's own.
    """
    source = read_ifds(metadata.exif)[0] if metadata.exif else Ifd("<", {}, {})
    values = {tag: value for tag, value in source.values.items() if tag in _DESCRIPTIVE}
    if metadata.dpi is not None and metadata.dpi != source.dpi():
        values |= resolution_values(source.order, metadata.dpi)
    for tag, kind, body in ((_ICC, 7, metadata.icc), (_XMP, 1, metadata.xmp)):
        if body is not None:
            values[tag] = (kind, len(body), body)
    return Ifd(source.order, values, source.children)


def write_tiff(pixels: NDArray[np.unsignedinteger], metadata: Metadata, *, alpha: bool) -> bytes:
    """Return an uncompressed TIFF file of (H, W, C) uint8 or uint16 pixels; the last channel may be alpha.

    The tags of the EXIF block become the file's own, as TIFF stores them. Neither Pillow (no 16-bit colour) nor
    tifffile (no EXIF directories) writes both.

    Raises:
        ValueError: the EXIF block is damaged, or the pixels take more than 4 GB.
    """
    tags = descriptive_tags(metadata)
    height, width, channels = pixels.shape
    order, bits = tags.order, pixels.dtype.itemsize * 8
    colours = channels - alpha
    raw = pixels.astype(f"{order}u{pixels.dtype.itemsize}").tobytes()
    values = {
        **tags.values,
        256: whole_numbers(order, 4, width),
        257: whole_numbers(order, 4, height),
        258: whole_numbers(order, 3, *[bits] * channels),
        259: whole_numbers(order, 3, 1),  # not compressed
        262: whole_numbers(order, 3, 2 if colours == 3 else 1),  # RGB, or black is zero
        273: whole_numbers(order, 4, 8),  # the one strip follows the header
        277: whole_numbers(order, 3, channels),
        278: whole_numbers(order, 4, height),
        279: whole_numbers(order, 4, len(raw)),
        284: whole_numbers(order, 3, 1),
    }
    if alpha:
        values[338] = whole_numbers(order, 3, 2)  # not premultiplied
    return write_ifd(Ifd(order, values, tags.children), raw)
