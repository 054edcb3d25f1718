"""JPEG files decoded to `Image`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edgedenoise.errors import ImageError
from edgedenoise.imaging.image import Image
from edgedenoise.imaging.metadata import jpeg
from edgedenoise.imaging.pillow import from_pil, open_with_pillow
from edgedenoise.imaging.readers.cmyk import cmyk_to_srgb, srgb_profile
from edgedenoise.imaging.readers.jpeg_scans import check_scans

if TYPE_CHECKING:
    from edgedenoise.imaging.readers.options import ReadOptions


def decode_jpeg(data: bytes, name: str, options: ReadOptions) -> Image:
    """Decode the bytes of a JPEG file; `name` is what messages call it.

    Raises:
        ImageError: it does not have 8 bits per sample, or is CMYK and the options do not accept that.
        ValueError: the file is damaged.
    """
    segments = jpeg.read_segments(data)
    bits = jpeg.bits_per_sample(segments)
    if bits != 8:
        raise ImageError(
            f"{name} is an unsupported kind of JPEG: expected 8 bits per sample, got {bits}",
            hint="Convert it to a 16-bit PNG or TIFF file first.",
        )
    meta = jpeg.read_metadata(segments, jpeg.late_segments(data))
    meta = replace(meta, trailer=jpeg.read_trailer(data))
    opened = open_with_pillow(data, "JPEG", name)
    if opened.mode == "CMYK":
        opened = cmyk_to_srgb(opened, meta.icc, name, options)
        profile = srgb_profile()
        meta = replace(meta, icc=profile, native=jpeg.with_profile(meta.native, profile))
    image = from_pil(opened, name=name)
    check_scans(data, image.width * image.height)
    return Image(image.pixels, image.alpha, meta, "JPEG")
