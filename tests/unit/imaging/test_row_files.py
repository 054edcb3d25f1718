"""Large images go from file to file by rows: the pixels, the compression and the metadata of whole files."""

from __future__ import annotations

import io
import itertools
import sys
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from image_files import ICC, XMP, exif_block
from PIL import Image as PILImage

from edgedenoise.errors import DamagedImageError, ImageError, RuntimeUnavailableError
from edgedenoise.imaging.files import open_rows, read_image, write_image, write_rows
from edgedenoise.imaging.image import Image
from edgedenoise.imaging.metadata.embedded import Metadata
from edgedenoise.imaging.pixel_rows import PixelRows, regrouped
from edgedenoise.imaging.row_files import ImageRows
from edgedenoise.imaging.saving import SaveOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

LARGE = 'pip install "edgedenoise[large]"'


def pixels(height: int = 300, width: int = 211, dtype: str = "uint8", channels: int = 3) -> np.ndarray:
    """Return a ramp with noise, so that every filter of PNG has rows that it suits."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(20, 200, height)[:, None, None] + 30 * np.sin(np.arange(width) / 9)[None, :, None]
    noise = rng.normal(0, 4, (height, width, channels)) * (np.arange(height) % 3 > 0)[:, None, None]
    unit = np.clip((ramp + noise) / 255, 0, 1)
    return np.round(unit * np.iinfo(dtype).max).astype(dtype)


def rows_of(array: NDArray[Any], encoding: Any = None) -> ImageRows:
    return ImageRows(PixelRows.of(array), Metadata(), "PNG", encoding)


def all_rows(image: ImageRows, rows: int = 50) -> np.ndarray:
    return np.concatenate(list(image.pixels.start(rows)))


@pytest.mark.parametrize("rows", [1, 7, 64, 500])
def test_bands_are_regrouped(rows: int) -> None:
    array = pixels(130, 5)
    cuts = [0, 1, 40, 41, 100, 130]
    bands = list(regrouped((array[a:b] for a, b in itertools.pairwise(cuts)), rows))
    assert np.array_equal(np.concatenate(bands), array)
    assert {len(band) for band in bands[:-1]} <= {rows}


@pytest.mark.parametrize("rows", [4, 7, 20])
def test_regrouped_bands_keep_their_byte_order(rows: int) -> None:
    array = np.arange(16 * 3, dtype=">u2").reshape(16, 3, 1)
    bands = list(regrouped(iter([array[:5], array[5:11], array[11:]]), rows))
    assert b"".join(band.tobytes() for band in bands) == array.tobytes()


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("name", ["image.png", "image.tif"])
def test_files_without_loss_hold_the_pixels(tmp_path: Path, name: str, dtype: str, channels: int) -> None:
    if (dtype, channels) == ("uint16", 3):
        pytest.importorskip("imagecodecs", reason='pip install "edgedenoise[io]"')
    array = pixels(dtype=dtype, channels=channels)
    for compression in ("0", "1", "6") if name.endswith("png") else ("none", "lzw", "deflate"):
        write_rows(rows_of(array), tmp_path / name, SaveOptions(compression=compression))
        assert np.array_equal(read_image(tmp_path / name).pixels, array), compression


def test_png_is_about_as_small_as_that_of_libpng(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    waves = 128 + 60 * np.sin(np.arange(211) / 90) + 40 * np.cos(np.arange(300) / 70)[:, None]
    array = np.clip(waves[..., None] + rng.normal(0, 3, (300, 211, 3)), 0, 255).astype(np.uint8)
    write_rows(rows_of(array), tmp_path / "rows.png")
    write_image(Image(array), tmp_path / "whole.png")
    sizes = [(tmp_path / name).stat().st_size for name in ("rows.png", "whole.png")]
    assert sizes[0] < 1.02 * sizes[1]
    write_rows(rows_of(pixels()), tmp_path / "rows.png")
    stored = (tmp_path / "rows.png").read_bytes()
    raw = zlib.decompress(b"".join(body for kind, body in _chunks(stored) if kind == b"IDAT"))
    assert len(set(raw[:: 211 * 3 + 1])) >= 3, "several filters are used"


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length


@pytest.mark.parametrize("height", [1, 8, 63, 64, 129, 300])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_has_the_coefficients_of_the_whole_image(
    tmp_path: Path, height: int, subsampling: int, channels: int
) -> None:
    array = pixels(height, channels=channels)
    stream = io.BytesIO()
    whole = PILImage.fromarray(array if channels == 3 else array[..., 0])
    whole.save(stream, "JPEG", quality=83, subsampling=subsampling)
    (tmp_path / "whole.jpg").write_bytes(stream.getvalue())
    read = read_image(tmp_path / "whole.jpg")
    write_rows(rows_of(array, read.encoding), tmp_path / "rows.jpg")
    again = read_image(tmp_path / "rows.jpg")  # also checks that no scan is cut
    assert np.array_equal(again.pixels, read.pixels)
    assert again.encoding == read.encoding
    assert (tmp_path / "rows.jpg").stat().st_size < 1.1 * len(stream.getvalue()) + 64


def test_other_formats_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"expected JPEG, PNG, TIFF for an image by rows, got WEBP"):
        write_rows(rows_of(pixels()), tmp_path / "image.webp")
    with pytest.raises(ImageError, match="expected 8 bits per sample in JPEG"):
        write_rows(rows_of(pixels(dtype="uint16")), tmp_path / "image.jpg")
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- reading


@pytest.fixture
def vips() -> None:
    pytest.importorskip("pyvips", reason=LARGE)


def saved(path: Path, array: NDArray[Any], metadata: Metadata | None = None, **options: Any) -> Path:
    write_image(Image(array, None, metadata or Metadata()), path, SaveOptions(**options))
    return path


@pytest.mark.usefixtures("vips")
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("name", "dtype"),
    [("a.png", "uint8"), ("a.png", "uint16"), ("a.tif", "uint8"), ("a.tif", "uint16"), ("a.jpg", "uint8")],
)
def test_rows_are_those_of_the_whole_file(tmp_path: Path, name: str, dtype: str, channels: int) -> None:
    if (dtype, channels) == ("uint16", 3):
        pytest.importorskip("imagecodecs", reason='pip install "edgedenoise[io]"')
    path = saved(tmp_path / name, pixels(dtype=dtype, channels=channels), Metadata(icc=None, dpi=(300, 300)))
    whole, image = read_image(path), open_rows(path)
    assert image is not None
    for rows in (1, 64, 1000):
        assert np.array_equal(all_rows(image, rows), whole.pixels)
    assert (image.layout, image.format, image.encoding) == (whole.layout, whole.format, whole.encoding)
    assert image.metadata == whole.metadata


@pytest.mark.usefixtures("vips")
@pytest.mark.parametrize("compression", ["none", "lzw", "deflate"])
def test_compressed_tiff_is_read_by_rows(tmp_path: Path, compression: str) -> None:
    array = pixels()
    image = open_rows(saved(tmp_path / "a.tif", array, compression=compression))
    assert image is not None
    assert np.array_equal(all_rows(image), array)


@pytest.mark.usefixtures("vips")
def test_kinds_that_need_the_whole_image_are_left_to_the_other_reader(tmp_path: Path) -> None:
    array = pixels()
    write_image(Image(array, array[..., 0]), tmp_path / "alpha.png")
    write_image(Image(array, array[..., 0]), tmp_path / "alpha.tif")
    PILImage.fromarray(array).convert("P").save(tmp_path / "palette.png")
    PILImage.fromarray(array).convert("CMYK").save(tmp_path / "cmyk.jpg")
    PILImage.fromarray(array).save(tmp_path / "image.webp")
    PILImage.fromarray(array).save(tmp_path / "pages.tif", save_all=True, append_images=[PILImage.fromarray(array)])
    for path in sorted(tmp_path.iterdir()):
        assert open_rows(path) is None, path.name


@pytest.mark.usefixtures("vips")
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg"])
def test_damage_is_found(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / name, pixels())
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(DamagedImageError, match=f"{name} is a damaged"):
        open_rows(path)


@pytest.mark.usefixtures("vips")
def test_damage_within_the_pixels_is_found_while_they_are_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tif", pixels(), compression="deflate")
    data = bytearray(path.read_bytes())
    data[300:5000] = bytes(4700)
    path.write_bytes(data)
    image = open_rows(path)
    assert image is not None
    with pytest.raises(DamagedImageError, match=r"a\.tif is a damaged TIFF file"):
        all_rows(image)


@pytest.mark.usefixtures("vips")
def test_the_limit_of_pixels_is_that_of_other_images(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", pixels())
    with pytest.raises(ImageError, match=r"expected at most 1000 pixels") as caught:
        open_rows(path, max_pixels=1000)
    assert "--max-pixels 63300" in str(caught.value.hint)


def test_without_the_extra_its_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.png", pixels())
    monkeypatch.setitem(sys.modules, "pyvips", None)
    with pytest.raises(RuntimeUnavailableError) as caught:
        open_rows(path)
    assert LARGE in str(caught.value.hint)


# ---------------------------------------------------------------- metadata


@pytest.mark.usefixtures("vips")
@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
@pytest.mark.parametrize("source", ["jpg", "png", "tif"])
def test_metadata_are_written_as_with_the_whole_image(tmp_path: Path, source: str, ending: str) -> None:
    path = saved(tmp_path / f"a.{source}", pixels(), Metadata(icc=ICC, exif=exif_block(), xmp=XMP, dpi=(300, 300)))
    image = open_rows(path)
    assert image is not None
    write_rows(image, tmp_path / f"rows.{ending}")
    write_image(read_image(path), tmp_path / f"whole.{ending}")
    rows, whole = (read_image(tmp_path / f"{name}.{ending}") for name in ("rows", "whole"))
    assert rows.metadata == whole.metadata
    assert np.array_equal(rows.pixels, whole.pixels)


@pytest.mark.usefixtures("vips")
def test_a_progressive_jpeg_becomes_a_sequential_one_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    PILImage.fromarray(pixels()).save(tmp_path / "a.jpg", progressive=True)
    image = open_rows(tmp_path / "a.jpg")
    assert image is not None
    write_rows(image, tmp_path / "b.png")
    assert "sequential" not in caplog.text
    write_rows(image, tmp_path / "b.jpg")
    assert "a.jpg" not in caplog.text
    assert "b.jpg: it is written as a sequential JPEG" in caplog.text
    assert np.abs(read_image(tmp_path / "b.jpg").pixels.astype(int) - read_image(tmp_path / "a.jpg").pixels).max() < 16
