"""HEIC and AVIF files decoded to `Image`: HEIC by pillow-heif, AVIF by Pillow, its higher depths by imagecodecs."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedenoise.errors import ImageError
from edgedenoise.imaging.headers import check_pixel_count
from edgedenoise.imaging.image import Image
from edgedenoise.imaging.layout import Layout
from edgedenoise.imaging.metadata import heif_boxes
from edgedenoise.imaging.metadata.embedded import Metadata
from edgedenoise.imaging.metadata.exif import PREFIX as EXIF_PREFIX
from edgedenoise.imaging.metadata.exif import exif_dpi
from edgedenoise.imaging.optional import check_avif, import_io
from edgedenoise.imaging.pillow import frame_count, from_pil, open_with_pillow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgedenoise.imaging.readers.options import ReadOptions


def decode_heic(data: bytes, name: str, options: ReadOptions) -> Image:
    """Decode the bytes of a HEIC file; `name` is what messages call it.

    The image is turned and mirrored as the file states: HEIC stores that outside EXIF, and other formats do not.

    Raises:
        ImageError: it is too large.
        RuntimeUnavailableError: the `heic` extra is not installed.
        ValueError: the file is damaged.
    """
    pillow_heif = import_io("pillow_heif", f"reading the HEIC image {name}")
    try:
        file = pillow_heif.open_heif(BytesIO(data), convert_hdr_to_8bit=False)
        frame = file[file.primary_index]
        width, height = frame.size
        layout = Layout(width, height, 3, 16 if ";16" in frame.mode else 8, "A" in frame.mode)
        check_pixel_count(layout, name, options.max_pixels)
        array = np.asarray(frame)
    except (OSError, RuntimeError, EOFError, IndexError, SyntaxError) as error:
        raise ValueError(str(error)) from error
    info: dict[str, Any] = dict(frame.info)
    pillow_heif.set_orientation(info)
    array = _full_range(array, int(info["bit_depth"]), shifted=True)
    return Image.from_channels(array, _heic_metadata(info, data), "HEIF")


def decode_avif(data: bytes, name: str, options: ReadOptions) -> Image:
    """Decode the bytes of an AVIF file; `name` is what messages call it.

    Raises:
        ImageError: it is too large, or an animation.
        RuntimeUnavailableError: Pillow is older than 11.3, or the image has 10 or 12 bits and the `io` extra is not
            installed.
        ValueError: the file is damaged.
    """
    check_avif(f"reading the AVIF image {name}")
    opened = open_with_pillow(data, "AVIF", name)
    check_pixel_count(Layout(*opened.size, 3, 8, opened.mode == "RGBA"), name, options.max_pixels)
    frames = frame_count(opened)
    if frames > 1:
        raise ImageError(
            f"{name} is an AVIF animation, which is not supported: expected one frame, got {frames}",
            hint="Convert it to an animated WebP or PNG file first.",
        )
    image = from_pil(opened, name=name)
    notes = heif_boxes.notes(data, has_profile=image.metadata.icc is not None)
    image = replace(image, metadata=replace(image.metadata, notes=notes))
    bits = _avif_bits(data)
    if bits == 8:
        return image
    imagecodecs = import_io("imagecodecs", f"reading the {bits}-bit AVIF image {name}")
    try:
        array = np.asarray(imagecodecs.avif_decode(data), np.uint16)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    return Image.from_channels(_full_range(array, bits, shifted=False), image.metadata, "AVIF")


def _avif_bits(data: bytes) -> int:
    """Return the bits per sample that the configuration of the AV1 codec states."""
    at = data.find(b"av1C")
    if at < 0 or at + 7 > len(data):
        return 8
    high, twelve = data[at + 6] >> 6 & 1, data[at + 6] >> 5 & 1
    return 8 + 2 * high + 2 * (high & twelve)


def _full_range(array: NDArray[Any], bits: int, *, shifted: bool) -> NDArray[Any]:
    """Return samples of 10 or 12 bits over the full range of 16 bits."""
    if array.dtype == np.uint8:
        return array
    levels = array >> (16 - bits) if shifted else array
    white = (1 << bits) - 1
    return ((levels.astype(np.uint32) * 65535 + white // 2) // white).astype(np.uint16)


def _heic_metadata(info: dict[str, Any], data: bytes) -> Metadata:
    exif = (info.get("exif") or b"").removeprefix(EXIF_PREFIX) or None
    icc = info.get("icc_profile") or None
    notes = heif_boxes.notes(data, has_profile=icc is not None)
    return Metadata(icc=icc, exif=exif, xmp=info.get("xmp") or None, dpi=exif_dpi(exif), notes=notes)
