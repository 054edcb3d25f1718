"""WebP files decoded to `Image`, animations frame by frame."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edgedenoise.imaging.metadata import webp
from edgedenoise.imaging.pillow import from_pil, metadata_of, open_with_pillow
from edgedenoise.imaging.readers.animation import animation

if TYPE_CHECKING:
    from edgedenoise.imaging.image import Image
    from edgedenoise.imaging.readers.options import ReadOptions


def decode_webp(data: bytes, name: str, options: ReadOptions) -> Image:
    """Decode the bytes of a WebP file; `name` is what messages call it.

    Raises:
        ImageError: it is an animation, and the options do not accept one.
        ValueError: the file is damaged.
    """
    chunks = webp.read_chunks(data)
    timings = webp.timings(chunks)
    opened = open_with_pillow(data, "WEBP", name)
    metadata = replace(metadata_of(opened), notes=webp.notes(data, chunks))
    if not timings:
        return replace(from_pil(opened, name=name), metadata=metadata)
    return animation(data, "WEBP", name, options, metadata, timings)
