"""Files are compressed as their inputs were, as other programs see it, unless an option changes it."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from image_files import made, needs_io
from PIL import Image as PILImage
from PIL import JpegImagePlugin

from edgedenoise.batch.run import denoise_files
from edgedenoise.errors import UsageError
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.image import Image
from edgedenoise.imaging.metadata.embedded import Metadata
from edgedenoise.imaging.metadata.encoding import TiffEncoding, WebpEncoding
from edgedenoise.imaging.saving import AS_READ, SaveOptions

if TYPE_CHECKING:
    from pathlib import Path

Y, X = np.mgrid[:96, :160]
WAVES = 128 + 60 * np.sin(X / 9) + 40 * np.cos(Y / 7)
NOISE = np.random.default_rng(0).normal(0, 6, (96, 160, 3))
PHOTO = np.clip(WAVES[..., None] * [1, 0.9, 0.8] + NOISE, 0, 255).astype(np.uint8)


def rewritten(path: Path, options: SaveOptions = AS_READ) -> Path:
    output = path.with_name(f"new-{path.name}")
    write_image(read_image(path), output, options)
    return output


def identify(path: Path, field: str) -> str:
    """Return what ImageMagick finds in a file."""
    program = shutil.which("identify")
    if program is None:
        pytest.skip("ImageMagick is not installed: apt-get install imagemagick")
    done = subprocess.run([program, "-format", field, str(path)], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize(
    "options", [{"quality": 60}, {"quality": 92, "subsampling": 0}, {"quality": 85, "subsampling": 1}]
)
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("gray", [False, True])
def test_jpeg_keeps_its_tables_subsampling_and_progression(
    tmp_path: Path, options: dict[str, int], progressive: bool, gray: bool
) -> None:
    PILImage.fromarray(PHOTO[..., 0] if gray else PHOTO).save(tmp_path / "a.jpg", progressive=progressive, **options)
    new = rewritten(tmp_path / "a.jpg")
    with PILImage.open(tmp_path / "a.jpg") as before, PILImage.open(new) as after:
        assert isinstance(before, JpegImagePlugin.JpegImageFile)
        assert isinstance(after, JpegImagePlugin.JpegImageFile)
        assert after.quantization == before.quantization
        assert gray or JpegImagePlugin.get_sampling(after) == JpegImagePlugin.get_sampling(before)
        assert after.info.get("progressive") == before.info.get("progressive")
    assert identify(new, "%Q %[interlace]") == identify(tmp_path / "a.jpg", "%Q %[interlace]")
    assert 0.9 < new.stat().st_size / (tmp_path / "a.jpg").stat().st_size < 1.1


def test_jpeg_of_three_tables_and_unusual_subsampling_is_kept_as_far_as_it_can_be(tmp_path: Path) -> None:
    tables = [[number + step for number in range(1, 65)] for step in (0, 20, 40)]
    PILImage.fromarray(PHOTO).save(tmp_path / "a.jpg", qtables=tables, subsampling=0)
    with PILImage.open(tmp_path / "a.jpg") as before, PILImage.open(rewritten(tmp_path / "a.jpg")) as after:
        assert after.quantization == before.quantization  # type: ignore[attr-defined]
        assert len(after.quantization) == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("quality", [30, 60, 75, 85, 95])
def test_lossy_webp_stays_lossy_at_about_its_quality(tmp_path: Path, quality: int) -> None:
    rng = np.random.default_rng(1)
    photo = np.clip(WAVES.repeat(4, 0).repeat(4, 1)[..., None] + rng.normal(0, 12, (384, 640, 3)), 0, 255)
    PILImage.fromarray(photo.astype(np.uint8)).save(tmp_path / "a.webp", quality=quality)
    encoding = read_image(tmp_path / "a.webp").encoding
    assert isinstance(encoding, WebpEncoding)
    assert encoding.quality is not None
    assert abs(encoding.quality - quality) <= 10
    new = rewritten(tmp_path / "a.webp")
    assert b"VP8 " in new.read_bytes()[:64]
    assert 0.7 < new.stat().st_size / (tmp_path / "a.webp").stat().st_size < 1.4


def test_lossless_webp_stays_lossless(tmp_path: Path) -> None:
    PILImage.fromarray(PHOTO).save(tmp_path / "a.webp", lossless=True)
    new = rewritten(tmp_path / "a.webp")
    assert np.array_equal(np.asarray(PILImage.open(new)), PHOTO)


@pytest.mark.parametrize("name", ["none", "lzw", "deflate", "packbits"])
@pytest.mark.parametrize("predictor", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("channels", "bits", "alpha"), [(1, 8, False), (3, 8, True), (1, 16, True), (3, 16, False)])
def test_tiff_keeps_its_compression_and_its_pixels(
    tmp_path: Path, name: str, predictor: bool, order: str, channels: int, bits: int, alpha: bool
) -> None:
    tifffile = pytest.importorskip("tifffile", reason='pip install "edgedenoise[io]"')
    photo = made(channels, bits, alpha, (601, 333))
    needs_io(photo)
    stored = {"none": 1, "lzw": 5, "deflate": 8, "packbits": 32773}[name]
    exif = b"MM\x00*\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00" if order == ">" else None  # gives the byte order
    given = replace(photo, metadata=Metadata(exif=exif), format="TIFF", encoding=TiffEncoding(stored, predictor))
    write_image(given, tmp_path / "a.tif")
    new = rewritten(tmp_path / "a.tif")
    for path in (tmp_path / "a.tif", new):
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            assert page.compression == stored
            assert page.predictor == (2 if predictor and name in {"lzw", "deflate"} else 1)
            assert np.array_equal(page.asarray(), np.squeeze(given.to_channels()))
        assert np.array_equal(read_image(path).to_channels(), given.to_channels())


def test_other_programs_read_the_compressed_strips(tmp_path: Path) -> None:
    PILImage.fromarray(PHOTO).save(tmp_path / "a.tif")
    for name in ("lzw", "deflate"):
        new = rewritten(tmp_path / "a.tif", SaveOptions(compression=name))
        assert identify(new, "%C %wx%h") == {"lzw": "LZW", "deflate": "Zip"}[name] + " 160x96"
        assert np.array_equal(np.asarray(PILImage.open(new)), PHOTO)


@pytest.mark.parametrize("kept", ["jpeg", "tiff_adobe_deflate", "group4", "zstd"])
def test_a_tiff_compression_that_is_not_written_becomes_deflate(tmp_path: Path, kept: str) -> None:
    image = PILImage.fromarray(PHOTO)
    try:
        (image.convert("1") if kept == "group4" else image).save(tmp_path / "a.tif", compression=kept)
    except (OSError, KeyError):  # this build of libtiff does not have it
        return
    assert read_image(tmp_path / "a.tif").encoding == TiffEncoding(8)
    with PILImage.open(rewritten(tmp_path / "a.tif")) as file:
        assert file.info["compression"] == "tiff_adobe_deflate"


@pytest.mark.parametrize("level", [0, 1, 6, 9])
@pytest.mark.parametrize("bits", [8, 16])
def test_png_keeps_its_effort(tmp_path: Path, level: int, bits: int) -> None:
    photo = Image(PHOTO if bits == 8 else PHOTO.astype(np.uint16) * 257)
    needs_io(photo)
    write_image(photo, tmp_path / "a.png", SaveOptions(compression=str(level)))
    new = rewritten(tmp_path / "a.png")
    assert new.read_bytes() == (tmp_path / "a.png").read_bytes()


def options(path: Path, **given: Any) -> int:
    return rewritten(path, SaveOptions(**given)).stat().st_size


def test_options_replace_what_the_file_had(tmp_path: Path) -> None:
    for name, saved in (("a.jpg", {"quality": 90}), ("a.webp", {"quality": 90}), ("a.png", {}), ("a.tif", {})):
        PILImage.fromarray(PHOTO).save(tmp_path / name, **saved)  # type: ignore[arg-type]
    assert options(tmp_path / "a.jpg", quality=30) < options(tmp_path / "a.jpg") / 2
    assert options(tmp_path / "a.webp", quality=30) < options(tmp_path / "a.webp") / 2
    assert options(tmp_path / "a.webp", compression="lossless") > 2 * options(tmp_path / "a.webp")
    assert options(tmp_path / "a.png", compression="0") > PHOTO.nbytes > options(tmp_path / "a.png", compression="9")
    assert options(tmp_path / "a.tif", compression="deflate") < options(tmp_path / "a.tif", compression="none")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"quality": 0}, "expected 1 to 100, got 0"),
        ({"compression": "zip"}, r"expected none, lzw, deflate \(TIFF\), 0 to 9 \(PNG\), lossless \(WebP\), got 'zip'"),
        ({"compression": "lossless", "quality": 5}, "has no quality"),
    ],
)
def test_an_option_that_is_not_accepted_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SaveOptions(**given)


def test_an_option_for_none_of_the_outputs_is_refused_before_anything_is_written(
    tmp_path: Path, committed_bundle: Path
) -> None:
    write_image(Image(PHOTO), tmp_path / "in" / "a.png")
    with pytest.raises(UsageError, match="--quality 80 is for no output: expected outputs in JPEG or WEBP, got PNG"):
        denoise_files([tmp_path / "in"], tmp_path / "out", committed_bundle, quality=80)
    with pytest.raises(UsageError, match="--compression lzw is for no output: expected outputs in TIFF, got PNG"):
        denoise_files([tmp_path / "in"], tmp_path / "out", committed_bundle, compression="lzw")
    assert not (tmp_path / "out").exists()


def test_a_run_keeps_and_changes_compression(tmp_path: Path, committed_bundle: Path) -> None:
    (tmp_path / "in").mkdir()
    PILImage.fromarray(PHOTO).save(tmp_path / "in" / "a.jpg", quality=70)
    denoise_files([tmp_path / "in"], tmp_path / "kept", committed_bundle)
    denoise_files([tmp_path / "in"], tmp_path / "changed", committed_bundle, quality=50)
    assert identify(tmp_path / "kept" / "a.jpg", "%Q") == "70"
    assert identify(tmp_path / "changed" / "a.jpg", "%Q") == "50"
