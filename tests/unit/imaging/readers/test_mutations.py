"""Files with wrong bytes are read, or refused with an error of ours: nothing else comes out of a reader."""

from __future__ import annotations

import io
import random

import pytest
from image_files import exif_block, random_array
from PIL import Image as PILImage
from PIL import features

from edgedenoise.errors import EdgeDenoiseError
from edgedenoise.imaging.codecs import encode_image
from edgedenoise.imaging.readers.decoding import decode_image
from edgedenoise.imaging.readers.options import ReadOptions

FRAMES = [PILImage.fromarray(random_array((12, 17, 3), seed=seed)) for seed in range(3)]
OPTIONS = ReadOptions(frames=True, max_pixels=1_000_000)
KINDS = {
    "gif": {"format": "GIF", "save_all": True, "append_images": FRAMES[1:], "duration": 40},
    "apng": {"format": "PNG", "save_all": True, "append_images": FRAMES[1:], "duration": 40},
    "webp": {"format": "WEBP", "save_all": True, "append_images": FRAMES[1:], "duration": 40},
    "pages": {"format": "TIFF", "save_all": True, "append_images": FRAMES[1:], "compression": "tiff_lzw"},
    "jpeg": {"format": "JPEG", "exif": exif_block(), "xmp": b"<x/>", "comment": b"a comment"},
    "progressive": {"format": "JPEG", "progressive": True},
    "png": {"format": "PNG", "exif": exif_block()},
    "ppm": {"format": "PPM"},
    "bmp": {"format": "BMP"},
    "avif": {"format": "AVIF"},
    "heic": {"format": "HEIF"},
}


def seed_file(kind: str) -> bytes:
    if kind == "avif" and not features.check("avif"):
        pytest.skip('pip install "pillow>=11.3"')
    stream = io.BytesIO()
    if kind == "heic":
        pillow_heif = pytest.importorskip("pillow_heif", reason='pip install "edgedenoise[heic]"')
        pillow_heif.from_pillow(FRAMES[0]).save(stream)
    else:
        FRAMES[0].save(stream, **KINDS[kind])
    return stream.getvalue()


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Return a file with some bytes changed, removed or repeated, most often near its start."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 4, 8))):
        at = rng.randrange(min(len(changed), rng.choice((64, 400, len(changed)))))
        kind = rng.randrange(6)
        if kind < 2:
            changed[at] = rng.randrange(256)
        elif kind == 2:
            changed[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", bytes(4), b"\x00\x00\x00\x01"))
        elif kind == 3:
            del changed[at : at + rng.randrange(1, 40)]
        elif kind == 4:
            changed[at:at] = changed[at : at + rng.randrange(1, 40)]
        else:
            del changed[at + 8 :]
    return bytes(changed)


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_bytes_are_read_or_refused_with_an_error_of_ours(kind: str) -> None:
    data = seed_file(kind)
    for seed in range(150):
        damaged = mutated(data, random.Random(seed))  # noqa: S311  (no secret)
        try:
            image = decode_image(damaged, options=OPTIONS)
            frames = list(image.following)
        except EdgeDenoiseError:
            continue
        assert len(frames) == len(image.following), seed
        for format_ in ("PNG", "TIFF", "JPEG"):
            try:
                encode_image(image, format_)
            except (ValueError, EdgeDenoiseError):  # it cannot hold the image, or its EXIF is damaged
                continue
