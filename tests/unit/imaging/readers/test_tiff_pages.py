"""Pages of TIFF files: the full image is read, never a thumbnail, and every page of a document."""

from __future__ import annotations

import io
import subprocess
from typing import TYPE_CHECKING

import numpy as np
import pytest
from image_files import random_array
from PIL import Image as PILImage
from programs import needs
from tiff_files import self_pointing, whole_file_tags, with_tag

from edgedenoise.denoiser import load
from edgedenoise.errors import DamagedImageError, ImageError
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.metadata.encoding import LZW, TiffEncoding
from edgedenoise.imaging.metadata.ifd import read_ifds
from edgedenoise.imaging.readers.decoding import decode_image

if TYPE_CHECKING:
    from pathlib import Path

tifffile = pytest.importorskip("tifffile", reason='pip install "edgedenoise[io]"')
pytest.importorskip("imagecodecs", reason='pip install "edgedenoise[io]"')
FULL, SMALL = random_array((64, 96, 3)), random_array((8, 12, 3), seed=1)


def test_a_reduced_copy_in_front_of_the_image_is_not_taken_for_it(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(SMALL, photometric="rgb", subfiletype=1)
        file.write(FULL, photometric="rgb")
    image = read_image(tmp_path / "a.tif")
    assert np.array_equal(image.pixels, FULL)
    assert len(image.following) == 0
    assert image.metadata.notes == ("its reduced copies (thumbnails or overviews) are not kept",)


def test_the_compression_is_that_of_the_image_and_not_of_its_reduced_copy(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(SMALL, photometric="rgb", subfiletype=1)
        file.write(FULL, photometric="rgb", compression="lzw", predictor=True)
    assert read_image(tmp_path / "a.tif").encoding == TiffEncoding(LZW, predictor=True)


@pytest.mark.parametrize("marked", [1, 0], ids=["marked as reduced", "not marked"])
def test_the_image_may_be_a_sub_image_of_its_preview(tmp_path: Path, marked: int) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(SMALL, photometric="rgb", subfiletype=marked, subifds=1)
        file.write(FULL, photometric="rgb")
    assert np.array_equal(read_image(tmp_path / "a.tif").pixels, FULL)


def test_overviews_of_an_image_are_left_out_and_named(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(FULL, photometric="rgb", tile=(32, 32), subifds=1)
        file.write(FULL[::2, ::2], photometric="rgb", subfiletype=1, tile=(16, 16))
        file.write(FULL[::4, ::4], photometric="rgb", subfiletype=1)
    image = read_image(tmp_path / "a.tif")
    assert np.array_equal(image.pixels, FULL)
    assert image.metadata.notes


def test_a_lone_page_that_is_marked_as_reduced_is_the_image(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", FULL, photometric="rgb", subfiletype=1)
    assert np.array_equal(read_image(tmp_path / "a.tif").pixels, FULL)


def test_reduced_copies_alone_are_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(SMALL, photometric="rgb", subfiletype=1)
        file.write(SMALL[::2], photometric="rgb", subfiletype=1)
    with pytest.raises(ImageError, match="expected one, got 2 reduced copies"):
        read_image(tmp_path / "a.tif")


def pages(path: Path) -> list[np.ndarray]:
    """Write three pages of different kinds and sizes."""
    made = [FULL, random_array((40, 30), np.uint16, 2), SMALL]
    with tifffile.TiffWriter(path) as file:
        file.write(made[0], photometric="rgb", compression="lzw", description="the first")
        file.write(made[1], photometric="minisblack", compression="deflate", description="the second")
        file.write(made[2], photometric="rgb", planarconfig="contig", description="the third")
    return made


def test_all_pages_are_read_and_written(tmp_path: Path) -> None:
    made = pages(tmp_path / "a.tif")
    image = read_image(tmp_path / "a.tif", frames=True)
    assert len(image.following) == 2
    for _ in range(2):  # they can be read again
        assert [page.pixels.squeeze().tolist() for page in image.following] == [page.tolist() for page in made[1:]]
    write_image(image, tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert [page.description for page in file.pages] == ["the first", "the second", "the third"]
        for page, expected in zip(file.pages, made, strict=True):
            assert np.array_equal(page.asarray(), expected)


def test_imagemagick_finds_all_pages_of_ours(tmp_path: Path) -> None:
    identify = needs("identify", "imagemagick")
    pages(tmp_path / "a.tif")
    write_image(read_image(tmp_path / "a.tif", frames=True), tmp_path / "b.tif")
    found = subprocess.run(
        [identify, "-format", "%wx%h ", tmp_path / "b.tif"], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["96x64", "30x40", "12x8"]


def test_several_pages_are_refused_where_one_is_expected(tmp_path: Path) -> None:
    pages(tmp_path / "a.tif")
    with pytest.raises(ImageError, match="expected one, got 3"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize(("name", "word"), [("a.png", "expected one page in PNG, got 3"), ("a.gif", "one page in GIF")])
def test_a_format_without_pages_is_refused(tmp_path: Path, name: str, word: str) -> None:
    pages(tmp_path / "a.tif")
    with pytest.raises(ImageError, match=word) as caught:
        write_image(read_image(tmp_path / "a.tif", frames=True), tmp_path / name)
    assert caught.value.hint == f"Write {tmp_path / 'a.tif'} instead."
    assert not (tmp_path / name).exists()


def test_a_damaged_page_behind_the_first_is_found_and_nothing_is_written(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(FULL, photometric="rgb")
        file.write(FULL, photometric="rgb")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    del data[-100:]
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(DamagedImageError):
        write_image(read_image(tmp_path / "a.tif", frames=True), tmp_path / "b.tif")
    assert not (tmp_path / "b.tif").exists()


def test_the_denoiser_keeps_all_pages(tmp_path: Path, committed_bundle: Path) -> None:
    pages(tmp_path / "a.tif")
    image = read_image(tmp_path / "a.tif", frames=True)
    with load(committed_bundle) as denoiser:
        clean = denoiser(image)
        alone = [denoiser(page).pixels for page in image.following]
    assert [np.array_equal(page.pixels, alone[number]) for number, page in enumerate(clean.following)] == [True, True]


# ---------------------------------------------------------------- damage and bombs


@pytest.mark.parametrize("count", [60, 1000])
def test_directories_that_point_at_themselves_do_not_hang(count: int) -> None:
    with pytest.raises(DamagedImageError, match="circle"):
        decode_image(self_pointing(count))


def test_tags_that_claim_the_whole_file_take_no_memory() -> None:
    with pytest.raises(DamagedImageError, match="overlap"):
        decode_image(whole_file_tags(4000))
    with pytest.raises(DamagedImageError, match="too many tags"):
        decode_image(whole_file_tags(16_000))


def test_a_jpeg_with_such_exif_is_read_and_is_an_error_only_where_the_exif_must_be_parsed(tmp_path: Path) -> None:
    PILImage.fromarray(FULL).save(tmp_path / "a.jpg", exif=b"Exif\x00\x00" + self_pointing(700))
    image = read_image(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match="cannot be written"):
        write_image(image, tmp_path / "a.tif")


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("compression", [None, "lzw", "deflate"])
@pytest.mark.parametrize("strip_rows", [4, 40])
@pytest.mark.parametrize(("tag", "value"), [(257, 400), (279, 100)], ids=["ten times the rows", "short byte count"])
def test_missing_rows_are_damage_and_not_black(
    tag: int, value: int, strip_rows: int, compression: str | None, bits: int
) -> None:
    if tag == 279 and strip_rows == 4:
        return  # the counts are a list then
    stream = io.BytesIO()
    array = random_array((40, 33, 3), np.uint8 if bits == 8 else np.uint16)
    tifffile.imwrite(stream, array, photometric="rgb", compression=compression, rowsperstrip=strip_rows)
    with pytest.raises(DamagedImageError):
        decode_image(with_tag(stream.getvalue(), tag, value))


def test_a_small_file_that_claims_many_rows_is_refused_before_memory_is_taken() -> None:
    stream = io.BytesIO()
    tifffile.imwrite(stream, random_array((40, 33, 3)), photometric="rgb", compression="deflate", rowsperstrip=40)
    data = with_tag(with_tag(stream.getvalue(), 257, 4_000_000), 278, 4_000_000)
    with pytest.raises(DamagedImageError, match="too short"):
        decode_image(data)


def test_numbers_of_big_tiff_that_do_not_fit_are_left_out() -> None:
    stream = io.BytesIO()
    tags = [(65000, 16, 1, 1 << 40, True)]
    tifffile.imwrite(stream, FULL, photometric="rgb", bigtiff=True, extratags=tags)
    assert read_ifds(stream.getvalue())[0].numbers(65000) == (1 << 40,)
    assert decode_image(stream.getvalue()).width == 96  # the tag is not among those that are kept
