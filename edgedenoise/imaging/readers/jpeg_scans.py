"""Scans of JPEG files that are cut or overwritten: libraries fill in gray without a word.

Huffman codes have no checksum, but a scan that is whole ends where its last block ends. So the image is decoded again
with other bytes put behind every scan: where pixels change, the decoder ran out of data. And it is decoded with the
last bytes of the scan replaced: where no pixel changes, data are left over.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgedenoise.imaging.metadata import jpeg
from edgedenoise.imaging.pillow import DECODING_ERRORS, open_with_pillow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_PROGRESSIVE: Final = b"\xff\xc2"
_HUFFMAN: Final = {b"\xff\xc0", b"\xff\xc1", _PROGRESSIVE}
_FILL: Final = bytes(random.Random(0).choices(range(1, 255), k=512))  # noqa: S311  (no secret, and no end of a scan)
_WHOLE_PIXELS, _WHOLE_PROGRESSIVE_PIXELS = 2_000_000, 32_000_000
"""Larger images are compared at an eighth of their size, which takes a fraction of the time and memory.

Of a progressive file, that shows only whether the first scans are whole.
"""
_LEFT_OVER_BYTES, _LEFT_OVER_BYTES_SMALL = 32, 512


@dataclass(frozen=True)
class _Scans:
    """A JPEG file as alternating parts: headers and markers, and coded data."""

    headers: tuple[memoryview, ...]
    coded: tuple[memoryview, ...]

    def filled(self, coded: Sequence[memoryview], fill: bytes) -> bytes:
        """Return the file with other data in place of its own, and other bytes behind each part of them."""
        parts = zip(self.headers, coded, strict=False)
        return b"".join([*(part for header, data in parts for part in (header, data, fill)), self.headers[-1]])


def check_scans(data: bytes, pixels: int) -> None:
    """Check that the coded data of a JPEG file are exactly those of its blocks.

    Args:
        data: the whole file, which Pillow decodes.
        pixels: number of pixels of the image.

    Raises:
        ValueError: data are missing, or more than padding is left over.
    """
    frames = {marker for marker, _ in jpeg.read_segments(data)} & jpeg.FRAMES
    if not frames <= _HUFFMAN:
        return  # arithmetic coding leaves zeros at the end out
    scans = _split(data)
    small = pixels > (_WHOLE_PROGRESSIVE_PIXELS if _PROGRESSIVE in frames else _WHOLE_PIXELS)
    decoded = _decoded(data, small=small)
    if not np.array_equal(decoded, _decoded(scans.filled(scans.coded, _FILL), small=small)):
        raise ValueError("its pixels are cut short")
    if len(scans.coded) > 1:  # what one of several scans leaves over does not show
        return
    (coded,) = scans.coded
    count = _LEFT_OVER_BYTES_SMALL if small else _LEFT_OVER_BYTES
    tail = coded[-count:]
    if len(coded) <= 2 * count or len(set(tail)) == 1:  # cameras pad with zeros
        return
    end = len(coded) - count
    while end and coded[end - 1] == 0xFF:
        end -= 1
    other = scans.filled([coded[:end]], _FILL[:count])
    if np.array_equal(decoded, _decoded(other, small=small)):
        raise ValueError("a part of its pixels is overwritten")


def _split(data: bytes) -> _Scans:
    """Split the first image of a file at its scans and restart markers."""
    headers: list[memoryview] = []
    coded: list[memoryview] = []
    at, view = 0, memoryview(data)  # slices of it copy nothing: files have hundreds of megabytes
    for start, end in jpeg.scans(data):
        headers.append(view[at:start])
        coded.append(view[start:end])
        at = end
    return _Scans((*headers, view[at:]), tuple(coded))


def _decoded(data: bytes, *, small: bool) -> NDArray[Any]:
    image = open_with_pillow(data, "JPEG", "the image")
    if small:
        image.draft(image.mode, (-(-image.width // 8), -(-image.height // 8)))
    try:
        return np.asarray(image)
    except DECODING_ERRORS as error:
        raise ValueError(f"it cannot be decoded ({error})") from error
