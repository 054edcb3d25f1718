"""GIF files decoded to `Image`, animations frame by frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedenoise.imaging.metadata.embedded import Metadata
from edgedenoise.imaging.metadata.gif import read_gif
from edgedenoise.imaging.readers.animation import animation

if TYPE_CHECKING:
    from edgedenoise.imaging.image import Image
    from edgedenoise.imaging.readers.options import ReadOptions


def decode_gif(data: bytes, name: str, options: ReadOptions) -> Image:
    """Decode the bytes of a GIF file; `name` is what messages call it.

    Raises:
        ImageError: it is an animation, and the options do not accept one.
        ValueError: the file is damaged.
    """
    info = read_gif(data)
    meta = Metadata(icc=info.icc, xmp=info.xmp, comments=info.comments, notes=info.notes)
    timings = info.timings if len(info.timings) > 1 else ()
    return animation(data, "GIF", name, options, meta, timings)
