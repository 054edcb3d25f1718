"""The headers of image files: what the pixels will be, without decoding them."""

from __future__ import annotations

import mmap
import struct
from typing import TYPE_CHECKING, Final

from edgedenoise.errors import ImageError
from edgedenoise.imaging.layout import Layout
from edgedenoise.imaging.metadata import jpeg, pnm, webp
from edgedenoise.imaging.metadata.gif import read_gif
from edgedenoise.imaging.metadata.ifd import read_ifds
from edgedenoise.imaging.metadata.tiff_pages import full_pages, is_raw
from edgedenoise.imaging.pillow import open_with_pillow
from edgedenoise.system_errors import is_file

if TYPE_CHECKING:
    from pathlib import Path

    from edgedenoise.imaging.metadata.embedded import Block
    from edgedenoise.imaging.metadata.ifd import Ifd

_SIGNATURES: Final = (
    (b"\x89PNG", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"BM", "BMP"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"FUJIFILMCCD-RAW", "RAW"),
    (b"IIRO", "RAW"),  # Olympus
    (b"IIRS", "RAW"),
    (b"MMOR", "RAW"),
    (b"IIU\x00", "RAW"),  # Panasonic
    (b"II\x1a\x00\x00\x00HEAP", "RAW"),  # Canon's CRW
    (b"\x00MRM", "RAW"),  # Minolta
    (b"FOVb", "RAW"),  # Sigma
)


_AVIF_BRANDS: Final = {b"avif", b"avis"}
_HEIF_BRANDS: Final = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
HEAD_BYTES: Final = 64
"""What `format_of` looks at."""


def format_of(head: bytes) -> str | None:
    """Return the format that the first `HEAD_BYTES` of a file stand for; None for another one."""
    for signature, format_ in _SIGNATURES:
        if head.startswith(signature):
            return format_
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:12] == b"ftypcrx ":  # Canon's CR3
        return "RAW"
    if head[4:8] == b"ftyp":
        brands = {
            head[8:12],
            *(head[at : at + 4] for at in range(16, min(len(head), int.from_bytes(head[:4], "big")), 4)),
        }
        return "AVIF" if brands & _AVIF_BRANDS else "HEIF" if brands & _HEIF_BRANDS else None
    return "PPM" if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace() else None


def read_layout(path: Path) -> Layout | None:
    """Return the layout that the header of an image file states, without decoding pixels.

    None where it is not a regular file, cannot be read, or has a header that is not understood: decoding it reports
    the reason.
    """
    if not is_file(path):  # a pipe can be read once
        return None
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            format_ = format_of(data[:HEAD_BYTES])
            return None if format_ is None else layout_of(data, format_)
    except (OSError, ValueError, ImageError):  # ValueError: also an empty file
        return None


def layout_of(data: bytes | mmap.mmap, format_: str, name: str = "the image") -> Layout | None:
    """Return the layout that the header of a file states; None for raw, HEIC and AVIF files: their readers check it.

    Args:
        data: the whole file.
        format_: its format, as `format_of` returns it.
        name: what messages call it.

    Raises:
        ImageError: Pillow does not read this kind of file.
        ValueError: the header is damaged.
    """
    if format_ == "PNG":
        return _png_layout(data)
    if format_ == "JPEG":
        return _jpeg_layout(jpeg.read_segments(data))
    if format_ == "TIFF":
        ifds = read_ifds(data, sub_images=True)
        return None if is_raw(ifds, data) else tiff_layout(full_pages(ifds, name)[0])
    if format_ == "WEBP":
        return _webp_layout(data)
    if format_ == "PPM":
        header = pnm.read_header(data)
        return Layout(header.width, header.height, header.channels, 16 if header.white > 255 else 8, False)
    if format_ in {"RAW", "HEIF", "AVIF"}:
        return None
    if format_ == "GIF":
        found = read_gif(data)
        return Layout(*found.canvas, 3, 8, found.transparent, len(found.timings))
    with open_with_pillow(data, format_, name) as image:
        gray = image.mode in {"1", "L"} or image.mode.startswith("I")
        return Layout(*image.size, 1 if gray else 3, 16 if image.mode.startswith("I") else 8, image.mode == "RGBA")


def _png_layout(data: bytes | mmap.mmap) -> Layout:
    width, height, depth, kind = struct.unpack(">IIBB", data[16:26].ljust(10, b"\x00"))
    at, frames, alpha = 8, 1, kind in {4, 6}
    while data[at + 4 : at + 8] not in {b"IDAT", b"IEND", b""}:
        alpha |= data[at + 4 : at + 8] == b"tRNS"
        if data[at + 4 : at + 8] == b"acTL":
            frames = max(1, int.from_bytes(data[at + 8 : at + 12], "big"))
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return Layout(width, height, 1 if kind in {0, 4} else 3, 16 if depth == 16 else 8, alpha, frames)


def _jpeg_layout(segments: list[Block]) -> Layout:
    frame = jpeg.frame_header(segments)
    if frame is None:
        raise ValueError("it has no frame header")
    bits, height, width, components = struct.unpack(">BHHB", frame[1][:6])
    return Layout(width, height, 1 if components == 1 else 3, 16 if bits > 8 else 8, False)


def tiff_layout(ifd: Ifd) -> Layout:
    """Return the layout of one page of a TIFF file."""
    width, height = (max(ifd.numbers(tag), default=0) for tag in (256, 257))
    samples, extra = max(ifd.numbers(277, (1,))), len(ifd.numbers(338))
    colours = 3 if max(ifd.numbers(262, (1,))) > 1 else 1  # palettes, CMYK and Lab become RGB
    return Layout(width, height, colours, _tiff_bits(ifd), 0 < extra < samples)


def _tiff_bits(ifd: Ifd) -> int:
    if set(ifd.numbers(339, (1,))) == {3}:
        return 32  # floats of any length
    return 16 if max(ifd.numbers(258, (1,))) > 8 else 8


def _webp_layout(data: bytes | mmap.mmap) -> Layout:
    kind, body = data[12:16], data[20:34].ljust(14, b"\x00")
    if kind == b"VP8X":  # extended: flags, then the sides less one in 24 bits each
        width, height = (int.from_bytes(body[at : at + 3], "little") + 1 for at in (4, 7))
        return Layout(width, height, 3, 8, bool(body[0] & 0x10), max(1, webp.count_frames(data)))
    if kind == b"VP8L":  # lossless: a signature, then 14 bits for each side less one, and one for alpha
        bits = int.from_bytes(body[1:5], "little")
        return Layout((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, 3, 8, bool(bits >> 28 & 1))
    width, height = struct.unpack("<HH", body[6:10])  # lossy: a frame header and a start code come before the sides
    return Layout(width & 0x3FFF, height & 0x3FFF, 3, 8, False)


def check_pixel_count(layout: Layout, name: str, max_pixels: int) -> None:
    """Check that an image is not larger than accepted, before its pixels are decoded.

    Raises:
        ImageError: it is.
    """
    if layout.pixels > max_pixels:
        raise ImageError(
            f"{name} is too large: expected at most {max_pixels} pixels, "
            f"got {layout.width} x {layout.height} = {layout.pixels}",
            hint=f"If you trust the file, allow it with --max-pixels {layout.pixels} (in Python: max_pixels).",
        )
