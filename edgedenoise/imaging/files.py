"""Image files in and out, without losing anything that the denoiser does not change.

A `Image` is pixels as stored, 8 or 16 bits, with the alpha channel and the metadata beside them. Reading
tells the bit depth from the file's own header, because Pillow opens 16-bit colour as 8-bit without a word.
Pixels are never turned: the EXIF orientation stays in the file, so a viewer applies it exactly once.

`pixels.py` is the image in memory, `picture_codecs.py` the formats, `containers.py` what surrounds pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from edgedenoise.errors import DatasetError, ImageError
from edgedenoise.files import write_bytes
from edgedenoise.imaging.codecs import decode_image, encode_image, from_pil, to_pil
from edgedenoise.imaging.image import Image, Metadata, from_unit, to_unit

__all__ = [
    "EXTENSIONS",
    "Image",
    "Metadata",
    "decode_image",
    "encode_image",
    "format_for",
    "from_pil",
    "from_unit",
    "list_images",
    "read_image",
    "to_pil",
    "to_unit",
    "write_image",
]

EXTENSIONS: Final = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".ppm": "PPM",
    ".pgm": "PPM",
    ".pnm": "PPM",
}
"""Accepted file name endings and the format that each stands for."""

_DEEP = frozenset({"PNG", "TIFF"})  # hold 16 bits
_WITH_ALPHA = frozenset({"PNG", "TIFF", "WEBP"})


def list_images(folder: Path | str) -> list[Path]:
    """Return the image files directly in `folder`, sorted by name; hidden ones are left out.

    Raises:
        DatasetError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        found = "it is a file" if folder.exists() else "there is no such folder"
        raise DatasetError(f"{folder} cannot be listed: {found}", hint="Name a folder of images.")
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()
    )


def format_for(path: Path | str, *, bits: int = 8, alpha: bool = False) -> str:
    """Return the format that a file name's ending stands for, after making sure that it can hold the image.

    Raises:
        ImageError: the ending is unknown, or its format cannot hold `bits` bits or an alpha channel.
    """
    path = Path(path)
    format_ = EXTENSIONS.get(path.suffix.lower())
    if format_ is None:
        found = f"the ending {path.suffix!r}" if path.suffix else "no ending"
        raise ImageError(f"{path} cannot be written: it has {found}; accepted: {', '.join(EXTENSIONS)}")
    if bits == 16 and format_ not in _DEEP:
        raise ImageError(
            f"{path} cannot be written: {format_} holds 8 bits and the image has 16; accepted: .png, .tif, .tiff",
            hint=f"Write {path.with_suffix('.png').name} instead, or convert the image to 8 bits first.",
        )
    if alpha and format_ not in _WITH_ALPHA:
        raise ImageError(
            f"{path} cannot be written: {format_} holds no alpha channel; accepted: .png, .tif, .tiff, .webp",
            hint=f"Write {path.with_suffix('.png').name} instead.",
        )
    return format_


def read_image(path: Path | str) -> Image:
    """Read an image file. The format is told by its content, not by its name.

    Palettes become RGB, 1-bit images 8-bit grayscale; everything else keeps its depth and channels.

    Raises:
        ImageError: there is no such file, it is not an image, or a kind of image that is not supported.
        DamagedImageError: the image is cut short or corrupt.
        RuntimeUnavailableError: it has 16-bit colour and the `io` extra is not installed.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"{path} does not exist", hint="Check the name; it is relative to where you are.") from None
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}") from error
    return decode_image(data, name=str(path))


def write_image(photo: Image, path: Path | str) -> None:
    """Write an image file, whole or not at all; the format follows the ending of its name.

    JPEG is written at quality 95 without chroma subsampling, WEBP without loss, TIFF without compression.

    Raises:
        ImageError: the format cannot hold the image (see `format_for`).
        OutputError: the file cannot be written.
        RuntimeUnavailableError: it is a 16-bit colour PNG and the `io` extra is not installed.
    """
    path = Path(path)
    format_ = format_for(path, bits=photo.bits, alpha=photo.alpha is not None)
    try:
        data = encode_image(photo, format_)
    except ValueError as error:
        raise ImageError(f"{path} cannot be written: {error}") from error
    write_bytes(path, data)
