"""Kinds of image files: what each becomes in memory, and what is refused."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from image_files import ICC, exif_block, made, needs_io, random_array
from PIL import Image as PILImage

from edgedenoise.errors import DamagedImageError, ImageError, OutputError, RuntimeUnavailableError
from edgedenoise.imaging import codecs, optional
from edgedenoise.imaging.files import (
    Image,
    read_image,
    write_image,
)
from edgedenoise.imaging.metadata import png
from edgedenoise.imaging.metadata.embedded import Metadata
from edgedenoise.imaging.pillow import from_pil, to_pil

if TYPE_CHECKING:
    from pathlib import Path


def test_palettes_and_bitmaps_become_plain_pixels(tmp_path: Path) -> None:
    colours = PILImage.fromarray(random_array((12, 12, 3)))
    palette = colours.quantize(16)
    palette.save(tmp_path / "p.png")
    assert np.array_equal(read_image(tmp_path / "p.png").pixels, np.asarray(palette.convert("RGB")))
    palette.save(tmp_path / "t.png", transparency=bytes(range(16)))
    clear = read_image(tmp_path / "t.png")
    assert clear.alpha is not None
    assert np.array_equal(clear.alpha, np.asarray(palette))
    bitmap = PILImage.fromarray(random_array((12, 12))).convert("1")
    bitmap.save(tmp_path / "b.png")
    assert np.array_equal(read_image(tmp_path / "b.png").pixels[..., 0], np.asarray(bitmap) * np.uint8(255))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_colour_becomes_alpha(tmp_path: Path, channels: int, bits: int) -> None:
    photo = replace(made(channels, bits, alpha=False), metadata=Metadata())
    needs_io(photo)
    data = codecs.encode_image(photo, "PNG")
    key = b"".join(struct.pack(">H", int(level)) for level in photo.pixels[2, 3])
    (tmp_path / "a.png").write_bytes(png.insert_blocks(data, ((b"tRNS", key),)))
    again = read_image(tmp_path / "a.png")
    assert np.array_equal(again.pixels, photo.pixels)
    expected = (photo.pixels != photo.pixels[2, 3]).any(axis=2)
    assert again.alpha is not None
    assert np.array_equal(again.alpha, expected * np.iinfo(photo.pixels.dtype).max)


@pytest.mark.parametrize(
    "options",
    [
        {"photometric": "rgb", "compression": "deflate", "predictor": True},
        {"photometric": "rgb", "compression": "lzw", "tile": (16, 16)},
        {"photometric": "rgb", "byteorder": ">"},
        {"photometric": "rgb", "bigtiff": True},
        {"photometric": "rgb", "planarconfig": "separate"},
        {"photometric": "minisblack"},
        {"photometric": "miniswhite"},
    ],
)
def test_16_bit_tiff_of_any_making_is_read_exactly(tmp_path: Path, options: dict[str, object]) -> None:
    tifffile = pytest.importorskip("tifffile", reason='pip install "edgedenoise[io]"')
    colour = options["photometric"] == "rgb"
    array = random_array((33, 21, 3) if colour else (33, 21), np.uint16)
    stored = np.moveaxis(array, -1, 0) if "planarconfig" in options else array
    tifffile.imwrite(tmp_path / "a.tif", stored, **options)
    expected = 65535 - array if options["photometric"] == "miniswhite" else array
    assert np.array_equal(read_image(tmp_path / "a.tif").pixels.squeeze(), expected)


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}, {"compression": "jpeg"}, {"big_tiff": True}])
def test_8_bit_tiff_of_any_making_is_read_as_stored(tmp_path: Path, options: dict[str, object]) -> None:
    image = PILImage.fromarray(np.linspace(0, 255, 40 * 30 * 3).reshape(40, 30, 3).astype(np.uint8))
    image.save(tmp_path / "a.tif", tiffinfo={274: 6}, **options)
    tolerance = 8 if options.get("compression") == "jpeg" else 0
    assert abs(read_image(tmp_path / "a.tif").pixels.astype(int) - np.asarray(image)).max() <= tolerance


def test_tifffile_reads_our_tiff(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile", reason='pip install "edgedenoise[io]"')
    photo = made(3, 16, alpha=True)
    write_image(photo, tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        page = file.pages[0]
        assert np.array_equal(page.asarray()[..., :3], photo.pixels)
        assert page.tags[34675].value == ICC
        assert page.extrasamples == (2,)


def big_endian_exif() -> bytes:
    """Orientation 8, then an EXIF directory with the exposure time 1/50."""
    first = struct.pack(">HHHIHHHHIII", 2, 0x0112, 3, 1, 8, 0, 0x8769, 4, 1, 38, 0)
    second = struct.pack(">HHHIIIII", 1, 0x829A, 5, 1, 56, 0, 1, 50)
    return b"MM\x00*" + struct.pack(">I", 8) + first + second


def test_big_endian_exif_gives_a_big_endian_tiff(tmp_path: Path) -> None:
    pixels = random_array((5, 7, 1), np.uint16)
    write_image(Image(pixels, metadata=Metadata(exif=big_endian_exif())), tmp_path / "a.tif")
    assert (tmp_path / "a.tif").read_bytes()[:2] == b"MM"
    assert np.array_equal(read_image(tmp_path / "a.tif").pixels, pixels)
    with PILImage.open(tmp_path / "a.tif") as image:
        assert image.getexif()[0x0112] == 8
        assert float(image.getexif().get_ifd(0x8769)[0x829A]) == pytest.approx(0.02)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_pillow_images_come_back_in_their_mode(mode: str) -> None:
    channels = {"L": (), "LA": (2,), "RGB": (3,), "RGBA": (4,), "I;16": ()}[mode]
    image = PILImage.fromarray(random_array((6, 5, *channels), np.uint16 if mode == "I;16" else np.uint8))
    assert image.mode == mode
    image.info["icc_profile"] = ICC
    image.info["gamma"] = 0.5
    again = to_pil(from_pil(image), like=image)
    assert again.mode == mode
    assert again.tobytes() == image.tobytes()
    assert again.info == image.info


def damaged_text(tmp_path: Path) -> Path:
    (tmp_path / "a.jpg").write_text("this is not an image")
    return tmp_path / "a.jpg"


def empty(tmp_path: Path) -> Path:
    (tmp_path / "a.jpg").touch()
    return tmp_path / "a.jpg"


def cmyk(tmp_path: Path) -> Path:
    PILImage.new("CMYK", (4, 4)).save(tmp_path / "a.jpg")
    return tmp_path / "a.jpg"


def float_tiff(tmp_path: Path) -> Path:
    PILImage.fromarray(np.full((4, 4), 255, np.float32)).save(tmp_path / "a.tif")
    return tmp_path / "a.tif"


def two_pages(tmp_path: Path) -> Path:
    PILImage.new("L", (4, 4)).save(tmp_path / "a.tif", save_all=True, append_images=[PILImage.new("L", (4, 4), 9)])
    return tmp_path / "a.tif"


def animation(tmp_path: Path) -> Path:
    second = PILImage.new("RGB", (4, 4), "red")
    PILImage.new("RGB", (4, 4)).save(tmp_path / "a.png", save_all=True, append_images=[second])
    return tmp_path / "a.png"


def missing(tmp_path: Path) -> Path:
    return tmp_path / "a.jpg"


def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (damaged_text, "not an image file"),
        (empty, "empty"),
        (cmyk, "is CMYK"),
        (float_tiff, "expected [0, 1], got 255 to 255"),
        (two_pages, "expected one, got 2"),
        (animation, "expected one frame, got 2"),
        (missing, "does not exist"),
        (folder, "directory"),
    ],
)
def test_what_is_no_supported_image_is_refused_by_name(tmp_path: Path, make, word: str) -> None:
    path = make(tmp_path)
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert type(caught.value) is ImageError
    assert word in caught.value.message
    assert str(path) in caught.value.message


@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif", ".webp", ".bmp", ".ppm"])
@pytest.mark.parametrize("kept", [0.05, 0.5, 0.9])
def test_an_image_cut_short_is_damaged_whatever_its_format(tmp_path: Path, ending: str, kept: float) -> None:
    path = tmp_path / f"a{ending}"
    write_image(Image(random_array((40, 40, 3)), metadata=Metadata(exif=exif_block())), path)
    data = path.read_bytes()
    path.write_bytes(data[: max(12, int(len(data) * kept))])
    with pytest.raises(DamagedImageError) as caught:
        read_image(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("bits", [8, 16])
def test_one_wrong_byte_in_a_png_is_found(tmp_path: Path, bits: int) -> None:
    photo = made(3, bits, alpha=False)
    needs_io(photo)
    write_image(photo, tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[-60] ^= 1
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(DamagedImageError, match="checksum"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_16_bit_colour_without_the_extra_says_what_to_install_and_is_never_read_as_8_bit(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = made(3, 16, alpha=False)
    needs_io(photo)
    write_image(photo, tmp_path / f"a{ending}")

    def absent(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(optional.importlib, "import_module", absent)
    with pytest.raises(RuntimeUnavailableError) as caught:
        read_image(tmp_path / f"a{ending}")
    assert 'pip install "edgedenoise[io]"' in (caught.value.hint or "")
    assert f"a{ending}" in caught.value.message
    gray = made(1, 16, alpha=False)
    write_image(gray, tmp_path / f"g{ending}")  # the base install is enough for grayscale
    assert np.array_equal(read_image(tmp_path / f"g{ending}").pixels, gray.pixels)


def test_a_16_bit_png_that_pillow_opened_is_refused(tmp_path: Path) -> None:
    photo = made(3, 16, alpha=False)
    needs_io(photo)
    write_image(photo, tmp_path / "a.png")
    with PILImage.open(tmp_path / "a.png") as image, pytest.raises(ImageError, match="got 16"):
        from_pil(image)


@pytest.mark.parametrize(
    ("name", "bits", "alpha", "word"),
    [
        ("a.jpg", 16, False, "8 bits"),
        ("a.jpg", 8, True, "alpha"),
        ("a.gif", 16, False, "8 bits"),
        ("a", 8, False, "no extension"),
    ],
)
def test_a_format_that_cannot_hold_the_image_is_refused_and_nothing_is_written(
    tmp_path: Path, name: str, bits: int, alpha: bool, word: str
) -> None:
    with pytest.raises(ImageError, match=r"cannot be written: .*expected") as caught:
        write_image(made(3, bits, alpha), tmp_path / name)
    assert word in caught.value.message
    assert caught.value.hint == f"Write {tmp_path / 'a.png'} instead."
    assert list(tmp_path.iterdir()) == []


def test_metadata_that_does_not_fit_is_an_error_and_not_a_loss(tmp_path: Path) -> None:
    photo = Image(random_array((4, 4, 3)), metadata=Metadata(exif=bytes(70_000)))
    with pytest.raises(ImageError, match="at most 65533 bytes of EXIF in a JPEG, got 70006"):
        write_image(photo, tmp_path / "a.jpg")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_image(made(3, 8, alpha=False), tmp_path / "file" / "a.png")
