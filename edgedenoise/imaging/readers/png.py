"""PNG files decoded to `Image`: 8 bits and 16-bit grayscale by Pillow, 16-bit colour by imagecodecs."""

from __future__ import annotations

import numpy as np

from edgedenoise.errors import ImageError
from edgedenoise.imaging.image import Image
from edgedenoise.imaging.metadata import png
from edgedenoise.imaging.optional import import_io
from edgedenoise.imaging.pillow import from_pil, open_with_pillow


def decode_png(data: bytes, name: str) -> Image:
    """Decode the bytes of a PNG file; `name` is what messages call it.

    Raises:
        ImageError: it is an animation.
        RuntimeUnavailableError: it has 16-bit colour and the `io` extra is not installed.
        ValueError: the file is damaged.
    """
    chunks = png.read_chunks(data)
    frames = next((int.from_bytes(body[:4], "big") for kind, body in chunks if kind == b"acTL"), 1)
    if frames > 1:
        raise ImageError(f"{name} is an animation: expected one frame, got {frames}")
    depth, colour_type = chunks[0][1][8], chunks[0][1][9]
    meta = png.read_metadata(chunks)
    key = None
    if depth == 16:  # libraries apply the transparent colour in 8 bits, so it is applied here
        key = next((body for kind, body in chunks if kind == b"tRNS"), None)
        chunks = [chunk for chunk in chunks if chunk[0] != b"tRNS"]
    bare = png.without_metadata(chunks)
    opened = open_with_pillow(bare, "PNG", name)
    if depth < 16 or colour_type == 0:
        image = from_pil(opened, name=name)
    else:
        imagecodecs = import_io("imagecodecs", f"reading the 16-bit colour PNG {name}")
        try:
            image = Image.from_channels(np.asarray(imagecodecs.png_decode(bare), np.uint16), meta, "PNG")
        except RuntimeError as error:
            raise ValueError(str(error)) from error
    alpha = image.alpha
    if key is not None and alpha is None:
        alpha = ((image.pixels != np.frombuffer(key, ">u2")).any(axis=2) * 65535).astype(np.uint16)
    return Image(image.pixels, alpha, meta, "PNG")
