"""Image formats: the bytes of a file to an `Image` and back.

The header of each format is read before its pixels are decoded, and a file that would lose bits, frames or channels
is refused. 8-bit images and 16-bit grayscale go through Pillow, the rest of 16 bits through the `io` extra.
"""

from __future__ import annotations

from io import BytesIO
from typing import Final

import numpy as np

from edgedenoise.errors import DamagedImageError, ImageError
from edgedenoise.imaging.image import Image
from edgedenoise.imaging.metadata import exif, jpeg, png, tiff
from edgedenoise.imaging.optional import import_io
from edgedenoise.imaging.pillow import ACCEPTED_FORMATS, from_pil, open_with_pillow, pixels_to_pil
from edgedenoise.imaging.tiff_codec import decode_tiff

# Common formats that are not read: the message names them.
_FOREIGN = {b"GIF8": "GIF", b"8BPS": "Photoshop", b"\xff\x0a": "JPEG XL", b"%PDF": "PDF", b"<svg": "SVG"}
_JPEG_QUALITY = 95
_16_BITS: Final = frozenset({"PNG", "TIFF"})
_ALPHA: Final = frozenset({"PNG", "TIFF", "WEBP"})
_MAX_SIDE_PX: Final = {"JPEG": 65500, "WEBP": 16383}  # the limits of libjpeg and libwebp
_MAX_TIFF_BYTES: Final = 0xFF000000


def decode_image(data: bytes, *, name: str = "the image") -> Image:
    """Decode the bytes of an image file.

    Args:
        data: the whole file.
        name: what messages call it.

    Returns:
        The image with its embedded metadata.

    Raises:
        ImageError, DamagedImageError, RuntimeUnavailableError: as `edgedenoise.imaging.files.read_image`.
    """
    format_ = _format_of(data, name)
    try:
        if format_ == "PNG":
            return _decode_png(data, name)
        if format_ == "TIFF":
            return decode_tiff(data, name)
        if format_ == "JPEG":
            return _decode_jpeg(data, name)
        if format_ == "PPM":
            _check_ppm_depth(data, name)
        return from_pil(open_with_pillow(data, format_, name), name=name)
    except ValueError as error:  # raised by the parsers for a file that breaks its format's rules
        raise DamagedImageError(
            f"{name} is a damaged {format_} file: {error}", hint="Copy the file again from its source."
        ) from error


def check_encodable(image: Image, format_: str) -> None:
    """Check that a format can hold an image and its metadata, and that the packages to write it are installed.

    Raises:
        ValueError: the format cannot hold the image.
        RuntimeUnavailableError: 16-bit colour PNG needs the `io` extra, which is not installed.
    """
    if image.bits == 16 and format_ not in _16_BITS:
        raise ValueError(f"expected 8 bits per sample in {format_}, got 16")
    if image.alpha is not None and format_ not in _ALPHA:
        raise ValueError(f"expected no alpha channel in {format_}, got one")
    limit = _MAX_SIDE_PX.get(format_)
    if limit is not None and max(image.height, image.width) > limit:
        raise ValueError(f"expected at most {limit} pixels per side in {format_}, got {image.width} x {image.height}")
    if format_ == "TIFF":
        tiff.descriptive_tags(image.metadata)
        size = image.pixels.nbytes + (0 if image.alpha is None else image.alpha.nbytes)
        if size > _MAX_TIFF_BYTES:
            raise ValueError(f"expected at most {_MAX_TIFF_BYTES} bytes of pixels in TIFF, got {size}")
    elif format_ == "JPEG":
        jpeg.blocks_of(image.metadata)
    elif format_ == "PNG" and _is_16_bit_colour(image):
        import_io("imagecodecs", "writing 16-bit colour PNG")


def encode_image(image: Image, format_: str) -> bytes:
    """Encode an image as the bytes of a file.

    Args:
        image: the image.
        format_: one of the values of `EXTENSIONS`. BMP and PPM hold no metadata but the resolution of BMP.

    Returns:
        The whole file.

    Raises:
        ValueError, RuntimeUnavailableError: as `check_encodable`.
    """
    check_encodable(image, format_)
    meta = image.metadata
    if format_ == "TIFF":
        return tiff.write_tiff(image.to_channels(), meta, alpha=image.alpha is not None)
    if format_ == "PNG":
        return png.insert_blocks(_png_pixels(image), png.blocks_of(meta))
    stream = BytesIO()
    pixels = pixels_to_pil(image)
    if format_ == "JPEG":
        pixels.save(stream, "JPEG", quality=_JPEG_QUALITY, subsampling=0, dpi=meta.dpi or (0, 0))
        return jpeg.insert_blocks(stream.getvalue(), jpeg.blocks_of(meta))
    if format_ == "WEBP":  # which has no field for the resolution but the one in EXIF
        block = meta.exif if meta.dpi is None else exif.with_dpi(meta.exif, meta.dpi)
        profiles = {"icc_profile": meta.icc, "exif": block, "xmp": meta.xmp}
        pixels.save(stream, "WEBP", lossless=True, exact=True, **{key: body for key, body in profiles.items() if body})
    elif format_ == "BMP":
        pixels.save(stream, "BMP", dpi=meta.dpi or (0, 0))  # Pillow would write 96
    else:
        pixels.save(stream, format_)
    return stream.getvalue()


