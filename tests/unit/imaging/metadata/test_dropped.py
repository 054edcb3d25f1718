"""Parts of files that are not written back are named, whatever else the file holds."""

from __future__ import annotations

import io
import struct
import subprocess
import zlib
from typing import TYPE_CHECKING

import pytest
from image_files import ICC, random_array
from PIL import Image as PILImage
from PIL import TiffImagePlugin, features
from programs import needs

from edgedenoise.imaging.files import open_rows, read_image, write_image
from edgedenoise.imaging.metadata import heif_boxes, jpeg, png, webp
from edgedenoise.imaging.metadata.ifd import Ifd, read_ifds, write_ifd
from edgedenoise.imaging.metadata.transfer import losses
from edgedenoise.imaging.readers.decoding import decode_image
from edgedenoise.imaging.readers.options import ReadOptions

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
    ("segment", "name"), [((b"\xff\xe2", b"FPXR\x00x"), "APP2 (FPXR)"), ((b"\xff\xe0", b"JFXX\x00\x13"), "APP0 (JFXX)")]
)
def test_a_jpeg_segment_is_named_beside_a_kept_one_of_the_same_kind(segment: tuple[bytes, bytes], name: str) -> None:
    data = jpeg.insert_blocks(encoded("JPEG", icc_profile=ICC), (segment,))
    assert notes_of(data) == (f"its segments {name} are not kept",)


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
    blocks = ((b"caBX", b"x"), (b"sPLT", b"x"), (b"sBIT", b"\x05\x06\x05"), (b"teSt", b"kept"), (b"PLTE", bytes(6)))
    assert notes_of(png.insert_blocks(encoded("PNG"), blocks)) == ("its chunks PLTE, caBX, sBIT, sPLT are not kept",)


def test_chunks_of_png_that_stay_true_are_kept_as_exiftool_reads_them(tmp_path: Path) -> None:
    exiftool = needs("exiftool", "libimage-exiftool-perl")
    background = struct.pack(">HHH", 10, 20, 30)
    blocks = ((b"bKGD", background), (b"sBIT", b"\x08\x08\x08"), (b"tIME", b"\x07\xea\x0b\x1b\x0c\x00\x00"))
    image = decode_image(png.insert_blocks(encoded("PNG"), blocks))
    assert losses(image.metadata, "PNG") == ()
    write_image(image, tmp_path / "a.png")
    names = ("-BackgroundColor", "-SignificantBits", "-ModifyDate")
    lines = subprocess.check_output([exiftool, "-s3", *names, tmp_path / "a.png"], text=True).splitlines()
    assert lines == ["10 20 30", "8 8 8", "2026:11:27 12:00:00"]
    assert losses(image.metadata, "JPEG") == ("JPEG cannot hold its chunk tIME, chunk bKGD",)


def gray_of(bits: int) -> bytes:
    """Return a PNG file of gray pixels of fewer than 8 bits."""
    header = struct.pack(">IIBBBBB", 8, 1, bits, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1 + bits))), (b"IEND", b""))
    return png.SIGNATURE + b"".join(png.chunk_bytes(*part) for part in parts)


def test_the_background_of_png_is_stated_for_the_pixels_that_are_written(tmp_path: Path) -> None:
    stream = io.BytesIO()
    PILImage.fromarray(PIXELS).quantize(8).save(stream, "PNG")
    colours = next(body for kind, body in png.read_chunks(stream.getvalue()) if kind == b"PLTE")
    palette = stream.getvalue()
    at = palette.index(b"IDAT") - 4
    files = {
        "palette": (
            palette[:at] + png.chunk_bytes(b"bKGD", b"\x02") + palette[at:],
            struct.pack(">HHH", *colours[6:9]),
        ),
        "2 bits": (png.insert_blocks(gray_of(2), ((b"bKGD", b"\x00\x01"),)), b"\x00\x55"),
        "1 bit": (png.insert_blocks(gray_of(1), ((b"bKGD", b"\x00\x01"),)), b"\x00\xff"),
    }
    for name, (data, expected) in files.items():
        write_image(decode_image(data), tmp_path / "a.png")
        assert dict(png.read_chunks((tmp_path / "a.png").read_bytes()))[b"bKGD"] == expected, name
        with PILImage.open(tmp_path / "a.png") as image:
            image.load()


