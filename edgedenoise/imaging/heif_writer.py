"""HEIC and AVIF files, written by pillow-heif and Pillow at high quality and full colour resolution."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgedenoise.imaging.metadata.exif import PREFIX as EXIF_PREFIX
from edgedenoise.imaging.optional import import_io
from edgedenoise.imaging.pillow import pixels_to_pil

if TYPE_CHECKING:
    from edgedenoise.imaging.image import Image
    from edgedenoise.imaging.metadata.embedded import Metadata

_QUALITY: Final = 95


def heic_bytes(image: Image, metadata: Metadata) -> bytes:
    """Return an 8-bit HEIC file; the orientation in EXIF becomes the one of the file.

    Raises:
        RuntimeUnavailableError: the `heic` extra is not installed.
    """
    pillow_heif = import_io("pillow_heif", "writing HEIC")
    channels = image.to_channels()
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels.shape[2]]
    file = pillow_heif.from_bytes(mode, (image.width, image.height), np.ascontiguousarray(channels).tobytes())
    stream = BytesIO()
    file.save(stream, quality=_QUALITY, chroma=444, **_profiles(metadata))
    return stream.getvalue()


def avif_bytes(image: Image, metadata: Metadata) -> bytes:
    """Return an 8-bit AVIF file; the orientation in EXIF becomes the one of the file."""
    stream = BytesIO()
    pixels_to_pil(image).save(stream, "AVIF", quality=_QUALITY, subsampling="4:4:4", **_profiles(metadata))
    return stream.getvalue()


def _profiles(metadata: Metadata) -> dict[str, Any]:
    exif = EXIF_PREFIX + metadata.exif if metadata.exif else None
    profiles = {"icc_profile": metadata.icc, "exif": exif, "xmp": metadata.xmp}
    return {key: body for key, body in profiles.items() if body}
