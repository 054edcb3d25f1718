"""Images keep their pixels, depth, alpha and metadata through reading and writing."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image as PILImage

from edgedenoise.errors import DamagedImageError, DatasetError, ImageError, OutputError, RuntimeUnavailableError
from edgedenoise.imaging import codecs, optional
from edgedenoise.imaging.files import (
    EXTENSIONS,
    Image,
    format_for,
    from_unit,
    list_images,
    read_image,
    to_unit,
    write_image,
)
from edgedenoise.imaging.metadata import jpeg, png
from edgedenoise.imaging.metadata.embedded import Metadata
from edgedenoise.imaging.pillow import from_pil, to_pil

if TYPE_CHECKING:
    from pathlib import Path

ICC = b"profile" * 30_000  # longer than one JPEG segment
XMP = b'<?xpacket begin="" id="x"?><x:xmpmeta xmlns:x="adobe:ns:meta/"/><?xpacket end="w"?>'


def random_array(shape: tuple[int, ...], dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def exif_block(orientation: int = 6) -> bytes:
    exif = PILImage.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "A camera maker"
    exif.get_ifd(0x8769)[0x8827] = 3200  # ISO
    exif.get_ifd(0x8769)[0x927C] = b"maker note \x00\x01\xff" * 20
    exif.get_ifd(0x8825)[1] = "N"
    return exif.tobytes().removeprefix(b"Exif\x00\x00")


def made(channels: int, bits: int, alpha: bool, shape: tuple[int, int] = (9, 14)) -> Image:
    dtype = np.uint8 if bits == 8 else np.uint16
    meta = Metadata(icc=ICC, exif=exif_block(), xmp=XMP)
    return Image(random_array((*shape, channels), dtype), random_array(shape, dtype, 1) if alpha else None, meta, "PNG")


def needs_io(photo: Image) -> None:
    if photo.bits == 16:
        pytest.importorskip("imagecodecs", reason='pip install "edgedenoise[io]"')
        pytest.importorskip("tifffile", reason='pip install "edgedenoise[io]"')


# ---------------------------------------------------------------- arrays


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_level_survives_the_way_to_floats_and_back(dtype: type, channels: int) -> None:
    top = np.iinfo(dtype).max
    levels = np.arange(top + 1, dtype=dtype).reshape(256, -1, 1).repeat(channels, axis=2)
    unit = to_unit(levels)
    assert unit.dtype == np.float32
    assert unit.shape == (*levels.shape[:2], 3)
    assert (float(unit.min()), float(unit.max())) == (0.0, 1.0)
    assert np.array_equal(from_unit(unit, dtype, channels), levels)


def test_halves_round_up_and_the_rest_is_clipped() -> None:
    values = np.array([-0.3, 0.5 / 255, 1.5 / 255, 2.49 / 255, 1.7])[:, None, None].repeat(3, axis=2)
    assert from_unit(values, np.uint8)[:, 0, 0].tolist() == [0, 1, 2, 2, 255]


def test_grayscale_takes_the_mean_of_three_channels() -> None:
    unit = np.array([[[0.0, 0.3, 0.9]]], np.float32)
    assert from_unit(unit, np.uint8, 1).tolist() == [[[102]]]


def test_floats_are_taken_as_they_are_and_given_back_in_their_type() -> None:
    noisy = np.array([[[-0.1, 0.5, 1.2]]])
    assert np.allclose(to_unit(noisy), noisy)
    assert from_unit(to_unit(noisy), np.float64).dtype == np.float64
    assert from_unit(np.ones((1, 1, 3), np.float16), np.uint16).max() == 65535


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (np.zeros((4, 4, 4), np.uint8), "Alpha is not denoised"),
        (np.zeros((3, 40, 40), np.uint8), "Channels come last"),
        (np.zeros((4, 4, 3), np.int32), "int32"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (np.zeros(4, np.uint8), "(H, W)"),
        (np.full((4, 4, 3), np.nan), "48 of 48"),
        (np.full((4, 4, 3), 200.0), "[0, 1]"),
        ([[1]], "numpy"),
    ],
)
def test_arrays_that_are_no_images_are_refused_in_words(array: np.ndarray, word: str) -> None:
    with pytest.raises(ImageError) as caught:
        to_unit(array)
    assert word in str(caught.value)


@pytest.mark.parametrize("unit", [np.zeros((2, 2)), np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), np.nan)])
def test_only_finite_three_channel_floats_become_pixels(unit: np.ndarray) -> None:
    with pytest.raises(ImageError):
        from_unit(unit, np.uint8)


def test_new_pixels_keep_alpha_and_metadata_and_must_fit() -> None:
    photo = made(1, 16, alpha=True)
    changed = photo.with_unit(np.zeros((9, 14, 3), np.float32))
    assert changed.pixels.shape == (9, 14, 1)
    assert changed.pixels.dtype == np.uint16
    assert changed.alpha is photo.alpha
    assert changed.metadata is photo.metadata
    with pytest.raises(ImageError, match="new pixels do not fit"):
        photo.with_unit(np.zeros((14, 9, 3), np.float32))


@pytest.mark.parametrize(
    ("pixels", "alpha"),
    [
        (np.zeros((4, 4), np.uint8), None),
        (np.zeros((4, 4, 3), np.float32), None),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8)),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint16)),
    ],
)
def test_a_photo_of_the_wrong_arrays_cannot_be_made(pixels: np.ndarray, alpha: np.ndarray | None) -> None:
    with pytest.raises(ImageError):
        Image(pixels, alpha)


# ---------------------------------------------------------------- files: every depth, every format


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


def test_jpeg_keeps_captions_and_is_written_without_chroma_subsampling(tmp_path: Path) -> None:
    smooth = np.linspace(0, 255, 64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8)
    stream = io.BytesIO()
    PILImage.fromarray(smooth).save(stream, "JPEG", dpi=(240, 240), comment=b"a comment", quality=80)
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
    dropped = (b"sBIT", b"\x08\x08\x08")  # tied to the depth
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


def test_the_content_and_not_the_name_tells_the_format(tmp_path: Path) -> None:
    write_image(made(3, 8, alpha=False), tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg").format == "PNG"


# ---------------------------------------------------------------- kinds of images


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


# ---------------------------------------------------------------- what is refused, and how


def damaged_text(tmp_path: Path) -> Path:
    (tmp_path / "a.jpg").write_text("this is not an image")
    return tmp_path / "a.jpg"


def empty(tmp_path: Path) -> Path:
    (tmp_path / "a.jpg").touch()
    return tmp_path / "a.jpg"


def gif(tmp_path: Path) -> Path:
    PILImage.new("L", (4, 4)).save(tmp_path / "a.gif")
    return tmp_path / "a.gif"


def cmyk(tmp_path: Path) -> Path:
    PILImage.new("CMYK", (4, 4)).save(tmp_path / "a.jpg")
    return tmp_path / "a.jpg"


def float_tiff(tmp_path: Path) -> Path:
    PILImage.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "a.tif")
    return tmp_path / "a.tif"


def two_pages(tmp_path: Path) -> Path:
    PILImage.new("L", (4, 4)).save(tmp_path / "a.tif", save_all=True, append_images=[PILImage.new("L", (4, 4), 9)])
    return tmp_path / "a.tif"


def animation(tmp_path: Path) -> Path:
    second = PILImage.new("RGB", (4, 4), "red")
    PILImage.new("RGB", (4, 4)).save(tmp_path / "a.png", save_all=True, append_images=[second])
    return tmp_path / "a.png"


def deep_ppm(tmp_path: Path) -> Path:
    (tmp_path / "a.ppm").write_bytes(b"P6\n# made here\n1 1\n65535\n" + bytes(6))
    return tmp_path / "a.ppm"


def missing(tmp_path: Path) -> Path:
    return tmp_path / "a.jpg"


def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (damaged_text, "not an image file"),
        (empty, "empty"),
        (gif, "GIF"),
        (cmyk, "got CMYK"),
        (float_tiff, "32 floating-point bits"),
        (two_pages, "expected one, got 2"),
        (animation, "expected one frame, got 2"),
        (deep_ppm, "65535"),
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
        ("a.bmp", 8, True, "alpha"),
        ("a.jpg", 8, True, "alpha"),
        ("a.gif", 8, False, "'.gif'"),
        ("a", 8, False, "no extension"),
    ],
)
def test_a_format_that_cannot_hold_the_image_is_refused_and_nothing_is_written(
    tmp_path: Path, name: str, bits: int, alpha: bool, word: str
) -> None:
    with pytest.raises(ImageError, match="cannot be written: expected") as caught:
        write_image(made(3, bits, alpha), tmp_path / name)
    assert word in caught.value.message
    assert list(tmp_path.iterdir()) == []


def test_metadata_that_does_not_fit_is_an_error_and_not_a_loss(tmp_path: Path) -> None:
    photo = Image(random_array((4, 4, 3)), metadata=Metadata(xmp=b"x" * 70_000))
    with pytest.raises(ImageError, match="at most 65504 bytes of XMP in a JPEG, got 70000"):
        write_image(photo, tmp_path / "a.jpg")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_image(made(3, 8, alpha=False), tmp_path / "file" / "a.png")


# ---------------------------------------------------------------- folders


def test_a_folder_lists_its_images_sorted_and_nothing_else(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpeg", "c.txt", ".hidden.png", "._a.jpg", "d.tif"):
        (tmp_path / name).touch()
    (tmp_path / "sub.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.jpeg", "b.PNG", "d.tif"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such folder"):
        list_images(tmp_path / "x")


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


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = made(3, 16, alpha=False)
    needs_io(photo)
    write_image(photo, tmp_path / f"a{ending}")
    monkeypatch.setattr(PILImage, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(ImageError, match="larger than"):
        read_image(tmp_path / f"a{ending}")


@pytest.mark.parametrize("ending", [".png", ".tif", ".jpg"])
def test_large_images_are_read_without_a_warning(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(made(3, 8, alpha=False), tmp_path / f"a{ending}")
    monkeypatch.setattr(PILImage, "MAX_IMAGE_PIXELS", 100)  # Pillow warns from here to twice that
    assert read_image(tmp_path / f"a{ending}").width == 14


def test_strips_that_end_behind_the_file_are_not_filled_with_zeros(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile", reason='pip install "edgedenoise[io]"')
    tifffile.imwrite(tmp_path / "a.tif", random_array((60, 60, 3), np.uint16), photometric="rgb")
    data = (tmp_path / "a.tif").read_bytes()  # its directory comes first
    (tmp_path / "a.tif").write_bytes(data[:-9])
    with pytest.raises(DamagedImageError, match="inside its pixels"):
        read_image(tmp_path / "a.tif")
