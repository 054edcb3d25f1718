"""TIFF files decoded to `Image`: 8 bits and 16-bit grayscale by Pillow, 16-bit colour by tifffile."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgedenoise.errors import ImageError
from edgedenoise.imaging.headers import check_pixel_count, tiff_layout
from edgedenoise.imaging.image import Frames, Image
from edgedenoise.imaging.metadata import tiff
from edgedenoise.imaging.metadata.embedded import Metadata
from edgedenoise.imaging.metadata.encoding import tiff_encoding
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
from edgedenoise.imaging.readers.cmyk import cmyk_to_srgb, srgb_profile
from edgedenoise.imaging.readers.raw import decode_raw

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from edgedenoise.imaging.readers.options import ReadOptions

_INKS: Final = 5
_COLOURS: Final = {3: "a palette", 4: "a mask", 5: "CMYK", 6: "YCbCr", 8: "CIE Lab", 9: "ICC Lab", 10: "ITU Lab"}
_CONVERT: Final = "Convert it to 8-bit or 16-bit grayscale or RGB first, in an image editor."
_EXTRA_KINDS: Final = {0: "unspecified", 1: "premultiplied alpha", 2: "alpha"}


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
        raise ImageError(
            f"{name} has several pages: expected one, got {len(pages)}",
            hint="Read all of them: read_image(path, frames=True).",
        )
    first = _decode_page(data, pages[0], name, options)
    on_tags = (note for page in pages for note in tiff.notes_on_tags(page))
    notes = tuple(dict.fromkeys((*on_tags, *notes_on_pages(ifds, data))))

    def following() -> Iterator[Image]:
        for number, page in enumerate(pages[1:], start=2):
            yield _decode_page(data, page, f"page {number} of {name}", options)

    return replace(
        first,
        metadata=replace(first.metadata, notes=notes),
        encoding=tiff_encoding(pages[0]),
        following=Frames(len(pages) - 1, following),
    )


def _decode_page(data: bytes, ifd: Ifd, name: str, options: ReadOptions) -> Image:
    """Decode one page."""
    _check_kind(ifd, name)
    bits, extra = set(ifd.numbers(BITS, (1,))), ifd.numbers(EXTRA_SAMPLES)
    samples, photometric = ifd.numbers(SAMPLES, (1,))[0], ifd.numbers(PHOTOMETRIC, (1,))[0]
    check_pixel_count(tiff_layout(ifd), name, options.max_pixels)
    check_pixels_are_complete(ifd, len(data))
    bare = single_page(data, ifd)
    meta = tiff.read_metadata(ifd)
    if _is_float(ifd):
        image = _decode_floats(bare, name)
    elif photometric == _INKS and bits == {8}:
        image = from_pil(cmyk_to_srgb(open_with_pillow(bare, "TIFF", name), meta.icc, name, options), name=name)
        meta = replace(meta, icc=srgb_profile())
    elif bits != {16} or (samples == 1 and photometric == 1):
        image = from_pil(open_with_pillow(bare, "TIFF", name), name=name)
    elif photometric in {0, 1, 2} and samples - len(extra) == (3 if photometric == 2 else 1):
        image = _decode_16_bits(bare, name, inverted=photometric == 0, premultiplied=extra == (1,))
    else:
        raise ImageError(
            f"{name} is an unsupported 16-bit TIFF: expected grayscale or RGB, with or without alpha, "
            f"got {_COLOURS.get(photometric, f'photometric interpretation {photometric}')} with {samples} channels",
            hint=_CONVERT,
        )
    return replace(image, metadata=meta, format="TIFF")


def _check_kind(ifd: Ifd, name: str) -> None:
    """Raise when a page is of a kind that libraries would decode to something else."""
    if not ifd.numbers(WIDTH) or not ifd.numbers(HEIGHT):
        raise ValueError("it has no width or no height")
    bits, extra = set(ifd.numbers(BITS, (1,))), ifd.numbers(EXTRA_SAMPLES)
    whole = set(ifd.numbers(SAMPLE_FORMAT, (1,))) == {1} and (bits <= {1, 2, 4, 8} or bits == {16})
    if not whole and not _is_float(ifd):
        kind = {2: "signed ", 3: "floating-point "}.get(ifd.numbers(SAMPLE_FORMAT, (1,))[0], "")
        depth = "/".join(str(bit) for bit in sorted(bits))
        raise ImageError(
            f"{name} is an unsupported kind of TIFF: expected 8 or 16 unsigned bits per sample, or 32 or"
            f" fewer of floating point, got {depth} {kind}bits",
            hint=_CONVERT,
        )
    if len(extra) > 1 or any(kind not in {1, 2} for kind in extra):
        kinds = ", ".join(_EXTRA_KINDS.get(kind, f"kind {kind}") for kind in extra)
        raise ImageError(
            f"{name} has unsupported channels: expected at most one extra channel, which is alpha,"
            f" got {len(extra)} ({kinds})",
            hint="Save it with one transparency channel, or without extra channels, in an image editor.",
        )


def _is_float(ifd: Ifd) -> bool:
    return set(ifd.numbers(SAMPLE_FORMAT, (1,))) == {3} and set(ifd.numbers(BITS, (1,))) in ({16}, {24}, {32})


def _decode_floats(data: bytes, name: str) -> Image:
    """Decode a floating-point TIFF with values in [0, 1]."""
    array = _decode_with_tifffile(data, f"reading the floating-point TIFF {name}").astype(np.float32)
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # also where a value is not a number
        raise ImageError(
            f"{name} has floats outside the range of an image: expected [0, 1], got {low:g} to {high:g}",
            hint="Scale it to [0, 1] first: divide by the value of white.",
        )
    return Image.from_channels(array, Metadata(), "TIFF")


def _decode_with_tifffile(data: bytes, purpose: str) -> NDArray[Any]:
    """Return the samples of a TIFF file of one page, channels last."""
    tifffile = import_io("tifffile", purpose)
    import_io("imagecodecs", purpose)  # tifffile's decompressors
    try:
        with tifffile.TiffFile(BytesIO(data)) as file:
            page = file.pages[0]
            planar = int(page.planarconfig) == 2
            array = np.asarray(page.asarray())
    except (tifffile.TiffFileError, RuntimeError, OSError, IndexError, KeyError, TypeError, ArithmeticError) as error:
        raise ValueError(str(error)) from error
    if planar and array.ndim == 3:
        array = np.moveaxis(array, 0, -1)
    if array.ndim not in {2, 3}:
        raise ValueError(f"it decodes to an array of {array.ndim} dimensions")
    return array


def _decode_16_bits(data: bytes, name: str, *, inverted: bool, premultiplied: bool) -> Image:
    """Decode a 16-bit TIFF that Pillow would reduce to 8 bits or show inverted."""
    array = _decode_with_tifffile(data, f"reading the 16-bit TIFF {name}").astype(np.uint16, copy=False)
    image = Image.from_channels(array, Metadata(), "TIFF")
    pixels = image.pixels
    if premultiplied and image.alpha is not None:
        opacity = np.maximum(image.alpha, 1)[..., None].astype(np.float64) / 65535
        pixels = np.floor(np.minimum(pixels / opacity, 65535) + 0.5).astype(np.uint16)
    return Image(65535 - pixels if inverted else pixels, image.alpha, Metadata(), "TIFF")