def _is_16_bit_colour(image: Image) -> bool:
    return image.bits == 16 and (image.channels == 3 or image.alpha is not None)


def _png_pixels(image: Image) -> bytes:
    """Return a PNG file of the pixels and alpha alone."""
    if _is_16_bit_colour(image):
        imagecodecs = import_io("imagecodecs", "writing 16-bit colour PNG")
        return bytes(imagecodecs.png_encode(np.ascontiguousarray(image.to_channels())))
    stream = BytesIO()
    pixels_to_pil(image).save(stream, "PNG")
    return stream.getvalue()


def _format_of(data: bytes, name: str) -> str:
    """Return the format that the first bytes of a file stand for."""
    if not data:
        raise ImageError(f"{name} is empty: expected {ACCEPTED_FORMATS}, got a file of 0 bytes")
    head = data[:16]
    for signature, format_ in (
        (b"\x89PNG", "PNG"),
        (b"\xff\xd8\xff", "JPEG"),
        (b"II*\x00", "TIFF"),
        (b"MM\x00*", "TIFF"),
        (b"II+\x00", "TIFF"),
        (b"MM\x00+", "TIFF"),
        (b"BM", "BMP"),
    ):
        if head.startswith(signature):
            return format_
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return "PPM"
    foreign = next((kind for mark, kind in _FOREIGN.items() if head.startswith(mark)), None)
    if head[4:8] == b"ftyp":
        foreign = "HEIC, AVIF or video"
    what = f"a {foreign} file, which is not supported" if foreign else "not an image file"
    raise ImageError(f"{name} is {what}: expected {ACCEPTED_FORMATS}, got a file that begins with {head[:8]!r}")


def _decode_png(data: bytes, name: str) -> Image:
    chunks = png.read_chunks(data)
    frames = next((int.from_bytes(body[:4], "big") for kind, body in chunks if kind == b"acTL"), 1)
    if frames > 1:
        raise ImageError(f"{name} is an animation: expected one frame, got {frames}")
    depth, colour_type = chunks[0][1][8], chunks[0][1][9]
    meta = png.read_metadata(chunks)
    key = None
    if depth == 16:  # libraries apply the transparent colour in 8 bits, so it is applied here
        key = next((body for kind, body in chunks if kind == b"tRNS"), None)
        chunks = [chunk for chunk in chunks if chunk[0] != b"tRNS"]
    bare = png.without_metadata(chunks)
    opened = open_with_pillow(bare, "PNG", name)  # also refuses decompression bombs
    if depth < 16 or colour_type == 0:
        image = from_pil(opened, name=name)
    else:
        imagecodecs = import_io("imagecodecs", f"reading the 16-bit colour PNG {name}")
        try:
            image = Image.from_channels(np.asarray(imagecodecs.png_decode(bare), np.uint16), meta, "PNG")
        except RuntimeError as error:
            raise ValueError(str(error)) from error
    alpha = image.alpha
    if key is not None and alpha is None:
        alpha = ((image.pixels != np.frombuffer(key, ">u2")).any(axis=2) * 65535).astype(np.uint16)
    return Image(image.pixels, alpha, meta, "PNG")


def _decode_jpeg(data: bytes, name: str) -> Image:
    segments = jpeg.read_segments(data)
    bits = jpeg.bits_per_sample(segments)
    if bits != 8:
        raise ImageError(f"{name} is an unsupported kind of JPEG: expected 8 bits per sample, got {bits}")
    image = from_pil(open_with_pillow(data, "JPEG", name), name=name)
    return Image(image.pixels, image.alpha, jpeg.read_metadata(segments), "JPEG")


def _check_ppm_depth(data: bytes, name: str) -> None:
    """Raise for a PPM of more than 8 bits: Pillow would reduce it to 8."""
    if data[1:2] in b"14":  # bitmaps have no largest value
        return
    numbers: list[bytes] = []
    for line in data[2:4096].splitlines():
        numbers += line.split(b"#")[0].split()
    if len(numbers) < 3 or not numbers[2][:6].isdigit():
        raise ValueError("its header gives no width, height and largest value")
    if int(numbers[2]) > 255:
        raise ImageError(
            f"{name} is an unsupported kind of PPM: expected values up to 255, got {int(numbers[2])}",
            hint="Convert it to a 16-bit PNG or TIFF.",
        )
