"""The bytes of an image file decoded to an `Image`, whatever its format.

The header of each format is read before its pixels are decoded, and a file that would lose bits, frames or channels
is refused. 8-bit images and 16-bit grayscale go through Pillow, the rest of 16 bits through the `io` extra.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from edgedenoise.errors import DamagedImageError, ImageError
from edgedenoise.imaging.headers import HEAD_BYTES, check_pixel_count, format_of, layout_of
from edgedenoise.imaging.image import Frames
from edgedenoise.imaging.metadata.encoding import encoding_of
from edgedenoise.imaging.pillow import ACCEPTED_FORMATS, from_pil, open_with_pillow
from edgedenoise.imaging.readers.bmp import decode_bmp
from edgedenoise.imaging.readers.gif import decode_gif
from edgedenoise.imaging.readers.heif import decode_avif, decode_heic
from edgedenoise.imaging.readers.jpeg import decode_jpeg
from edgedenoise.imaging.readers.options import ReadOptions
from edgedenoise.imaging.readers.png import decode_png
from edgedenoise.imaging.readers.pnm import decode_pnm
from edgedenoise.imaging.readers.raw import RAW_EXTENSIONS, decode_raw
from edgedenoise.imaging.readers.tiff import decode_tiff
from edgedenoise.imaging.readers.webp import decode_webp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgedenoise.imaging.image import Image

# Common formats that are not read: the message names them.
_FOREIGN = {b"8BPS": "Photoshop", b"\xff\x0a": "JPEG XL", b"%PDF": "PDF", b"<svg": "SVG"}
_READERS: Final[dict[str, Callable[[bytes, str, ReadOptions], Image]]] = {
    "PNG": decode_png,
    "TIFF": decode_tiff,
    "JPEG": decode_jpeg,
    "BMP": decode_bmp,
    "GIF": decode_gif,
    "WEBP": decode_webp,
    "PPM": decode_pnm,
    "RAW": decode_raw,
    "HEIF": decode_heic,
    "AVIF": decode_avif,
}


def decode_image(data: bytes, *, name: str = "the image", options: ReadOptions | None = None) -> Image:
    """Decode the bytes of an image file.

    Args:
        data: the whole file.
        name: what messages call it. The extension of a camera raw file matters.
        options: what the caller accepts; None for the defaults.

    Returns:
        The image with its embedded metadata. Frames that follow it are decoded when they are iterated over.

    Raises:
        ImageError, DamagedImageError, RuntimeUnavailableError: as `edgedenoise.imaging.files.read_image`.
    """
    format_ = _format_of(data, name)
    options = options or ReadOptions()
    with errors_of(format_, name):
        layout = layout_of(data, format_, name)
        if layout is not None:
            check_pixel_count(layout, name, options.max_pixels)
        image = _decode(data, format_, name, options)
        image = replace(image, encoding=image.encoding or encoding_of(data, format_))
    later = image.following

    def following() -> Iterator[Image]:
        with errors_of(format_, name):
            yield from later

    return replace(image, following=Frames(len(later), following)) if later else image


def _decode(data: bytes, format_: str, name: str, options: ReadOptions) -> Image:
    reader = _READERS.get(format_)
    if reader is not None:
        return reader(data, name, options)
    return from_pil(open_with_pillow(data, format_, name), name=name)


@contextmanager
def errors_of(format_: str, name: str) -> Iterator[None]:
    """Turn the error of a parser, for a file that breaks its format's rules, into ours."""
    try:
        yield
    except ValueError as error:
        raise DamagedImageError(
            f"{name} is a damaged {format_} file: {error}", hint="Copy the file again from its source."
        ) from error


def _format_of(data: bytes, name: str) -> str:
    """Return the format that the first bytes of a file stand for."""
    if not data:
        raise ImageError(
            f"{name} is empty: expected {ACCEPTED_FORMATS}, got a file of 0 bytes",
            hint="Copy the file again from its source.",
        )
    head = data[:HEAD_BYTES]
    format_ = format_of(head)
    if format_ == "TIFF" and PurePath(name).suffix.lower() in RAW_EXTENSIONS:
        return "RAW"  # makers of cameras use TIFF, where other programs find the preview alone
    if format_ is not None:
        return format_
    foreign = next((kind for mark, kind in _FOREIGN.items() if head.startswith(mark)), None)
    if head[4:8] == b"ftyp":
        foreign = "video"
    what = f"a {foreign} file, which is not supported" if foreign else "not an image file"
    hint = "Convert it to PNG, TIFF or JPEG first." if foreign else "Check that the file is an image and complete."
    if foreign == "video":
        hint = "Videos go from file to file: edgedenoise denoise clip.mp4 -o denoised.mp4"
    raise ImageError(
        f"{name} is {what}: expected {ACCEPTED_FORMATS}, got a file that begins with {head[:8]!r}", hint=hint
    )
