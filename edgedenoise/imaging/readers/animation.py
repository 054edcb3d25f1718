"""Animations: frames as the whole canvas shows them, each with its own timing.

A file stores patches of the canvas. Networks need what is around a pixel, so the frames are composed first, and every
frame that is written covers the canvas.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edgedenoise.errors import ImageError
from edgedenoise.imaging.headers import check_pixel_count
from edgedenoise.imaging.image import Frames
from edgedenoise.imaging.layout import Layout
from edgedenoise.imaging.pillow import DECODING_ERRORS, frame_count, from_pil, open_with_pillow, unhindered

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgedenoise.imaging.image import Image
    from edgedenoise.imaging.metadata.embedded import FrameTiming, Metadata
    from edgedenoise.imaging.readers.options import ReadOptions


def animation(
    data: bytes,
    format_: str,
    name: str,
    options: ReadOptions,
    metadata: Metadata,
    timings: Sequence[FrameTiming],
    *,
    skipped: int = 0,
) -> Image:
    """Return the first frame of an animation with the frames that follow it.

    Args:
        data: the whole file, which Pillow reads.
        format_: its format.
        name: what messages call it.
        options: what the caller accepts.
        metadata: metadata of the first frame.
        timings: one per frame; none for a still image.
        skipped: images in front of the first frame that are not part of the animation.

    Raises:
        ImageError: there are several frames, and the options do not accept them.
        ValueError: the file is damaged.
    """
    if len(timings) > 1 and not options.frames:
        raise ImageError(
            f"{name} is an animation: expected one frame, got {len(timings)}",
            hint="Read all of them: read_image(path, frames=True).",
        )
    first = next(_frames(data, format_, name, skipped, options.max_pixels), None)
    if first is None:
        raise ValueError("it holds no frame")
    if timings:
        metadata = replace(metadata, timing=timings[0])

    def following() -> Iterator[Image]:
        if len(timings) < 2:  # Pillow may find frames in what is behind the only one
            return
        frames = _frames(data, format_, name, skipped + 1, options.max_pixels)
        for frame, timing in zip(frames, timings[1:], strict=True):
            yield replace(frame, metadata=replace(metadata, timing=timing))

    return replace(first, metadata=metadata, format=format_, following=Frames(max(0, len(timings) - 1), following))


def _frames(data: bytes, format_: str, name: str, start: int, max_pixels: int) -> Iterator[Image]:
    """Yield the frames of an animation from number `start` on, each as the whole canvas shows it.

    A frame may enlarge the canvas, or clear a large part of it: `max_pixels` bounds what that takes.
    """
    image = open_with_pillow(data, format_, name)
    for number in range(start, frame_count(image)):
        try:
            with unhindered(max_pixels):
                image.seek(number)
                check_pixel_count(Layout(*image.size, 3, 8, False), f"frame {number + 1} of {name}", max_pixels)
                frame = image.copy()
        except DECODING_ERRORS as error:
            raise ValueError(f"frame {number + 1} cannot be decoded ({error})") from error
        frame.format = format_
        yield from_pil(frame, name=f"frame {number + 1} of {name}")
