"""Images with every kind of metadata, for tests of image files."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as PILImage

from edgedenoise.imaging.image import Image
from edgedenoise.imaging.metadata.embedded import Metadata

ICC = b"profile" * 30_000  # longer than one JPEG segment
XMP = b'<?xpacket begin="" id="x"?><x:xmpmeta xmlns:x="adobe:ns:meta/"/><?xpacket end="w"?>'


def random_array(shape: tuple[int, ...], dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def exif_block(orientation: int = 6) -> bytes:
    exif = PILImage.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "A camera maker"
    exif.get_ifd(0x8769)[0x8827] = 3200  # ISO
    exif.get_ifd(0x8769)[0x927C] = b"maker note \x00\x01\xff" * 20
    exif.get_ifd(0x8825)[1] = "N"
    return exif.tobytes().removeprefix(b"Exif\x00\x00")


def made(channels: int, bits: int, alpha: bool, shape: tuple[int, int] = (9, 14)) -> Image:
    dtype = np.uint8 if bits == 8 else np.uint16
    meta = Metadata(icc=ICC, exif=exif_block(), xmp=XMP)
    return Image(random_array((*shape, channels), dtype), random_array(shape, dtype, 1) if alpha else None, meta, "PNG")


def needs_io(photo: Image) -> None:
    """Skip a test of 16-bit images where the extra `io` is not installed."""
    if photo.bits == 16:
        pytest.importorskip("imagecodecs", reason='pip install "edgedenoise[io]"')
        pytest.importorskip("tifffile", reason='pip install "edgedenoise[io]"')
