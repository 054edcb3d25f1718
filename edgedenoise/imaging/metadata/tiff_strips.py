"""The pixels of a TIFF page as compressed strips."""

from __future__ import annotations

import zlib
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image as PILImage

from edgedenoise.imaging.metadata.encoding import DEFLATE, LZW, NOT_COMPRESSED, PACKBITS, TiffEncoding
from edgedenoise.imaging.metadata.ifd import read_ifds
from edgedenoise.imaging.pixel_rows import regrouped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from edgedenoise.imaging.layout import Layout

_STRIP_BYTES: Final = 1 << 18
_PILLOW_NAMES: Final = {LZW: "tiff_lzw", PACKBITS: "packbits"}


def rows_per_strip(layout: Layout, encoding: TiffEncoding) -> int:
    """Return the number of rows in each strip but the last one."""
    if encoding.compression == NOT_COMPRESSED:
        return layout.height
    return max(1, _STRIP_BYTES // (layout.stored_bytes // layout.height))


def strips(bands: Iterable[NDArray[Any]], rows: int, encoding: TiffEncoding) -> Iterator[bytes | memoryview]:
    """Yield the strips of an image of the file's byte order; one without compression comes in parts.

    Args:
        bands: (rows, W, C) from top to bottom: uint8, uint16, or float32 without a predictor.
        rows: number of rows of a strip, of `rows_per_strip`.
        encoding: compression, one that `edgedenoise.imaging.metadata.encoding.encoding_of` returns.
    """
    if encoding.compression == NOT_COMPRESSED:
        yield from (np.ascontiguousarray(band).data for band in bands)
        return
    for strip in regrouped(bands, rows):
        if encoding.has_predictor:
            differences = np.diff(strip, axis=1, prepend=np.zeros_like(strip[:, :1]))
            strip = differences.astype(strip.dtype, copy=False)
        raw = np.ascontiguousarray(strip)
        if encoding.compression == DEFLATE:
            yield zlib.compress(raw.data)
        else:
            yield _with_libtiff(raw, _PILLOW_NAMES[encoding.compression])


def _with_libtiff(strip: NDArray[Any], compression: str) -> bytes:
    """Return a strip compressed by libtiff, which takes its bytes as the samples of a gray image."""
    gray = strip.reshape(len(strip), -1).view(np.uint8)
    stream = BytesIO()
    PILImage.fromarray(gray).save(stream, "TIFF", compression=compression, tiffinfo={278: len(gray)})
    data = stream.getvalue()
    ifd = read_ifds(data)[0]
    ((start,), (count,)) = ifd.numbers(273), ifd.numbers(279)
    return data[start : start + count]
