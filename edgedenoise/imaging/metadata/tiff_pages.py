"""Pages of a TIFF file: which ones are images, and whether their pixels are complete."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from edgedenoise.errors import ImageError
from edgedenoise.imaging.metadata.embedded import notes_behind
from edgedenoise.imaging.metadata.ifd import Ifd, whole_numbers, write_ifd

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator, Sequence

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
SAMPLES, PLANAR, EXTRA_SAMPLES, SAMPLE_FORMAT = 277, 284, 338, 339
_SUBFILE, _OLD_SUBFILE, _DNG_VERSION = 254, 255, 50706
_REDUCED, _MASK = 1, 4
_STRIPS, _STRIP_BYTES, _STRIP_ROWS = 273, 279, 278
_TILES, _TILE_BYTES, _TILE_WIDTH, _TILE_HEIGHT = 324, 325, 322, 323
_PARTS: Final = ((_STRIPS, _STRIP_BYTES), (_TILES, _TILE_BYTES), (513, 514), (288, 289))
"""Tags of offsets, with those of lengths: of strips, tiles, a JPEG file and unused space."""
_MOSAIC, _LINEAR_RAW, _YCBCR = 32803, 34892, 6
_OLD_JPEG = 6
_CANON_RAW: Final = b"CR"  # which CR2 has behind the header of TIFF
PIXEL_TAGS: Final = frozenset(
    {*range(256, 260), 262, 266, 273, *range(277, 280), 284, 292, 293, 317, 320, *range(322, 326), *range(332, 335)}
    | {*range(338, 342), 347, *range(512, 522), *range(529, 533), 50674}
)
"""Tags that libraries need to decode the pixels: sizes, places, compression, palette, colour channels."""
# What a compressed byte can become at most, by compression: LZW, Deflate (two codes), PackBits.
_EXPANSION: Final = {1: 1, 5: 4096, 8: 1100, 32946: 1100, 32773: 128}


def is_raw(ifds: Sequence[Ifd], data: bytes | mmap.mmap) -> bool:
    """Return whether a TIFF file holds the mosaic of a camera's sensor, beside previews or alone."""
    every = [*ifds, *(sub for ifd in ifds for sub in ifd.sub_images)]
    kinds = {number for ifd in every for number in ifd.numbers(PHOTOMETRIC)[:1]}
    dng = any(_DNG_VERSION in ifd.values for ifd in ifds)
    return dng or data[8:10] == _CANON_RAW or bool(kinds & {_MOSAIC, _LINEAR_RAW})


def full_pages(ifds: Sequence[Ifd], name: str) -> list[Ifd]:
    """Return the pages that are images of their own, in the order of the file.

    Reduced copies and masks are left out. Where the chain of pages holds reduced copies alone, or a page belongs to a
    larger one, the full image is one of the sub-images.

    Raises:
        ImageError: the file holds reduced copies of an image alone.
    """
    pages = [_largest(ifd) for ifd in ifds if _is_full(ifd)]
    if not pages:
        pages = [sub for ifd in ifds for sub in ifd.sub_images if _is_full(sub)]
    if not pages and len(ifds) == 1 and not ifds[0].sub_images:
        pages = list(ifds)  # marked as a copy, but the file holds nothing else
    if not pages:
        raise ImageError(
            f"{name} holds no full image: expected one, got {len(ifds)} reduced copies",
            hint="Export the image again from the program that made the file.",
        )
    return pages


def notes_on_pages(ifds: Sequence[Ifd], data: bytes | mmap.mmap) -> tuple[str, ...]:
    """Return what a file holds beside its full pages, in sentences."""
    every = [*ifds, *(sub for ifd in ifds for sub in ifd.sub_images)]
    kinds = [_subfile(ifd) for ifd in every]
    found = []
    if any(kind & _REDUCED for kind in kinds) and len(every) > 1:
        found.append("its reduced copies (thumbnails or overviews) are not kept")
    if any(kind & _MASK for kind in kinds):
        found.append("its transparency mask is not kept")
    behind = len(data[_end_of(ifds) :].strip(b"\x00"))
    return (*found, *notes_behind(behind))


def _end_of(ifds: Sequence[Ifd]) -> int:
    """Return the offset behind everything in a TIFF file that its directories point at."""
    every = [*ifds, *(sub for ifd in ifds for sub in ifd.sub_images)]
    return max(end for ifd in every for end in (ifd.end, *_data_ends(ifd)))


def _data_ends(ifd: Ifd) -> Iterator[int]:
    """Yield the offset behind each part that a directory names by offset and length; a large one for unknown ends."""
    for offsets, lengths in _PARTS:
        starts, counts = ifd.numbers(offsets), ifd.numbers(lengths)
        if len(starts) != len(counts) or ifd.numbers(COMPRESSION) == (_OLD_JPEG,):
            yield sys.maxsize
        yield from (start + count for start, count in zip(starts, counts, strict=False))


