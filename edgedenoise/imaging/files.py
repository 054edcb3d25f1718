"""Image files read and written without losing anything that the denoiser does not change.

An `Image` holds the pixels as stored, 8 or 16 bits, with the alpha channel and the embedded metadata beside them. The
bit depth is read from the file's own header, because Pillow silently opens 16-bit colour as 8-bit. Pixels are
never rotated: the EXIF orientation stays in the file, so that a viewer applies it exactly once.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgedenoise.atomic import write_stream
from edgedenoise.errors import ImageError
from edgedenoise.imaging.codecs import check_encodable, check_layout, check_metadata, encode_to
from edgedenoise.imaging.image import Image, from_unit, to_unit
from edgedenoise.imaging.layout import MAX_PIXELS
from edgedenoise.imaging.metadata.transfer import losses
from edgedenoise.imaging.readers.decoding import decode_image
from edgedenoise.imaging.readers.options import RawOutput, ReadOptions
from edgedenoise.imaging.readers.raw import RAW_EXTENSIONS
from edgedenoise.imaging.readers.rows import open_by_rows
from edgedenoise.imaging.row_writers import WRITTEN_BY_ROWS, write_bands
from edgedenoise.imaging.saving import AS_READ, SaveOptions
from edgedenoise.system_errors import reason_and_hint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgedenoise.imaging.layout import Layout
    from edgedenoise.imaging.row_files import ImageRows

__all__ = [
    "EXTENSIONS",
    "READABLE",
    "Image",
    "check_can_hold",
    "check_layout_fits",
    "format_for",
    "from_unit",
    "read_image",
    "to_unit",
    "write_image",
]

_log = logging.getLogger(__name__)
EXTENSIONS: Final = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".heic": "HEIF",
    ".heif": "HEIF",
    ".hif": "HEIF",
    ".avif": "AVIF",
    ".gif": "GIF",
    ".apng": "PNG",
    ".ppm": "PPM",
    ".pgm": "PPM",
    ".pnm": "PPM",
}
"""Extensions that are written, and the format that each stands for."""

READABLE: Final = frozenset(EXTENSIONS) | RAW_EXTENSIONS
"""Extensions that are read: those, and the ones of camera raw files."""


def output_name(path: Path) -> Path:
    """Return the name of the output of an image in another folder: the same, or TIFF for a camera raw file."""
    return path.with_suffix(".tif") if path.suffix.lower() in RAW_EXTENSIONS else path


def format_for(path: Path | str) -> str:
    """Return the format that the extension of a file name stands for.

    Raises:
        ImageError: the extension is unknown.
    """
    path = Path(path)
    format_ = EXTENSIONS.get(path.suffix.lower())
    if format_ is None:
        found = repr(path.suffix) if path.suffix else "no extension"
        raise ImageError(
            f"{path} cannot be written: expected one of {', '.join(EXTENSIONS)}, got {found}",
            hint=f"Write {path.with_suffix('.png')} instead." if path.name else None,
        )
    return format_


def check_can_hold(image: Image, path: Path | str) -> str:
    """Check that the format of a file name can hold an image with its metadata.

    Returns:
        The format, one of the values of `EXTENSIONS`.

    Raises:
        ImageError: the extension is unknown, or its format cannot hold the depth, the alpha channel, the size or the
            metadata of the image.
        RuntimeUnavailableError: the image is 16-bit colour, the format PNG, and the `io` extra is not installed.
    """
    path = Path(path)
    format_ = format_for(path)
    pages = bool(image.following) and image.metadata.timing is None
    with _explained(path, ".tif" if pages or image.bits == 32 else ".png"):
        check_encodable(image, format_)
    return format_


def check_layout_fits(layout: Layout, path: Path, command: Callable[[Path], str] | None = None) -> None:
    """Check what `check_can_hold` checks, as far as the header of an image determines it: before it is decoded.

    Args:
        layout: what the header states.
        path: the file to write.
        command: makes the command line that writes another file instead; None where there is no command.

    Raises:
        ImageError, RuntimeUnavailableError: as `check_can_hold`.
    """
    format_ = format_for(path)
    with _explained(path, ".tif" if layout.bits == 32 else ".png", command):
        check_layout(layout, format_)


@contextmanager
def _explained(path: Path, ending: str = ".png", command: Callable[[Path], str] | None = None) -> Iterator[None]:
    """Turn the ValueError of a format that cannot hold an image into an error that names a file of another `ending`."""
    try:
        yield
    except ValueError as error:
        other = path.with_suffix(ending)
        hint = f"Write {other} instead." if command is None else f"Write {other} instead: {command(other)}"
        raise ImageError(f"{path} cannot be written: {error}", hint=hint) from error


def read_image(
    path: Path | str,
    *,
    frames: bool = False,
    max_pixels: int = MAX_PIXELS,
    convert_cmyk: bool = False,
    raw: RawOutput = "srgb",
) -> Image:
    """Read an image file. Its content decides the format, not its name.

    Args:
        path: PNG, TIFF, PPM, JPEG, WebP, BMP, GIF, HEIC, AVIF or a camera raw file; see docs/reference/formats.md.
        frames: read animations and files of several pages; `Image.following` yields what follows the first frame.
            Without it they are refused.
        max_pixels: largest number of pixels that is accepted.
        convert_cmyk: convert CMYK to sRGB through the colour profile of the file. Without it CMYK is refused.
        raw: `srgb` or `linear`, the curve of camera raw files that are developed.

    Returns:
        The image as stored. Palettes become RGB and 1-bit images 8-bit grayscale; everything else keeps its depth and
        channels.

    Raises:
        ImageError: there is no such file, it is not an image, a kind of image that is not supported, or too large.
        DamagedImageError: the image is cut short or corrupt.
        RuntimeUnavailableError: it has 16-bit colour and the `io` extra is not installed.
    """
    options = ReadOptions(frames=frames, max_pixels=max_pixels, convert_cmyk=convert_cmyk, raw=raw)
    return decode_image(read_file(Path(path)), name=str(path), options=options)


def read_file(path: Path) -> bytes:
    """Read the bytes of an image file.

    Raises:
        ImageError: there is no such file, or it cannot be read.
    """
    with _read_errors(path):
        return path.read_bytes()


def open_rows(path: Path | str, *, max_pixels: int = MAX_PIXELS) -> ImageRows | None:
    """Open an image file of any size to be read by rows; its metadata are read now.

    Args:
        path: PNG, JPEG or TIFF file.
        max_pixels: largest number of pixels that is accepted.

    Returns:
        The image; None where it has to be decoded whole by `read_image`. That are images with alpha or a palette,
        interlaced ones, CMYK, floats, several pages or frames, and other formats.

    Raises:
        ImageError, DamagedImageError: as `read_image`. Damage within the pixels is found when they are read.
        RuntimeUnavailableError: the `large` extra is not installed.
    """
    path = Path(path)
    with _read_errors(path):
        return open_by_rows(path, str(path), max_pixels)


def write_rows(image: ImageRows, path: Path | str, options: SaveOptions = AS_READ) -> None:
    """Write an image by rows to a file, whole or not at all; otherwise as `write_image`.

    JPEG files are sequential.

    Args:
        image: the image; its pixels are read once.
        path: the file. Its extension decides the format, one of `WRITTEN_BY_ROWS`.
        options: compression that replaces the one of the file that was read.

    Raises:
        ImageError, RuntimeUnavailableError: as `check_rows_fit`.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    format_ = check_rows_fit(image, path)
    with _explained(path):
        write_stream(path, lambda stream: write_bands(image, format_, stream, options))
    _warn(path, losses(image.metadata, format_))


