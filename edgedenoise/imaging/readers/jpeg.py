"""JPEG files decoded to `Image`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedenoise.errors import ImageError
from edgedenoise.imaging.image import Image
from edgedenoise.imaging.metadata import jpeg
from edgedenoise.imaging.pillow import from_pil, open_with_pillow

if TYPE_CHECKING:
    from edgedenoise.imaging.readers.options import ReadOptions


def decode_jpeg(data: bytes, name: str, options: ReadOptions) -> Image:
    """Decode the bytes of a JPEG file; `name` is what messages call it.

    Raises:
        ImageError: it does not have 8 bits per sample.
        ValueError: the file is damaged.
    """
    segments = jpeg.read_segments(data)
    bits = jpeg.bits_per_sample(segments)
    if bits != 8:
        raise ImageError(f"{name} is an unsupported kind of JPEG: expected 8 bits per sample, got {bits}")
    image = from_pil(open_with_pillow(data, "JPEG", name), name=name)
    return Image(image.pixels, image.alpha, jpeg.read_metadata(segments), "JPEG")