@pytest.mark.parametrize("format_", ["PNG", "WEBP", "GIF", "BMP", "PPM", "TIFF", "HEIF", "AVIF"])
def test_bytes_behind_the_image_are_named(format_: str) -> None:
    if format_ == "HEIF":
        pytest.importorskip("pillow_heif", reason='pip install "edgedenoise[heic]"').register_heif_opener()
    if format_ == "AVIF" and not features.check("avif"):
        pytest.skip('pip install "pillow>=11.3"')
    data = encoded(format_)
    assert notes_of(data) == ()
    assert notes_of(data + b"hidden") == ("6 bytes behind its end are not kept",)


def test_bytes_behind_an_image_that_is_read_by_rows_are_named(tmp_path: Path) -> None:
    pytest.importorskip("pyvips", reason='pip install "edgedenoise[large]"')
    for format_, ending in (("PNG", ".png"), ("TIFF", ".tif")):
        path = tmp_path / f"a{ending}"
        path.write_bytes(encoded(format_) + b"hidden")
        image = open_rows(path)
        assert image is not None
        assert image.metadata.notes == ("6 bytes behind its end are not kept",), format_


def test_segments_that_only_jpeg_holds_are_kept_there_and_named_elsewhere(tmp_path: Path) -> None:
    flir = (b"\xff\xe1", b"FLIR\x00\x01\x00\x00" + bytes(40))
    image = decode_image(jpeg.insert_blocks(encoded("JPEG"), (flir,)))
    assert losses(image.metadata, "JPEG") == ()
    assert losses(image.metadata, "PNG") == ("PNG cannot hold its segment APP1 (FLIR)",)
    write_image(image, tmp_path / "a.jpg")
    assert flir in jpeg.read_segments((tmp_path / "a.jpg").read_bytes())