def check_rows_fit(image: ImageRows, path: Path) -> str:
    """Check that an image can be written by rows to a file, and return the format.

    Raises:
        ImageError: the extension is unknown or of another format than `WRITTEN_BY_ROWS`, or the format cannot hold the
            depth, the size or the metadata of the image.
        RuntimeUnavailableError: as `check_can_hold`.
    """
    format_ = format_for(path)
    with _explained(path):
        if format_ not in WRITTEN_BY_ROWS:
            raise ValueError(f"expected {', '.join(sorted(WRITTEN_BY_ROWS))} for an image by rows, got {format_}")
        check_layout(image.layout, format_)
        check_metadata(image.metadata, format_)
    return format_


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    """Turn errors of the system, when a file is read, into ours."""
    try:
        yield
    except FileNotFoundError:
        raise ImageError(
            f"{path} does not exist", hint=f"Check the name: relative paths start at {Path.cwd()}."
        ) from None
    except OSError as error:
        reason, hint = reason_and_hint(error, path)
        raise ImageError(f"{path} cannot be read: {reason}", hint=hint) from error


def write_image(image: Image, path: Path | str, options: SaveOptions = AS_READ) -> None:
    """Write an image file, whole or not at all.

    Args:
        image: the image with its metadata.
        path: the file. Its extension decides the format. In the format that the image was read from, the compression
            is kept: tables, chroma subsampling and progression of JPEG, the kind of WEBP, the method of TIFF, the
            level of PNG. Otherwise JPEG is written at quality 95 without chroma subsampling, WEBP without loss, TIFF
            without compression.
        options: compression that replaces it.

    Raises:
        ImageError, RuntimeUnavailableError: as `check_can_hold`.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    format_ = check_can_hold(image, path)
    with _explained(path):
        write_stream(path, partial(encode_to, image, format_, options=options))
    _warn(path, losses(image.metadata, format_))


def _warn(path: Path, sentences: tuple[str, ...]) -> None:
    for sentence in sentences:
        _log.warning("%s: %s", path, sentence)
