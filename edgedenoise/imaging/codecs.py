"""An `Image` encoded as the bytes of a file. Files are decoded by `edgedenoise.imaging.readers`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO, Final

import numpy as np

from edgedenoise.imaging.bmp_writer import bmp_bytes
from edgedenoise.imaging.heif_writer import avif_bytes, heic_bytes
from edgedenoise.imaging.metadata import exif, jpeg, png, pnm, tiff
from edgedenoise.imaging.metadata.transfer import transferred
from edgedenoise.imaging.optional import check_avif, import_io
from edgedenoise.imaging.pillow import pixels_to_pil
from edgedenoise.imaging.saving import AS_READ, SaveOptions
from edgedenoise.imaging.sequences import ANIMATED, check_sequence, gif_bytes, write_sequence

if TYPE_CHECKING:
    from edgedenoise.imaging.image import Image
    from edgedenoise.imaging.layout import Layout
    from edgedenoise.imaging.metadata.embedded import Metadata, Trailer

_16_BITS: Final = frozenset({"PNG", "PPM", "TIFF"})
_ALPHA: Final = frozenset({"AVIF", "BMP", "GIF", "HEIF", "PNG", "TIFF", "WEBP"})
_MAX_SIDE_PX: Final = {"JPEG": 65500, "WEBP": 16383, "GIF": 65535}  # the first two are limits of libjpeg and libwebp


def check_layout(layout: Layout, format_: str) -> None:
    """Check that a format can hold an image of a layout, and that the packages to write it are installed.

    Raises:
        ValueError: the format cannot hold the frames, the depth, the alpha channel or the size.
        RuntimeUnavailableError: 16-bit colour PNG needs the `io` extra, HEIC the `heic` extra, or AVIF a newer Pillow,
            which is not installed.
    """
    if layout.frames > 1 and format_ not in ANIMATED:
        raise ValueError(f"expected one frame in {format_}, got an animation of {layout.frames}")
    if layout.bits == 16 and format_ not in _16_BITS:
        raise ValueError(f"expected 8 bits per sample in {format_}, got 16")
    if layout.bits == 32 and format_ != "TIFF":
        raise ValueError(f"expected whole numbers as samples in {format_}, got floats")
    if layout.alpha and format_ not in _ALPHA:
        raise ValueError(f"{format_} holds no transparency: expected no alpha channel, got one")
    limit = _MAX_SIDE_PX.get(format_)
    if limit is not None and max(layout.height, layout.width) > limit:
        raise ValueError(f"expected at most {limit} pixels per side in {format_}, got {layout.width} x {layout.height}")
    if format_ == "TIFF" and layout.stored_bytes > tiff.MAX_BYTES:
        raise ValueError(f"expected at most {tiff.MAX_BYTES} bytes of pixels in TIFF, got {layout.stored_bytes}")
    if format_ == "PNG" and layout.bits == 16 and (layout.channels == 3 or layout.alpha):
        import_io("imagecodecs", "writing 16-bit colour PNG")
    if format_ == "HEIF":
        import_io("pillow_heif", "writing HEIC")
    if format_ == "AVIF":
        check_avif("writing AVIF")


def check_encodable(image: Image, format_: str) -> None:
    """Check that a format can hold an image and its metadata, and that the packages to write it are installed.

    Raises:
        ValueError: the format cannot hold the image.
        RuntimeUnavailableError: as `check_layout`.
    """
    check_layout(image.layout, format_)
    check_sequence(image, format_)
    check_metadata(image.metadata, format_)


def check_metadata(metadata: Metadata, format_: str) -> None:
    """Check that a format can hold the metadata of an image.

    Raises:
        ValueError: it cannot.
    """
    if format_ == "TIFF":
        tiff.descriptive_tags(metadata)
    elif format_ == "JPEG":
        jpeg.blocks_of(metadata)


def encode_image(image: Image, format_: str, options: SaveOptions = AS_READ) -> bytes:
    """Encode an image as the bytes of a file.

    Args:
        image: the image.
        format_: one of the values of `EXTENSIONS`. BMP holds the resolution alone of the metadata, and PPM comments.
        options: compression of the file.

    Returns:
        The whole file.

    Raises:
        ValueError, RuntimeUnavailableError: as `check_encodable`.
    """
    stream = BytesIO()
    encode_to(image, format_, stream, options)
    return stream.getvalue()


def encode_to(image: Image, format_: str, stream: BinaryIO, options: SaveOptions = AS_READ) -> None:
    """Write an image and the frames that follow it as a file; one frame is in memory at a time.

    Args:
        image: the image.
        format_: as for `encode_image`.
        stream: receives the file; it can be sought.
        options: compression of the file.

    Raises:
        ValueError, RuntimeUnavailableError: as `check_encodable`.
        ImageError, DamagedImageError: a frame that follows cannot be decoded or has another size.
    """
    check_encodable(image, format_)
    if image.following:
        still = partial(_encode_still, format_=format_, first=image, options=options)
        if format_ == "WEBP":  # whose animation has no other field for them
            image = replace(image, metadata=_with_dpi_and_texts(image.metadata))
        write_sequence(image, format_, still, stream, options.tiff(image))
    else:
        stream.write(_encode_still(image, format_, image, options))


def _encode_still(image: Image, format_: str, first: Image, options: SaveOptions) -> bytes:
    """Return a file of one frame, compressed like the first one of its file."""
    meta = transferred(image.metadata, format_)
    if format_ == "TIFF":
        return tiff.write_tiff(image.to_channels(), meta, alpha=image.alpha is not None, encoding=options.tiff(first))
    if format_ == "GIF":
        return gif_bytes(image)
    if format_ == "PPM":
        return pnm.write_pnm(image.pixels, meta.comments)
    if format_ == "HEIF":
        return heic_bytes(image, _with_dpi_and_texts(meta))
    if format_ == "AVIF":
        return avif_bytes(image, _with_dpi_and_texts(meta))
    if format_ == "PNG":
        return png.insert_blocks(_png_pixels(image, options.png(first).level), png.blocks_of(meta))
    if format_ == "BMP" and image.alpha is not None:
        return bmp_bytes(image)
    stream = BytesIO()
    pixels = pixels_to_pil(image)
    if format_ == "JPEG":
        pixels.save(stream, "JPEG", dpi=meta.dpi or (0, 0), **options.jpeg(first).options())
        return jpeg.with_trailer(jpeg.insert_blocks(stream.getvalue(), jpeg.blocks_of(meta)), _trailer(meta))
    if format_ == "WEBP":  # which has no field for the resolution but the one in EXIF
        profiles = {"icc_profile": meta.icc, "exif": _with_dpi_and_texts(meta).exif, "xmp": meta.xmp}
        quality = options.webp(first).quality
        chosen = {"lossless": True} if quality is None else {"quality": quality}
        pixels.save(stream, "WEBP", exact=True, **chosen, **{key: body for key, body in profiles.items() if body})
    else:
        pixels.save(stream, format_, dpi=meta.dpi or (0, 0))  # Pillow would write 96
    return stream.getvalue()


def _with_dpi_and_texts(meta: Metadata) -> Metadata:
    """Return metadata whose EXIF block holds the resolution and texts, for formats without other fields for them."""
    block = exif.with_texts(meta.exif, meta)
    return replace(meta, exif=block if meta.dpi is None else exif.with_dpi(block, meta.dpi))


def _trailer(meta: Metadata) -> Trailer | None:
    """Return what follows the image in its file, if the metadata are those of that file."""
    return meta.trailer if meta.native_format == "JPEG" else None


def _is_16_bit_colour(image: Image) -> bool:
    return image.bits == 16 and (image.channels == 3 or image.alpha is not None)


def _png_pixels(image: Image, level: int) -> bytes:
    """Return a PNG file of the pixels and alpha alone."""
    if _is_16_bit_colour(image):
        imagecodecs = import_io("imagecodecs", "writing 16-bit colour PNG")
        return bytes(imagecodecs.png_encode(np.ascontiguousarray(image.to_channels()), level=level))
    stream = BytesIO()
    pixels_to_pil(image).save(stream, "PNG", compress_level=level)
    return stream.getvalue()
