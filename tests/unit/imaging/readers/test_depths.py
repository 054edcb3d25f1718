"""16-bit PPM, floating-point TIFF and CMYK: kept, converted on request, or refused by name."""

from __future__ import annotations

import io
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from image_files import random_array
from PIL import Image as PILImage
from PIL import ImageCms
from programs import needs

from edgedenoise.denoiser import load
from edgedenoise.errors import DamagedImageError, ImageError
from edgedenoise.imaging.codecs import encode_image
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.image import Image
from edgedenoise.imaging.metadata.ifd import Ifd, whole_numbers, write_ifd
from edgedenoise.imaging.readers.decoding import decode_image
from edgedenoise.imaging.readers.options import ReadOptions

if TYPE_CHECKING:
    from pathlib import Path

DEEP = random_array((5, 7, 3), np.uint16)


# ---------------------------------------------------------------- PPM


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_ppm_is_exact(tmp_path: Path, channels: int) -> None:
    pixels = DEEP[..., :channels]
    write_image(Image(pixels), tmp_path / "a.ppm")
    assert np.array_equal(read_image(tmp_path / "a.ppm").pixels, pixels)


def test_imagemagick_reads_the_same_16_bits(tmp_path: Path) -> None:
    identify = needs("identify", "imagemagick")
    write_image(Image(DEEP), tmp_path / "a.ppm")
    output = subprocess.check_output(
        [identify, "-format", "%z %w %h %[fx:int(p{3,2}.r*65535+0.5)]", tmp_path / "a.ppm"], text=True
    )
    assert output.split() == ["16", "7", "5", str(DEEP[2, 3, 0])]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"P5\n# made here\n2 1\n65535\n\x01\x02\xff\xff", [258, 65535]),
        (b"P5 2 1 1023\n\x03\xff\x00\x00", [65535, 0]),
        (b"P2\n2 1\n65535\n258 65535\n", [258, 65535]),
    ],
)
def test_kinds_of_16_bit_pgm(data: bytes, expected: list[int]) -> None:
    assert decode_image(data).pixels.ravel().tolist() == expected


@pytest.mark.parametrize(
    "data",
    [
        b"P5 2 1 65535\n\x01\x02\xff",
        b"P5 2 1 1023\n\xff\xff\x00\x00",
        b"P2 2 1 65535\n1\n",
        b"P2 2 1 65535\n1 x\n",
        b"P5 2 1 0\n",
        b"P5 2 1 99999\n",
        b"P5 2\n",
        b"P5 " + b"9" * 5000,
    ],
)
def test_a_damaged_pgm_is_damaged(data: bytes) -> None:
    with pytest.raises(DamagedImageError):
        decode_image(data)


def test_a_ppm_that_claims_to_be_huge_is_refused_at_once() -> None:
    with pytest.raises(ImageError, match="too large"):
        decode_image(b"P6 99999 99999 65535\n")


# ---------------------------------------------------------------- floating point


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3)])
@pytest.mark.parametrize("options", [{}, {"compression": "deflate", "predictor": True}, {"byteorder": ">"}])
@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_float_tiff_is_exact(tmp_path: Path, kind: type, options: dict[str, Any], shape: tuple[int, ...]) -> None:
    tifffile = pytest.importorskip("tifffile", reason='pip install "edgedenoise[io]"')
    pytest.importorskip("imagecodecs", reason='pip install "edgedenoise[io]"')
    array = np.random.default_rng(0).random(shape).astype(kind)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb" if len(shape) == 3 else "minisblack", **options)
    image = read_image(tmp_path / "a.tif")
    assert image.bits == 32
    assert np.array_equal(image.pixels.squeeze(), array.astype(np.float32))
    write_image(image, tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        again = file.pages[0].asarray()
    assert again.dtype == np.float32
    assert np.array_equal(again, array.astype(np.float32))


@pytest.mark.parametrize("value", [1.01, -0.01, np.nan, np.inf])
def test_floats_outside_the_range_are_refused(tmp_path: Path, value: float) -> None:
    tifffile = pytest.importorskip("tifffile", reason='pip install "edgedenoise[io]"')
    pytest.importorskip("imagecodecs", reason='pip install "edgedenoise[io]"')
    array = np.full((4, 4), 0.5, np.float32)
    array[1, 1] = value
    tifffile.imwrite(tmp_path / "a.tif", array)
    with pytest.raises(ImageError, match="outside the range"):
        read_image(tmp_path / "a.tif")


def test_other_float_formats_are_refused(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile", reason='pip install "edgedenoise[io]"')
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4), np.float64))
    with pytest.raises(ImageError, match="got 64 floating-point bits"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "BMP", "PPM", "GIF"])
def test_a_format_without_floats_is_refused(format_: str) -> None:
    with pytest.raises(ValueError, match="floats"):
        encode_image(Image(np.zeros((4, 4, 1), np.float32)), format_)


def test_a_float_image_is_denoised_in_float(committed_bundle: Path) -> None:
    unit = np.random.default_rng(0).random((40, 50, 3), dtype=np.float32)
    with load(committed_bundle) as denoiser:
        clean = denoiser(Image(unit))
    assert clean.pixels.dtype == np.float32
    assert len(np.unique(clean.pixels)) > 256


