"""Conversion between `Image` and `PIL.Image`, and files opened with Pillow without its surprises."""

from __future__ import annotations

import struct
import threading
import warnings
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image as PILImage
from PIL import UnidentifiedImageError

from edgedenoise.errors import DamagedImageError, ImageError
from edgedenoise.imaging.image import Image
from edgedenoise.imaging.metadata.embedded import Metadata, stated_dpi
from edgedenoise.imaging.metadata.exif import PREFIX as EXIF_PREFIX
from edgedenoise.imaging.metadata.exif import exif_dpi

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator

ACCEPTED_FORMATS: Final = "PNG, TIFF or PPM (8 or 16 bits), JPEG, WebP, BMP, GIF, HEIC, AVIF or camera raw"
DECODING_ERRORS: Final = (
    OSError,
    SyntaxError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    PILImage.DecompressionBombError,
)
"""What Pillow raises for damaged files, beside ValueError."""
_lock = threading.Lock()  # warnings and the limit of Pillow belong to the whole process


def from_pil(image: PILImage.Image, *, name: str = "the image") -> Image:
    """Return a `PIL.Image` as an `Image`.

    Args:
        image: mode L, LA, RGB, RGBA or I;16 as it is, 1 as L, P and PA as RGB or RGBA.
        name: what messages call the image.

    Returns:
        The pixels, alpha and metadata that Pillow found.

    Raises:
        ImageError: the image has another mode, or is 16-bit colour, which Pillow would read as 8-bit.
        DamagedImageError: its file is cut short or corrupt.
    """
    mode = image.mode
    for tile in getattr(image, "tile", ()):
        if ";16" in str(tile[3]) and not mode.startswith("I") and mode != "F" and image.format != "BMP":
            raise ImageError(
                f"{name} cannot be converted: expected 8 bits per sample, got 16, which Pillow reads as 8",
                hint="Read the file with edgedenoise.imaging.files.read_image.",
            )
    if "transparency" in image.info and mode in {"1", "L", "P", "RGB"}:
        wanted = "LA" if mode in {"1", "L"} else "RGBA"
    else:
        wanted = {"1": "L", "P": "RGB", "PA": "RGBA"}.get(mode, mode)
        if mode == "P" and image.palette is not None and image.palette.mode == "RGBA":
            wanted = "RGBA"
    if not (wanted in {"L", "LA", "RGB", "RGBA"} or wanted.startswith("I;16")):
        raise ImageError(
            f"{name} has an unsupported Pillow mode: expected 1, L, LA, P, PA, RGB, RGBA or I;16, got {mode}",
            hint=f"Convert {mode} to RGB first{', with its colour profile' if mode == 'CMYK' else ''}.",
        )
    try:
        if image.format == "TIFF":  # Pillow parses its metadata, and warns about it, only when it loads the pixels
            with unhindered():
                image.load()
        array = np.array(image if wanted == mode else image.convert(wanted))
    except (ValueError, *DECODING_ERRORS) as error:
        raise DamagedImageError(
            f"{name} is a damaged {image.format} file: {error}", hint="Copy the file again from its source."
        ) from error
    array = array.astype(np.uint16 if array.dtype.itemsize == 2 else np.uint8)  # also fixes the byte order
    return Image.from_channels(array, metadata_of(image), image.format or "PNG")


def to_pil(image: Image, *, like: PILImage.Image | None = None) -> PILImage.Image:
    """Return an `Image` as a `PIL.Image` of mode L, LA, RGB, RGBA or I;16, with its metadata in `info`.

    Args:
        image: the image to convert.
        like: the `PIL.Image` that it was made from. Its `info` is copied, except for a transparent colour, which has
            become alpha.

    Returns:
        A new `PIL.Image`.

    Raises:
        ImageError: Pillow has no mode for the image: 16-bit colour, or 16 bits with alpha.
    """
    converted = pixels_to_pil(image)
    if like is not None:
        converted.info = {key: value for key, value in like.info.items() if key != "transparency"}
    meta = image.metadata
    exif = EXIF_PREFIX + meta.exif if meta.exif else None
    for key, value in (("icc_profile", meta.icc), ("exif", exif), ("xmp", meta.xmp), ("dpi", meta.dpi)):
        if value is not None:
            converted.info[key] = value
    return converted