def test_segments_between_the_scans_of_a_jpeg_are_named() -> None:
    data = encoded("JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    late = b"\xff\xfe" + struct.pack(">H", 6) + b"late"
    assert notes_of(data[:at] + late + data[at:]) == ("its segments COM are not kept",)


def test_the_thumbnail_of_a_jfif_header_is_named() -> None:
    data = encoded("JPEG", dpi=(300, 300))
    head = data[:4] + struct.pack(">H", 19) + data[6:18] + b"\x01\x01" + b"rgb"
    assert notes_of(head + data[20:]) == ("the small copy of the image in its JFIF header is not kept",)


def test_a_profile_without_all_its_parts_is_named_where_it_is_lost() -> None:
    part = (b"\xff\xe2", b"ICC_PROFILE\x00\x01\x02" + ICC)
    meta = jpeg.read_metadata([part])
    assert losses(meta, "PNG") == ("PNG cannot hold its incomplete colour profile",)


def test_what_tiff_does_not_take_of_exif_is_named() -> None:
    exif = PILImage.Exif()
    exif[271] = "Maker"
    exif[50341] = b"PrintIM\x000300"
    block = exif.tobytes().removeprefix(b"Exif\x00\x00")
    meta = decode_image(encoded("JPEG", exif=b"Exif\x00\x00" + block)).metadata
    assert losses(meta, "TIFF") == ("TIFF cannot hold its EXIF tags 50341",)
    assert losses(meta, "PNG") == ()
    (first,) = read_ifds(block)
    start = struct.unpack_from(">I", block, 4)[0] + 2 + 12 * len(first.values)
    linked = block[:start] + struct.pack(">I", len(block)) + block[start + 4 :] + bytes(6)
    meta = decode_image(encoded("JPEG", exif=b"Exif\x00\x00" + linked)).metadata
    assert losses(meta, "TIFF") == ("TIFF cannot hold its EXIF tags 50341, thumbnail in EXIF",)


def test_tags_of_all_pages_of_tiff_are_named() -> None:
    first, second = PILImage.fromarray(PIXELS), PILImage.fromarray(PIXELS)
    second.encoderinfo = {"tiffinfo": TiffImagePlugin.ImageFileDirectory_v2()}
    second.encoderinfo["tiffinfo"][65000] = "private"
    stream = io.BytesIO()
    first.save(stream, "TIFF", save_all=True, append_images=[second])
    image = decode_image(stream.getvalue(), options=ReadOptions(frames=True))
    assert len(image.following) == 1
    assert image.metadata.notes == ("its TIFF tags 65000 are not kept",)


def test_extensions_of_gif_are_named() -> None:
    data = encoded("GIF")
    at = 13 + 3 * (2 << (data[10] & 7))
    extensions = b"\x21\xff\x0bMAKERS1 1.0\x01x\x00" + b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"
    extensions += b"\x21\x01\x0c" + bytes(12) + b"\x01x\x00"
    assert notes_of(data[:at] + extensions + data[at:]) == ("its extensions MAKERS1 1.0, plain text are not kept",)
    assert notes_of(data[:12] + b"\x10" + data[13:]) == ("its shape of pixels is not kept",)


def test_calibrated_colours_of_bmp_are_named() -> None:
    pixels = PIXELS[::-1, :, ::-1].tobytes()
    header = struct.pack("<IiiHHIIiiII", 108, 32, 24, 1, 24, 0, len(pixels), 0, 0, 0, 0) + bytes(20)
    header += struct.pack("<9I3I", *range(1, 10), 0x23333, 0x23333, 0x23333)
    data = b"BM" + struct.pack("<IHHI", 14 + 108 + len(pixels), 0, 0, 14 + 108) + header + pixels
    assert notes_of(data) == ("its primaries and gamma are not kept",)


@pytest.mark.parametrize("white", [255, 65535])
def test_comments_of_ppm_are_kept_and_further_images_are_named(tmp_path: Path, white: int) -> None:
    pixels = bytes(2 * 3 * 3 * (2 if white > 255 else 1))
    one = b"P6\n# made by a camera\n2 3 # and edited\n%d\n" % white + pixels
    image = decode_image(one)
    assert image.metadata.comments == (b"made by a camera", b"and edited")
    assert losses(image.metadata, "PPM") == ()
    write_image(image, tmp_path / "a.ppm")
    again = read_image(tmp_path / "a.ppm")
    assert again.metadata.comments == image.metadata.comments
    assert again.pixels.dtype == image.pixels.dtype
    assert notes_of(one + one) == ("the further images behind it are not kept",)


def heif_box(kind: bytes, *content: bytes) -> bytes:
    """Return one box of a HEIC or AVIF file."""
    body = b"".join(content)
    return struct.pack(">I", 8 + len(body)) + kind + body


def item(number: int, kind: bytes) -> bytes:
    """Return the entry of one item."""
    return heif_box(b"infe", b"\x02\x00\x00\x00", struct.pack(">HH", number, 0), kind, b"\x00")


def test_parts_of_heic_and_avif_that_libraries_leave_out_are_named() -> None:
    items = heif_box(b"iinf", bytes(4), struct.pack(">H", 5), item(1, b"av01"), item(2, b"av01"), item(3, b"tmap"))
    depth, alpha = b"urn:mpeg:hevc:2015:auxid:2\x00", b"urn:mpeg:hevc:2015:auxid:1\x00"
    auxiliary = [heif_box(b"auxC", bytes(4), name) for name in (depth, alpha)]
    colours = heif_box(b"colr", b"nclx", struct.pack(">HHHB", 12, 16, 6, 128))
    properties = heif_box(b"iprp", heif_box(b"ipco", *auxiliary, colours))
    links = heif_box(b"iref", bytes(4), heif_box(b"thmb", struct.pack(">HHH", 2, 1, 1)))
    data = heif_box(b"ftyp", b"avif") + heif_box(b"meta", bytes(4), items, properties, links) + heif_box(b"mpvd", b"x")
    parts = (
        "its gain map for bright screens (HDR) is not kept",
        "its auxiliary image urn:mpeg:hevc:2015:auxid:2 is not kept",
        "its thumbnail is not kept",
    )
    pq = "its colours (primaries 12, transfer 16 of H.273) are written as those of sRGB"
    assert heif_boxes.notes(data, has_profile=False) == (*parts, pq, "its boxes mpvd are not kept")
    assert heif_boxes.notes(data, has_profile=True) == (*parts, "its boxes mpvd are not kept")
    for length in range(len(data)):  # of a damaged file, what is left
        heif_boxes.notes(data[:length], has_profile=False)


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
