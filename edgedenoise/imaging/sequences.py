"""Animations and files of several pages, written one frame at a time, so that one frame is in memory at most."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image as PILImage

from edgedenoise.errors import ImageError
from edgedenoise.imaging.image import Frames, Image
from edgedenoise.imaging.metadata import gif, png, webp
from edgedenoise.imaging.metadata.tiff import TiffPages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from edgedenoise.imaging.metadata.embedded import FrameTiming
    from edgedenoise.imaging.metadata.encoding import TiffEncoding

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


def write_sequence(image: Image, format_: str, encode: Encode, stream: BinaryIO, pages_encoding: TiffEncoding) -> None:
    """Write an image and the frames or pages that follow it.

    Args:
        image: the first frame, of which `check_sequence` holds.
        format_: GIF, PNG or WEBP for animations, TIFF for pages.
        encode: makes a file of one frame alone, in `format_`.
        stream: receives the file; it can be read and sought.
        pages_encoding: compression of the pages of a TIFF file.

    Raises:
        ImageError: a frame has another size than the first.
        ValueError: a page does not fit into the file.
    """
    timing = image.metadata.timing
    if timing is None:
        pages = TiffPages(stream, image.metadata, pages_encoding)
        for page in _frames(image):
            pages.add(page.to_channels(), page.metadata, alpha=page.alpha is not None)
    elif format_ == "GIF":
        _write_gif(image, timing, stream)
    else:
        writer = _write_png if format_ == "PNG" else _write_webp
        writer(image, timing, encode, stream)


def gif_bytes(image: Image) -> bytes:
    """Return a GIF file of one image.

    Up to 256 colours are kept exactly. More are reduced without dithering, which would look like noise again. Pixels
    are transparent or not: half of the opacity and more counts as opaque.
    """
    meta = image.metadata
    header = gif.file_header(image.width, image.height, meta.timing, meta.comments)
    return header + _gif_frame(image, meta.timing) + b";"


def _frames(image: Image) -> Iterator[Image]:
    yield image
    yield from image.following


def _animation(image: Image, first: FrameTiming) -> Iterator[tuple[Image, FrameTiming]]:
    """Yield every frame with its timing; all frames have the size of the first."""
    for frame in _frames(image):
        if (frame.height, frame.width) != (image.height, image.width):
            raise ImageError(
                f"the frames of an animation differ: expected {image.width} x {image.height} pixels,"
                f" got {frame.width} x {frame.height}"
            )
        yield frame, frame.metadata.timing or first


def _write_gif(image: Image, timing: FrameTiming, stream: BinaryIO) -> None:
    stream.write(gif.file_header(image.width, image.height, timing, image.metadata.comments))
    frames = _animation(image, timing)
    frame, shown = next(frames)
    for following, shown_next in frames:
        stream.write(_gif_frame(frame, _uncovered(frame, shown, following)))
        frame, shown = following, shown_next
    stream.write(_gif_frame(frame, shown))
    stream.write(b";")


def _uncovered(frame: Image, shown: FrameTiming, following: Image) -> FrameTiming:
    """Return the timing of a frame, which is removed where it would show through the next one.

    GIF draws a frame over the last one, and other formats can put it in its place.
    """
    if shown.disposal != "keep" or following.alpha is None:
        return shown
    seen = (following.alpha < 128) if frame.alpha is None else (following.alpha < 128) & (frame.alpha >= 128)
    return replace(shown, disposal="background") if seen.any() else shown


def _gif_frame(image: Image, timing: FrameTiming | None) -> bytes:
    """Return the block of one frame with a palette of its own."""
    indices, palette, transparent = _indexed(image)
    still = PILImage.frombytes("P", (image.width, image.height), indices.tobytes())
    still.putpalette(palette.tobytes())
    stream = BytesIO()
    still.save(stream, "GIF", optimize=False)
    return gif.frame_block(stream.getvalue(), timing, transparent)


def _indexed(image: Image) -> tuple[NDArray[np.uint8], NDArray[np.uint8], int | None]:
    """Return the pixels as indices, the palette, and the index of the transparent colour or None."""
    rgb = np.repeat(image.pixels, 3, axis=2) if image.channels == 1 else image.pixels
    clear = np.zeros(rgb.shape[:2], bool) if image.alpha is None else image.alpha < 128
    limit = 255 if clear.any() else 256
    packed = (rgb.astype(np.uint32) << np.array([16, 8, 0], np.uint32)).sum(axis=2, dtype=np.uint32)
    colours, numbers = np.unique(packed[~clear], return_inverse=True)
    indices = np.zeros(packed.shape, np.uint8)
    if len(colours) <= limit:
        palette = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1).astype(np.uint8)
        indices[~clear] = numbers
    else:
        whole = PILImage.fromarray(np.ascontiguousarray(rgb))
        reduced = whole.quantize(limit, PILImage.Quantize.MEDIANCUT, dither=PILImage.Dither.NONE)
        palette = np.array(reduced.getpalette(), np.uint8).reshape(-1, 3)[:limit]
        indices = np.array(reduced)
    if not clear.any():
        return indices, palette, None
    indices[clear] = len(palette)
    return indices, np.concatenate([palette, np.zeros((1, 3), np.uint8)]), len(palette)


def _write_png(image: Image, timing: FrameTiming, encode: Encode, stream: BinaryIO) -> None:
    """Write an animated PNG: the first frame is the still image, the others follow as numbered chunks.

    All frames have the colour type of the header, so they are RGB with alpha.
    """
    number = 0
    for index, (frame, shown) in enumerate(_animation(image, timing)):
        chunks = png.read_chunks(encode(_with_alpha(frame)))
        control = png.frame_control(number, image.width, image.height, shown)
        number += 1
        if index == 0:
            first = next(place for place, (kind, _) in enumerate(chunks) if kind == b"IDAT")
            head = [*chunks[:first], png.animation_control(len(image.following) + 1, timing.plays), control]
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


def _write_webp(image: Image, timing: FrameTiming, encode: Encode, stream: BinaryIO) -> None:
    start = stream.tell()
    stream.write(b"RIFF\x00\x00\x00\x00WEBP")
    stream.write(webp.file_header(image.width, image.height, timing, image.metadata))
    for frame, shown in _animation(image, timing):
        bare = replace(frame, metadata=replace(frame.metadata, icc=None, exif=None, xmp=None, dpi=None))
        stream.write(webp.frame_chunk(encode(bare), image.width, image.height, shown))
    for kind, body in ((b"EXIF", image.metadata.exif), (b"XMP ", image.metadata.xmp)):
        if body:
            stream.write(webp.chunk(kind, body))
    end = stream.tell()
    stream.seek(start + 4)
    stream.write((end - start - 8).to_bytes(4, "little"))
    stream.seek(end)


def _with_alpha(frame: Image) -> Image:
    """Return a frame as RGB with alpha, opaque where it has none."""
    pixels: Any = np.repeat(frame.pixels, 3, axis=2) if frame.channels == 1 else frame.pixels
    alpha = frame.alpha if frame.alpha is not None else np.full(pixels.shape[:2], 255, np.uint8)
    return replace(frame, pixels=pixels, alpha=alpha, following=Frames())
