"""TIFF files decoded to `Image`: 8 bits and 16-bit grayscale by Pillow, 16-bit colour by tifffile."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from edgedenoise.errors import ImageError
from edgedenoise.imaging.headers import check_pixel_count, tiff_layout
from edgedenoise.imaging.image import Frames, Image
from edgedenoise.imaging.metadata import tiff
from edgedenoise.imaging.metadata.embedded import Metadata
from edgedenoise.imaging.metadata.ifd import Ifd, read_ifds
from edgedenoise.imaging.metadata.tiff_pages import (
    BITS,
    EXTRA_SAMPLES,
    HEIGHT,
    PHOTOMETRIC,
    SAMPLE_FORMAT,
    SAMPLES,
    WIDTH,
    check_pixels_are_complete,
    full_pages,
    is_raw,
    notes_on_pages,
    single_page,
)
from edgedenoise.imaging.optional import import_io
from edgedenoise.imaging.pillow import from_pil, open_with_pillow
from edgedenoise.imaging.readers.raw import decode_raw

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgedenoise.imaging.readers.options import ReadOptions


def decode_tiff(data: bytes, name: str, options: ReadOptions) -> Image:
    """Decode the bytes of a TIFF file; `name` is what messages call it.

    Raises:
        ImageError: the file is a kind of TIFF that is not supported.
        RuntimeUnavailableError: it has 16-bit colour and the `io` extra is not installed.
        ValueError: the file is damaged.
    """
    ifds = read_ifds(data, sub_images=True)
    if is_raw(ifds, data):
        return decode_raw(data, name, options)
    pages = full_pages(ifds, name)
    if len(pages) > 1 and not options.frames:
        raise ImageError(f"{name} has several pages: expected one, got {len(pages)}")
    first = _decode_page(data, pages[0], name, options)
    notes = (*first.metadata.notes, *notes_on_pages(ifds))

    def following() -> Iterator[Image]:
        for number, page in enumerate(pages[1:], start=2):
            yield _decode_page(data, page, f"page {number} of {name}", options)

    return replace(first, metadata=replace(first.metadata, notes=notes), following=Frames(len(pages) - 1, following))


def _decode_page(data: bytes, ifd: Ifd, name: str, options: ReadOptions) -> Image:
    """Decode one page."""
    _check_kind(ifd, name)
    bits, extra = set(ifd.numbers(BITS, (1,))), ifd.numbers(EXTRA_SAMPLES)
    samples, photometric = ifd.numbers(SAMPLES, (1,))[0], ifd.numbers(PHOTOMETRIC, (1,))[0]
    check_pixel_count(tiff_layout(ifd), name, options.max_pixels)
    check_pixels_are_complete(ifd, len(data))
    bare = single_page(data, ifd)
    if bits != {16} or (samples == 1 and photometric == 1):
        image = from_pil(open_with_pillow(bare, "TIFF", name), name=name)
    elif photometric in {0, 1, 2} and samples - len(extra) == (3 if photometric == 2 else 1):
        image = _decode_16_bits(bare, name, inverted=photometric == 0, premultiplied=extra == (1,))
    else:
        raise ImageError(
            f"{name} is an unsupported 16-bit TIFF: expected grayscale or RGB, with or without alpha, "
            f"got photometric interpretation {photometric} with {samples} channels"
        )
    return replace(image, metadata=tiff.read_metadata(ifd), format="TIFF")


def _check_kind(ifd: Ifd, name: str) -> None:
    """Raise when a page is of a kind that libraries would decode to something else."""
    if not ifd.numbers(WIDTH) or not ifd.numbers(HEIGHT):
        raise ValueError("it has no width or no height")
    bits, extra = set(ifd.numbers(BITS, (1,))), ifd.numbers(EXTRA_SAMPLES)
    if not (bits <= {1, 2, 4, 8} or bits == {16}) or set(ifd.numbers(SAMPLE_FORMAT, (1,))) != {1}:
        kind = {2: "signed ", 3: "floating-point "}.get(ifd.numbers(SAMPLE_FORMAT, (1,))[0], "")
        depth = "/".join(str(bit) for bit in sorted(bits))
        raise ImageError(
            f"{name} is an unsupported kind of TIFF: expected 8 or 16 unsigned bits per sample, got {depth} {kind}bits"
        )
    if len(extra) > 1 or any(kind not in {1, 2} for kind in extra):
        raise ImageError(f"{name} has unsupported channels: expected at most one extra, alpha, got {len(extra)}")


def _decode_16_bits(data: bytes, name: str, *, inverted: bool, premultiplied: bool) -> Image:
    """Decode a 16-bit TIFF that Pillow would reduce to 8 bits or show inverted."""
    tifffile = import_io("tifffile", f"reading the 16-bit TIFF {name}")
    import_io("imagecodecs", f"reading the 16-bit TIFF {name}")  # tifffile's decompressors
    try:
        with tifffile.TiffFile(BytesIO(data)) as file:
            page = file.pages[0]
            planar = int(page.planarconfig) == 2
            array = np.asarray(page.asarray(), np.uint16)
    except (RuntimeError, OSError, IndexError, KeyError, TypeError, ArithmeticError) as error:
        raise ValueError(str(error)) from error
    if planar and array.ndim == 3:
        array = np.moveaxis(array, 0, -1)
    if array.ndim not in {2, 3}:
        raise ValueError(f"it decodes to an array of {array.ndim} dimensions")
    image = Image.from_channels(array, Metadata(), "TIFF")
    pixels = image.pixels
    if premultiplied and image.alpha is not None:
        opacity = np.maximum(image.alpha, 1)[..., None].astype(np.float64) / 65535
        pixels = np.floor(np.minimum(pixels / opacity, 65535) + 0.5).astype(np.uint16)
    return Image(65535 - pixels if inverted else pixels, image.alpha, Metadata(), "TIFF")