# ---------------------------------------------------------------- CMYK


def ink_profile() -> bytes:
    """Return a profile of CMYK; LittleCMS makes none, so that of the system is taken, where there is one."""
    for path in ("/usr/share/color/icc/ghostscript/default_cmyk.icc", "/usr/share/color/icc/ghostscript/ps_cmyk.icc"):
        try:
            with open(path, "rb") as stream:  # noqa: PTH123
                return stream.read()
        except OSError:
            continue
    pytest.skip("no profile of CMYK is installed: apt-get install libgs-common")


def inks(path: Path, profile: bytes | None) -> Path:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[..., 1] = 255  # magenta
    image = PILImage.frombytes("CMYK", (8, 8), pixels.tobytes())
    image.save(path, icc_profile=profile) if profile else image.save(path)
    return path


@pytest.mark.parametrize("ending", ["jpg", "tif"])
def test_cmyk_is_converted_through_its_profile_on_request(tmp_path: Path, ending: str) -> None:
    profile = ink_profile()
    path = inks(tmp_path / f"a.{ending}", profile)
    with pytest.raises(ImageError, match="is CMYK") as caught:
        read_image(path)
    assert "--convert-cmyk" in (caught.value.hint or "")
    image = read_image(path, convert_cmyk=True)
    assert image.channels == 3
    red, green, blue = image.pixels.reshape(-1, 3).mean(axis=0)
    assert red > 150 > 100 > green
    assert blue > green
    name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(image.metadata.icc or b"")))
    assert "sRGB" in name
    write_image(image, tmp_path / "b.jpg")
    with PILImage.open(tmp_path / "b.jpg") as seen:
        assert seen.mode == "RGB"
        assert seen.info["icc_profile"] == image.metadata.icc


@pytest.mark.parametrize(("profile", "word"), [(None, "without a colour profile"), (b"no profile", "unusable")])
def test_cmyk_without_a_usable_profile_is_refused(tmp_path: Path, profile: bytes | None, word: str) -> None:
    path = inks(tmp_path / "a.jpg", profile)
    with pytest.raises(ImageError, match=word):
        read_image(path, convert_cmyk=True)


def test_conversion_is_not_offered_to_cmyk_without_a_profile(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is CMYK without a colour profile") as caught:
        read_image(inks(tmp_path / "a.jpg", None))
    assert "--convert-cmyk" not in (caught.value.hint or "")


@pytest.mark.parametrize(("extra", "got"), [([0], "got 1 (unspecified)"), ([2, 0], "got 2 (alpha, unspecified)")])
def test_extra_channels_that_are_not_alpha_are_named(tmp_path: Path, extra: list[int], got: str) -> None:
    tifffile = pytest.importorskip("tifffile")
    pixels = random_array((8, 8, 3 + len(extra)))
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=extra)
    with pytest.raises(ImageError) as caught:
        read_image(tmp_path / "a.tif")
    assert got in caught.value.message
    assert caught.value.hint


def test_a_profile_of_rgb_does_not_convert_cmyk(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = inks(tmp_path / "a.jpg", srgb).read_bytes()
    with pytest.raises(ImageError, match="unusable"):
        decode_image(data, options=ReadOptions(convert_cmyk=True))


# ---------------------------------------------------------------- what is refused


def tiff_of(photometric: int, bits: int, samples: int, kind: int = 1) -> bytes:
    """Return a TIFF file of one pixel of a kind that is stated by tags alone."""
    sizes = {256: (4, 1), 257: (4, 1), 259: (3, 1), 262: (3, photometric), 277: (3, samples), 278: (4, 1)}
    values = {tag: whole_numbers("<", code, number) for tag, (code, number) in sizes.items()}
    values[258] = whole_numbers("<", 3, *[bits] * samples)
    values[339] = whole_numbers("<", 3, *[kind] * samples)
    values[273] = whole_numbers("<", 4, 8)
    values[279] = whole_numbers("<", 4, bits * samples // 8)
    return write_ifd(Ifd("<", values, {}), bytes(bits * samples // 8))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "expected PNG"),
        (b"text", "is not an image file: expected"),
        (b"8BPS" + bytes(40), "a Photoshop file, which is not supported: expected"),
        (b"\x00\x00\x00\x14ftypisom" + bytes(40), "a video file"),
        (tiff_of(8, 16, 3), "expected grayscale or RGB, with or without alpha, got CIE Lab with 3 channels"),
        (tiff_of(32844, 16, 3), "got photometric interpretation 32844 with 3 channels"),
        (tiff_of(1, 32, 1), "expected 8 or 16 unsigned bits per sample, or 32 or fewer of floating point, got 32 bits"),
        (tiff_of(1, 16, 1, kind=2), "got 16 signed bits"),
    ],
)
def test_what_is_refused_has_a_reason_and_a_hint(data: bytes, words: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode_image(data)
    assert words in caught.value.message
    assert caught.value.hint is not None
    assert caught.value.hint[0].isupper()