def pixels_to_pil(image: Image) -> PILImage.Image:
    """Return the pixels and alpha alone as a `PIL.Image`."""
    array = image.to_channels()
    if image.bits == 32 or (image.bits == 16 and array.shape[2] > 1):
        raise ImageError(
            f"Pillow has no mode for the image: expected 8 bits, or 16 bits and one channel,"
            f" got {image.bits} bits, {array.shape[2]} channels",
            hint="Write the Image with edgedenoise.imaging.files.write_image, or convert it to 8 bits.",
        )
    return PILImage.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def open_with_pillow(data: bytes | mmap.mmap, format_: str, name: str) -> PILImage.Image:
    """Open the bytes of a file of a known format with Pillow, without its warnings; pixels are decoded later.

    Callers check the size first: `edgedenoise.imaging.headers.check_pixel_count`.

    Raises:
        ImageError: it is a kind of TIFF that Pillow does not read.
        ValueError: the file is damaged.
    """
    stream: Any = BytesIO(data) if isinstance(data, bytes) else data
    try:
        with unhindered():
            # An MPO is a JPEG with more images behind it, as phones write: the first is the image.
            image = PILImage.open(stream, formats=[format_, "MPO"] if format_ == "JPEG" else [format_])
    except UnidentifiedImageError as error:
        if format_ == "TIFF":  # its directory has been read already, and is sound
            raise ImageError(
                f"{name} is an unsupported kind of TIFF: expected {ACCEPTED_FORMATS}",
                hint="Convert it to 8-bit or 16-bit grayscale or RGB first, in an image editor.",
            ) from error
        raise ValueError("its header cannot be read") from error
    except DECODING_ERRORS as error:
        raise ValueError(f"it cannot be decoded ({error})") from error
    image.format = format_
    return image


def frame_count(image: PILImage.Image) -> int:
    """Return the number of frames of an opened file; Pillow parses the whole file for it.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with unhindered():
            return int(getattr(image, "n_frames", 1))
    except DECODING_ERRORS as error:
        raise ValueError(f"its frames cannot be counted ({error})") from error


@contextmanager
def unhindered(max_pixels: int | None = None) -> Iterator[None]:
    """Silence Pillow's warnings about unusual metadata, which we copy as it is, and replace its limit of pixels.

    Pillow's limit belongs to the whole process and is too low for large cameras.

    Args:
        max_pixels: the limit; None where the size has been checked before.
    """
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = (
            None if max_pixels is None else -(-max_pixels // 2)
        )  # Pillow warns above its limit, and fails above twice
        limit, PILImage.MAX_IMAGE_PIXELS = PILImage.MAX_IMAGE_PIXELS, ours
        try:
            yield
        finally:
            PILImage.MAX_IMAGE_PIXELS = limit


def metadata_of(image: PILImage.Image) -> Metadata:
    """Return the metadata that Pillow found when it opened a file; no pixel is decoded."""
    info = image.info
    exif = info.get("exif")
    exif = exif.removeprefix(EXIF_PREFIX) or None if isinstance(exif, bytes) else None
    xmp = info.get("xmp")
    dpi = info.get("dpi")
    if image.format in {"JPEG", "MPO"} and info.get("jfif_unit") not in {1, 2}:
        dpi = None  # Pillow reports 72 where EXIF states none
    return Metadata(
        icc=info.get("icc_profile") or None,
        exif=exif,
        xmp=xmp.encode() if isinstance(xmp, str) else xmp or None,
        dpi=(stated_dpi(*dpi) if dpi else None) or exif_dpi(exif),
    )
