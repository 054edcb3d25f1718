"""Images keep their pixels, depth, alpha and metadata through reading and writing."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from image_files import ICC, XMP, exif_block, made, needs_io, random_array
from PIL import Image as PILImage

from edgedenoise.errors import DamagedImageError, ImageError
from edgedenoise.imaging import codecs
from edgedenoise.imaging.files import EXTENSIONS, Image, format_for, read_image, write_image
from edgedenoise.imaging.folders import list_images
from edgedenoise.imaging.headers import read_layout
from edgedenoise.imaging.layout import Layout
from edgedenoise.imaging.metadata import jpeg, png
from edgedenoise.imaging.metadata.embedded import Metadata

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("shape", [(1, 1), (9, 14)])
@pytest.mark.parametrize("ending", [".png", ".tif"])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_png_and_tiff_hold_every_image_exactly(
    tmp_path: Path, channels: int, bits: int, alpha: bool, ending: str, shape: tuple[int, int]
) -> None:
    photo = made(channels, bits, alpha, shape)
    needs_io(photo)
    write_image(photo, tmp_path / f"a{ending}")
    again = read_image(tmp_path / f"a{ending}")
    assert again.pixels.dtype == photo.pixels.dtype
    assert np.array_equal(again.pixels, photo.pixels)
    assert (again.alpha is None) == (photo.alpha is None)
    assert photo.alpha is None or np.array_equal(again.alpha, photo.alpha)
    assert again.format == EXTENSIONS[ending]
    assert (again.metadata.icc, again.metadata.xmp) == (ICC, XMP)
    assert np.array_equal(again.unit(), photo.unit())


@pytest.mark.parametrize(
    ("ending", "channels", "alpha"),
    [
        (".webp", 3, True),
        (".webp", 3, False),
        (".bmp", 1, False),
        (".bmp", 3, False),
        (".bmp", 3, True),
        (".ppm", 3, False),
        (".pgm", 1, False),
    ],
)
def test_the_other_lossless_formats_hold_8_bits_exactly(
    tmp_path: Path, ending: str, channels: int, alpha: bool
) -> None:
    photo = made(channels, 8, alpha)
    write_image(photo, tmp_path / f"a{ending}")
    again = read_image(tmp_path / f"a{ending}")
    assert np.array_equal(again.pixels, photo.pixels)
    assert photo.alpha is None or np.array_equal(again.alpha, photo.alpha)


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp"])
def test_icc_exif_and_xmp_come_back_byte_for_byte(tmp_path: Path, ending: str) -> None:
    photo = made(3, 8, alpha=False)
    write_image(photo, tmp_path / f"a{ending}")
    first = read_image(tmp_path / f"a{ending}")
    write_image(first, tmp_path / f"b{ending}")
    for path in (tmp_path / f"a{ending}", tmp_path / f"b{ending}"):
        meta = read_image(path).metadata
        assert (meta.icc, meta.exif, meta.xmp) == (ICC, photo.metadata.exif, XMP)
        with PILImage.open(path) as image:  # and others find them as well
            assert image.info["icc_profile"] == ICC
            assert image.getexif()[0x0112] == 6


@pytest.mark.parametrize("bits", [8, 16])
def test_tiff_keeps_exif_tag_by_tag(tmp_path: Path, bits: int) -> None:
    photo = made(3, bits, alpha=False)
    needs_io(photo)
    write_image(photo, tmp_path / "a.tif")
    write_image(read_image(tmp_path / "a.tif"), tmp_path / "b.tif")
    with PILImage.open(tmp_path / "b.tif") as image:
        exif = image.getexif()
        assert (exif[0x0112], exif[0x010F]) == (6, "A camera maker")
        assert exif.get_ifd(0x8769)[0x8827] == 3200
        assert exif.get_ifd(0x8769)[0x927C] == b"maker note \x00\x01\xff" * 20
        assert exif.get_ifd(0x8825)[1] == "N"
    meta = read_image(tmp_path / "b.tif").metadata
    write_image(replace(photo, pixels=random_array((9, 14, 3)), metadata=meta), tmp_path / "c.jpg")
    with PILImage.open(tmp_path / "c.jpg") as image:
        assert image.getexif().get_ifd(0x8769)[0x8827] == 3200


@pytest.mark.parametrize("ending", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_kept_and_not_applied(tmp_path: Path, orientation: int, ending: str) -> None:
    pixels = np.linspace(0, 255, 8 * 24 * 3).reshape(8, 24, 3).astype(np.uint8)
    photo = Image(pixels, metadata=Metadata(exif=exif_block(orientation)))
    write_image(photo, tmp_path / f"a{ending}")
    again = read_image(tmp_path / f"a{ending}")
    assert again.pixels.shape == pixels.shape
    assert abs(again.pixels.astype(int) - pixels).max() <= 8  # JPEG alone is not exact
    write_image(again, tmp_path / f"b{ending}")
    with PILImage.open(tmp_path / f"b{ending}") as image:
        assert image.getexif()[0x0112] == orientation


def test_an_orientation_in_the_xmp_alone_is_not_applied_either(tmp_path: Path) -> None:
    photo = Image(random_array((8, 24, 3)), metadata=Metadata(xmp=b'<x tiff:Orientation="6"/>'))
    write_image(photo, tmp_path / "a.tif")
    again = read_image(tmp_path / "a.tif")
    assert np.array_equal(again.pixels, photo.pixels)
    assert again.metadata.xmp == photo.metadata.xmp


def test_jpeg_keeps_captions_and_colours_at_full_resolution(tmp_path: Path) -> None:
    smooth = np.linspace(0, 255, 64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8)
    stream = io.BytesIO()
    PILImage.fromarray(smooth).save(stream, "JPEG", dpi=(240, 240), comment=b"a comment", quality=80, subsampling=0)
    iptc = (b"\xff\xed", b"Photoshop 3.0\x008BIM\x04\x04caption")
    (tmp_path / "a.jpg").write_bytes(jpeg.insert_blocks(stream.getvalue(), (iptc,)))
    write_image(read_image(tmp_path / "a.jpg"), tmp_path / "b.jpg")
    assert iptc in jpeg.read_segments((tmp_path / "b.jpg").read_bytes())
    with PILImage.open(tmp_path / "b.jpg") as image:
        assert image.info["comment"] == b"a comment"
        assert image.info["dpi"] == (240, 240)
        assert [sampling[1:3] for sampling in image.layer] == [(1, 1)] * 3
        difference = np.asarray(image, np.int16) - read_image(tmp_path / "a.jpg").pixels
    assert abs(difference).max() <= 6


@pytest.mark.parametrize("bits", [8, 16])
def test_png_keeps_its_descriptive_chunks_raw(tmp_path: Path, bits: int) -> None:
    photo = made(3, bits, alpha=False)
    needs_io(photo)
    kept = (
        (b"iCCP", b"Adobe RGB\x00\x00" + zlib.compress(b"colour")),
        (b"gAMA", struct.pack(">I", 45455)),
        (b"pHYs", struct.pack(">IIB", 3000, 3000, 1)),
        (b"tEXt", b"Author\x00someone"),
        (b"iTXt", b"XML:com.adobe.xmp\x00\x01\x00\x00\x00" + zlib.compress(XMP)),
    )
    bare = replace(photo, metadata=Metadata())
    data = codecs.encode_image(bare, "PNG")
    dropped = (b"sBIT", b"\x05\x06\x05")  # after denoising, all bits are significant
    (tmp_path / "a.png").write_bytes(png.insert_blocks(data, (*kept, dropped)))
    write_image(read_image(tmp_path / "a.png"), tmp_path / "b.png")
    chunks = png.read_chunks((tmp_path / "b.png").read_bytes())
    assert tuple(chunk for chunk in chunks if chunk[0][:1].islower()) == kept
    assert read_image(tmp_path / "b.png").metadata.icc == b"colour"
    assert read_image(tmp_path / "b.png").metadata.xmp == XMP


def test_an_image_without_metadata_gets_none(tmp_path: Path) -> None:
    for ending in (".png", ".jpg", ".tif", ".webp"):
        write_image(Image(random_array((5, 6, 3))), tmp_path / f"a{ending}")
        meta = read_image(tmp_path / f"a{ending}").metadata
        assert (meta.icc, meta.exif, meta.xmp) == (None, None, None)


def test_other_programs_see_the_alpha_channel_of_a_bmp(tmp_path: Path) -> None:
    photo = made(3, 8, alpha=True)
    write_image(replace(photo, metadata=Metadata(dpi=(300, 300))), tmp_path / "a.bmp")
    with PILImage.open(tmp_path / "a.bmp") as image:
        assert image.mode == "RGBA"
        assert np.array_equal(np.asarray(image), photo.to_channels())
        assert round(image.info["dpi"][0]) == 300
    program = shutil.which("convert")
    if program is None:
        pytest.skip("ImageMagick is not installed: apt-get install imagemagick")
    done = subprocess.run([program, str(tmp_path / "a.bmp"), "-depth", "8", "rgba:-"], capture_output=True, check=True)
    assert done.stdout == photo.to_channels().tobytes()


def test_the_content_and_not_the_name_tells_the_format(tmp_path: Path) -> None:
    write_image(made(3, 8, alpha=False), tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg").format == "PNG"


def test_endings_stand_for_formats_in_either_case() -> None:
    assert format_for("x.JPG") == "JPEG"


def test_real_images_are_read_and_written_back_with_their_metadata(tmp_path: Path, data_root: Path) -> None:
    path = list_images(data_root / "polyu_train" / "noisy")[0]
    photo = read_image(path)
    write_image(photo, tmp_path / "a.jpg")
    again = read_image(tmp_path / "a.jpg")
    assert (again.metadata.icc, again.metadata.exif) == (photo.metadata.icc, photo.metadata.exif)
    assert abs(again.pixels.astype(np.int16) - photo.pixels).mean() < 2.5


def test_a_large_profile_or_text_does_not_make_a_png_unreadable(tmp_path: Path) -> None:
    profile = np.arange(1 << 20, dtype=np.uint32).tobytes()  # 4 MB; Pillow stops at one
    write_image(Image(random_array((5, 6, 3)), metadata=Metadata(icc=profile)), tmp_path / "a.png")
    text = (b"zTXt", b"workflow\x00\x00" + zlib.compress(bytes(3 << 20)))
    (tmp_path / "a.png").write_bytes(png.insert_blocks((tmp_path / "a.png").read_bytes(), (text,)))
    photo = read_image(tmp_path / "a.png")
    assert photo.metadata.icc == profile
    write_image(photo, tmp_path / "b.png")
    assert text in png.read_chunks((tmp_path / "b.png").read_bytes())


@pytest.mark.parametrize("ending", [".png", ".tif", ".jpg", ".webp", ".bmp", ".ppm"])
def test_an_image_above_the_limit_is_refused_with_the_option_that_allows_it(tmp_path: Path, ending: str) -> None:
    write_image(made(3, 8, alpha=False), tmp_path / f"a{ending}")
    with pytest.raises(ImageError, match="expected at most 125 pixels, got 14 x 9 = 126") as caught:
        read_image(tmp_path / f"a{ending}", max_pixels=125)
    assert "--max-pixels 126" in str(caught.value.hint)
    assert read_image(tmp_path / f"a{ending}", max_pixels=126).width == 14


def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 65000, 65000, 8, 2, 0, 0, 0)
    data = codecs.encode_image(Image(random_array((5, 6, 3))), "PNG")
    (tmp_path / "a.png").write_bytes(data[:8] + png.chunk_bytes(b"IHDR", header) + data[33:])
    with pytest.raises(ImageError, match="expected at most 1000000000 pixels, got 65000 x 65000"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("ending", [".png", ".tif", ".jpg"])
def test_the_limit_of_pillow_is_not_applied(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(made(3, 8, alpha=False), tmp_path / f"a{ending}")
    monkeypatch.setattr(PILImage, "MAX_IMAGE_PIXELS", 10)  # Pillow warns from here and refuses from twice that
    assert read_image(tmp_path / f"a{ending}").width == 14


@pytest.mark.parametrize("ending", sorted(key for key, kind in EXTENSIONS.items() if kind not in {"HEIF", "AVIF"}))
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_header_states_the_layout_that_decoding_finds(
    tmp_path: Path, channels: int, bits: int, alpha: bool, ending: str
) -> None:
    photo = made(channels, bits, alpha)
    needs_io(photo)
    try:
        write_image(photo, tmp_path / f"a{ending}")
    except ImageError:  # the format cannot hold it
        return
    assert read_layout(tmp_path / f"a{ending}") == read_image(tmp_path / f"a{ending}").layout


def test_the_header_of_a_palette_with_a_transparent_colour_states_alpha(tmp_path: Path) -> None:
    palette = PILImage.fromarray(random_array((12, 12, 3))).quantize(16)
    palette.save(tmp_path / "p.png", transparency=bytes(range(16)))
    assert read_layout(tmp_path / "p.png") == read_image(tmp_path / "p.png").layout == Layout(12, 12, 3, 8, True)


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("alpha", [True, False])
def test_the_header_of_every_kind_of_webp_is_understood(tmp_path: Path, alpha: bool, lossless: bool) -> None:
    PILImage.fromarray(random_array((9, 14, 4 if alpha else 3))).save(tmp_path / "a.webp", lossless=lossless)
    assert read_layout(tmp_path / "a.webp") == Layout(14, 9, 3, 8, alpha)


def test_no_layout_is_found_where_there_is_no_image(tmp_path: Path) -> None:
    for name, data in (
        ("a.png", b""),
        ("b.png", b"text"),
        ("c.tif", b"II*\x00\xff\xff\xff\xff"),
        ("d.jpg", b"\xff\xd8\xff"),
    ):
        (tmp_path / name).write_bytes(data)
        assert read_layout(tmp_path / name) is None
    assert read_layout(tmp_path / "missing.png") is None


def test_strips_that_end_behind_the_file_are_not_filled_with_zeros(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile", reason='pip install "edgedenoise[io]"')
    tifffile.imwrite(tmp_path / "a.tif", random_array((60, 60, 3), np.uint16), photometric="rgb")
    data = (tmp_path / "a.tif").read_bytes()  # its directory comes first
    (tmp_path / "a.tif").write_bytes(data[:-9])
    with pytest.raises(DamagedImageError, match="inside its pixels"):
        read_image(tmp_path / "a.tif")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_a_pipe_is_not_opened_for_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.png")

    def opened(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(type(tmp_path), "open", opened)
    assert read_layout(tmp_path / "pipe.png") is None
