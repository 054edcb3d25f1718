"""Parts of files that are not written back are named, whatever else the file holds."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

import pytest
from image_files import ICC, random_array
from PIL import Image as PILImage

from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.metadata import jpeg, png, webp
from edgedenoise.imaging.metadata.ifd import Ifd, read_ifds, write_ifd
from edgedenoise.imaging.metadata.transfer import losses
from edgedenoise.imaging.readers.decoding import decode_image

if TYPE_CHECKING:
    from pathlib import Path

PIXELS = random_array((24, 32, 3))


def encoded(format_: str, **options: object) -> bytes:
    """Return a file of `PIXELS`."""
    stream = io.BytesIO()
    PILImage.fromarray(PIXELS).save(stream, format_, **options)
    return stream.getvalue()


def with_sampling(data: bytes, factors: bytes) -> bytes:
    """Return a JPEG file with other sampling factors of the first component; its pixels are invalid."""
    at = data.index(b"\xff\xc0")
    return data[: at + 11] + factors + data[at + 12 :]


def notes_of(data: bytes) -> tuple[str, ...]:
    """Return the notes of a file."""
    return decode_image(data).metadata.notes


@pytest.mark.parametrize(
    ("segment", "name"), [((b"\xff\xe2", b"FPXR\x00x"), "APP2"), ((b"\xff\xe0", b"JFXX\x00\x13"), "APP0")]
)
def test_a_jpeg_segment_is_named_beside_a_kept_one_of_the_same_kind(segment: tuple[bytes, bytes], name: str) -> None:
    data = jpeg.insert_blocks(encoded("JPEG", icc_profile=ICC), (segment,))
    assert notes_of(data) == (f"its application segments {name} are not kept",)


def test_parts_of_a_jpeg_that_are_made_anew_are_not_named() -> None:
    assert notes_of(encoded("JPEG", icc_profile=ICC, dpi=(300, 300))) == ()
    adobe = (b"\xff\xee", b"Adobe\x00\x64\x00\x00\x00\x00\x01")
    assert notes_of(jpeg.insert_blocks(encoded("JPEG"), (adobe,))) == ()


@pytest.mark.parametrize(("factors", "written"), [(b"\x11", 0), (b"\x21", 1), (b"\x22", 2), (b"\x12", 0), (b"\x41", 0)])
def test_a_subsampling_that_is_not_written_is_named_for_jpeg_alone(factors: bytes, written: int) -> None:
    segments = jpeg.read_segments(with_sampling(encoded("JPEG", subsampling=0), factors))
    meta = jpeg.read_metadata(segments)
    kept = jpeg.SUBSAMPLINGS.get(jpeg.sampling(segments))
    assert (kept or 0) == written
    assert len(losses(meta, "JPEG")) == (kept is None)
    assert losses(meta, "PNG") == ()


def test_equal_factors_of_all_components_are_full_resolution() -> None:
    frame = (b"\xff\xc0", struct.pack(">BHHB", 8, 8, 8, 3) + b"\x01\x22\x00\x02\x22\x00\x03\x22\x00")
    assert jpeg.sampling([frame]) == (1, 1)
    assert jpeg.sampling([]) == (1, 1)


def test_dropped_chunks_of_png_are_named() -> None:
    blocks = ((b"caBX", b"x"), (b"bKGD", bytes(6)), (b"teSt", b"kept"))
    assert notes_of(png.insert_blocks(encoded("PNG"), blocks)) == ("its chunks caBX are not kept",)


def test_dropped_tags_and_layers_of_tiff_are_named() -> None:
    data = encoded("TIFF", description="kept")
    assert notes_of(data) == ()
    page = read_ifds(data)[0]
    start = page.numbers(273)[0]
    more = {37724: (7, 5, b"8BIMx"), 65000: (2, 2, b"x\x00"), 50839: (1, 4, b"abcd")}
    values = {**page.values, **more}
    values[273] = (4, 1, struct.pack("<I", len(write_ifd(Ifd("<", values, {})))))  # the pixels follow the directory
    assert notes_of(write_ifd(Ifd("<", values, {})) + data[start:]) == (
        "its Photoshop layers are not kept",
        "its TIFF tags 50839, 65000 are not kept",
    )


def test_the_colour_profile_of_gif_is_kept_in_other_formats_and_named_in_gif(tmp_path: Path) -> None:
    stream = io.BytesIO()
    PILImage.fromarray(PIXELS).quantize().save(stream, "GIF")
    data = stream.getvalue()
    at = 13 + 3 * (2 << (data[10] & 7))
    parts = (ICC[start : start + 255] for start in range(0, len(ICC), 255))
    extension = b"\x21\xff\x0bICCRGBG1012" + b"".join(bytes((len(part),)) + part for part in parts) + b"\x00"
    image = decode_image(data[:at] + extension + data[at:])
    write_image(image, tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").metadata.icc == ICC
    assert losses(image.metadata, "GIF") == ("GIF cannot hold its colour profile",)


def test_dropped_chunks_of_webp_are_named() -> None:
    data = encoded("WEBP", icc_profile=ICC)
    assert notes_of(data) == ()
    more = data + webp.chunk(b"C2PA", b"abcd")
    assert notes_of(more[:4] + struct.pack("<I", len(more) - 8) + more[8:]) == ("its chunks C2PA are not kept",)


def test_the_colour_profile_of_bmp_is_kept_in_other_formats_and_named_in_bmp(tmp_path: Path) -> None:
    pixels = PIXELS[::-1, :, ::-1].tobytes()
    header = struct.pack("<IiiHHIIiiII", 124, 32, 24, 1, 24, 0, len(pixels), 0, 0, 0, 0) + bytes(16) + b"DEBM"
    header += bytes(48) + struct.pack("<IIII", 4, 124 + len(pixels), len(ICC), 0)
    start = struct.pack("<IHHI", 14 + 124 + len(pixels) + len(ICC), 0, 0, 14 + 124)
    image = decode_image(b"BM" + start + header + pixels + ICC)
    assert (image.pixels == PIXELS).all()
    write_image(image, tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").metadata.icc == ICC
    assert losses(image.metadata, "BMP") == ("BMP cannot hold its colour profile",)
    assert decode_image(encoded("BMP")).metadata.icc is None
