"""Animations and files of several pages, written one frame at a time, so that one frame is in memory at most."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image as PILImage

from edgedenoise.errors import ImageError
from edgedenoise.imaging.image import Image
from edgedenoise.imaging.metadata import gif, png, webp
from edgedenoise.imaging.metadata.embedded import Timing
from edgedenoise.imaging.metadata.tiff import TiffPages
from edgedenoise.imaging.pillow import pixels_to_pil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Encode = Callable[[Image], bytes]

ANIMATED = frozenset({"GIF", "PNG", "WEBP"})
"""Formats that hold animations."""


def check_sequence(image: Image, format_: str) -> None:
    """Check that a format holds the frames or pages of an image.

    Raises:
        ValueError: it does not.
    """
    count = len(image.following) + 1
    if count == 1:
        return
    if image.metadata.timing is not None:
        if format_ not in ANIMATED:
            raise ValueError(f"expected one frame in {format_}, got an animation of {count}")
    elif format_ != "TIFF":
        raise ValueError(f"expected one page in {format_}, got {count}")


def write_sequence(image: Image, format_: str, encode: Encode, stream: BinaryIO) -> None:
    """Write an image and the frames or pages that follow it.

    Args:
        image: the first frame, of which `check_sequence` holds.
        format_: GIF, PNG or WEBP for animations, TIFF for pages.
        encode: makes a file of one frame alone, in `format_`.
        stream: receives the file; it can be read and sought.

    Raises:
        ImageError: a frame has another size than the first.
        ValueError: a page does not fit into the file.
    """
    if format_ == "TIFF":
        pages = TiffPages(stream, image.metadata)
        for page in _frames(image):
            pages.add(page.to_channels(), page.metadata, alpha=page.alpha is not None)
        return
    writer = {"GIF": _write_gif, "PNG": _write_png, "WEBP": _write_webp}[format_]
    writer(image, encode, stream)


def gif_frame(image: Image) -> tuple[bytes, int | None]:
    """Return a GIF file of one image with a palette of its own, and the index of its transparent colour.

    Up to 256 colours are kept exactly. More are reduced without dithering, which would look like noise again. Pixels
    are transparent or not: half and more of opacity counts as opaque.
    """
    rgb = np.repeat(image.pixels, 3, axis=2) if image.channels == 1 else image.pixels
    clear = None if image.alpha is None else image.alpha < 128
    if clear is not None and not clear.any():
        clear = None
    limit = 256 if clear is None else 255
    packed = (rgb.astype(np.uint32) << np.array([16, 8, 0], np.uint32)).sum(axis=2, dtype=np.uint32)
    visible = packed if clear is None else packed[~clear]
    colours, index = np.unique(visible, return_inverse=True)
    if len(colours) <= limit:
        palette = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1).astype(np.uint8)
        indices = np.zeros(packed.shape, np.uint8)
        indices[... if clear is None else ~clear] = index.reshape(-1 if clear is not None else packed.shape)
    else:
        reduced = PILImage.fromarray(np.ascontiguousarray(rgb)).quantize(
            limit, PILImage.Quantize.MEDIANCUT, dither=PILImage.Dither.NONE
        )
        palette = np.array(reduced.getpalette(), np.uint8).reshape(-1, 3)[:limit]
        indices = np.array(reduced)
    transparent = None
    if clear is not None:
        transparent = len(palette)
        palette = np.concatenate([palette, np.zeros((1, 3), np.uint8)])
        indices[clear] = transparent
    indexed = PILImage.fromarray(indices, "P") if False else PILImage.frombytes(
        "P", (image.width, image.height), np.ascontiguousarray(indices).tobytes()
    )
    indexed.putpalette(palette.tobytes())
    stream = BytesIO()
    indexed.save(stream, "GIF", optimize=False)
    return stream.getvalue(), transparent


def _frames(image: Image) -> Iterator[Image]:
    yield image
    yield from image.following


def _animation(image: Image) -> Iterator[tuple[Image, Timing]]:
    """Yield every frame with its timing; all frames have the size of the first."""
    for frame in _frames(image):
        if (frame.height, frame.width) != (image.height, image.width):
            raise ImageError(
                f"the frames of an animation differ: expected {image.width} x {image.height} pixels,"
                f" got {frame.width} x {frame.height}"
            )
        yield frame, frame.metadata.timing or Timing(image.metadata.timing.seconds if image.metadata.timing else 0)


def _write_gif(image: Image, encode: Encode, stream: BinaryIO) -> None:  # noqa: ARG001
    stream.write(gif.file_header(image.width, image.height, image.metadata.timing, image.metadata.comments))
    for frame, timing in _animation(image):
        still, transparent = gif_frame(frame)
        stream.write(gif.frame_block(still, timing, transparent))
    stream.write(b";")


def _write_png(image: Image, encode: Encode, stream: BinaryIO) -> None:
    """Write an animated PNG: the first frame is the still image, the others follow as numbered chunks.

    All frames have the colour type of the header, so they are RGB with alpha.
    """
    number = 0
    plays = image.metadata.timing.plays if image.metadata.timing else 0
    for index, (frame, timing) in enumerate(_animation(image)):
        chunks = png.read_chunks(encode(_with_alpha(frame)))
        control = png.frame_control(number, image.width, image.height, timing)
        number += 1
        if index == 0:
            first = next(place for place, (kind, _) in enumerate(chunks) if kind == b"IDAT")
            head = [*chunks[:first], png.animation_control(len(image.following) + 1, plays), control]
            stream.write(png.SIGNATURE)
            blocks = head + [block for block in chunks if block[0] == b"IDAT"]
        else:
            blocks = [control]
            for kind, body in chunks:
                if kind == b"IDAT":
                    blocks.append((b"fdAT", number.to_bytes(4, "big") + body))
                    number += 1
        for block in blocks:
            stream.write(png.chunk_bytes(*block))
    stream.write(png.chunk_bytes(b"IEND", b""))


def _write_webp(image: Image, encode: Encode, stream: BinaryIO) -> None:
    start = stream.tell()
    stream.write(b"RIFF\x00\x00\x00\x00WEBP")
    first = image.metadata.timing or Timing(0)
    stream.write(webp.file_header(image.width, image.height, first, image.metadata))
    for frame, timing in _animation(image):
        bare = replace(frame, metadata=replace(frame.metadata, icc=None, exif=None, xmp=None, dpi=None))
        stream.write(webp.frame_chunk(encode(bare), image.width, image.height, timing))
    for kind, body in ((b"EXIF", image.metadata.exif), (b"XMP ", image.metadata.xmp)):
        if body:
            stream.write(webp.chunk(kind, body))
    end = stream.tell()
    stream.seek(start + 4)
    stream.write((end - start - 8).to_bytes(4, "little"))
    stream.seek(end)


def _with_alpha(frame: Image) -> Image:
    """Return a frame as RGB with alpha, opaque where it has none."""
    pixels = np.repeat(frame.pixels, 3, axis=2) if frame.channels == 1 else frame.pixels
    alpha = frame.alpha if frame.alpha is not None else np.full(pixels.shape[:2], 255, np.uint8)
    return replace(frame, pixels=pixels, alpha=alpha, following=type(frame.following)())
