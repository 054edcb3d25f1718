"""PNG files decoded to `Image`: 8 bits and 16-bit grayscale by Pillow, 16-bit colour by imagecodecs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edgedenoise.errors import ImageError
from edgedenoise.imaging.image import Image
from edgedenoise.imaging.metadata import png
from edgedenoise.imaging.optional import import_io
from edgedenoise.imaging.pillow import from_pil, open_with_pillow
from edgedenoise.imaging.readers.animation import animation

if TYPE_CHECKING:
    from edgedenoise.imaging.readers.options import ReadOptions


def decode_png(data: bytes, name: str, options: ReadOptions) -> Image:
    """Decode the bytes of a PNG file; `name` is what messages call it.

    Raises:
        ImageError: it is an animation, and the options do not accept one, or an animation of 16 bits.
        RuntimeUnavailableError: it has 16-bit colour and the `io` extra is not installed.
        ValueError: the file is damaged.
    """
    chunks = png.read_chunks(data)
    depth, colour_type = chunks[0][1][8], chunks[0][1][9]
    meta = png.read_metadata(chunks, bytes_behind=png.bytes_behind(data, chunks))
    timings, still_first = png.timings(chunks)
    if timings:
        if depth == 16:
            raise ImageError(
                f"{name} is an unsupported animation: expected 8 bits per sample, got 16",
                hint="Save it with 8 bits first, or its frames as 16-bit PNG files.",
            )
        if not still_first:
            meta = replace(
                meta, notes=(*meta.notes, "its still image for programs that show no animations is not kept")
            )
        bare = png.without_metadata(chunks)
        return animation(bare, "PNG", name, options, meta, timings, skipped=0 if still_first else 1)
    key = None
    if depth == 16:  # libraries apply the transparent colour in 8 bits, so it is applied here
        key = next((body for kind, body in chunks if kind == b"tRNS"), None)
        chunks = [chunk for chunk in chunks if chunk[0] != b"tRNS"]
    bare = png.without_metadata(chunks)
    opened = open_with_pillow(bare, "PNG", name)  # also checks the header
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