def check_pixels_are_complete(ifd: Ifd, size: int) -> None:
    """Check that the strips or tiles of a page cover the image and lie within a file of `size` bytes.

    Libraries fill in zeros where they do not.

    Raises:
        ValueError: they do not.
    """
    if ifd.numbers(COMPRESSION, (1,))[0] == _OLD_JPEG:  # whose tables are elsewhere
        return
    width, height = ifd.numbers(WIDTH)[0], ifd.numbers(HEIGHT)[0]
    bits = ifd.numbers(BITS, (1,))
    samples = ifd.numbers(SAMPLES, (1,))[0]
    separate = ifd.numbers(PLANAR, (1,))[0] == 2
    pixel_bits = bits[0] if separate else sum(bits) if len(bits) == samples else bits[0] * samples
    if _TILES in ifd.values:
        across, down = ifd.numbers(_TILE_WIDTH, (0,))[0], ifd.numbers(_TILE_HEIGHT, (0,))[0]
        offsets, counts = ifd.numbers(_TILES), ifd.numbers(_TILE_BYTES)
    else:
        across, down = width, min(ifd.numbers(_STRIP_ROWS, (height,))[0], height)
        offsets, counts = ifd.numbers(_STRIPS), ifd.numbers(_STRIP_BYTES)
    if min(width, height, samples, pixel_bits, across, down) < 1:
        raise ValueError("its sizes are not positive")
    per_plane = -(-width // across) * -(-height // down)
    expected = per_plane * (samples if separate else 1)
    if not counts and len(offsets) == 1:  # old writers leave the length of a single strip out
        counts = (size - offsets[0],)
    if min(len(offsets), len(counts)) < expected:
        raise ValueError(f"expected {expected} strips or tiles of pixels, got {min(len(offsets), len(counts))}")
    expansion = _EXPANSION.get(ifd.numbers(COMPRESSION, (1,))[0])
    if ifd.numbers(PHOTOMETRIC, (1,))[0] == _YCBCR:
        expansion = None  # its colours may be stored at a lower resolution
    row_bytes = -(-across * pixel_bits // 8)
    for number in range(expected):
        if offsets[number] + counts[number] > size:
            raise ValueError(f"it ends after {size} bytes, inside its pixels")
        rows = down
        if _TILES not in ifd.values:
            rows = min(down, height - number % per_plane * down)
        if expansion is not None and counts[number] * expansion < rows * row_bytes:
            raise ValueError(
                f"strip or tile {number + 1} is too short: expected {rows * row_bytes} bytes of pixels,"
                f" got {counts[number]} bytes"
            )


def single_page(data: bytes, ifd: Ifd) -> bytes:
    """Return a TIFF file of one page: its pixels as they are stored, without metadata.

    Pillow would turn the pixels by the orientation that it finds, and libraries fail on tags that they do not need.

    Args:
        data: the whole file.
        ifd: the page, of which `check_pixels_are_complete` holds.
    """
    values = {tag: value for tag, value in ifd.values.items() if tag in PIXEL_TAGS}
    if ifd.numbers(COMPRESSION, (1,))[0] == _OLD_JPEG:
        return write_ifd(Ifd(ifd.order, values, {}), data[8:])  # offsets stay valid: the new directory comes last
    offset_tag, count_tag = (_TILES, _TILE_BYTES) if _TILES in values else (_STRIPS, _STRIP_BYTES)
    offsets = ifd.numbers(offset_tag)
    counts = ifd.numbers(count_tag) or (len(data) - offsets[0],)
    parts, places, at = [], [], 8
    for start, count in zip(offsets, counts, strict=False):
        places.append(at)
        parts.append(data[start : start + count])
        at += count
    values[offset_tag] = whole_numbers(ifd.order, 4, *places)
    values[count_tag] = whole_numbers(ifd.order, 4, *counts[: len(places)])
    return write_ifd(Ifd(ifd.order, values, {}), b"".join(parts))


def _subfile(ifd: Ifd) -> int:
    """Return the kind of a page as bits: 1 for a reduced copy, 4 for a mask."""
    if _SUBFILE in ifd.values:
        return ifd.numbers(_SUBFILE)[0]
    return _REDUCED if ifd.numbers(_OLD_SUBFILE, (1,))[0] == 2 else 0


def _is_full(ifd: Ifd) -> bool:
    return _subfile(ifd) & (_REDUCED | _MASK) == 0


def _largest(ifd: Ifd) -> Ifd:
    """Return a page, or the full image among its sub-images that is larger."""
    return max([ifd, *(sub for sub in ifd.sub_images if _is_full(sub))], key=_pixels)


def _pixels(ifd: Ifd) -> int:
    return ifd.numbers(WIDTH, (0,))[0] * ifd.numbers(HEIGHT, (0,))[0]
