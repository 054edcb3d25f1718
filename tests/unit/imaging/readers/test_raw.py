"""Camera raw files are developed, and never read as the preview that they carry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from image_files import random_array
from tiff_files import mosaic

from edgedenoise.errors import ImageError, RuntimeUnavailableError
from edgedenoise.imaging import optional
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.headers import read_layout

if TYPE_CHECKING:
    from pathlib import Path

tifffile = pytest.importorskip("tifffile", reason='pip install "edgedenoise[io]"')
pytest.importorskip("imagecodecs", reason='pip install "edgedenoise[io]"')
PREVIEW = random_array((16, 24, 3))
MOSAIC = 32803
BAYER = [(33421, 3, 2, (2, 2), True), (33422, 1, 4, b"\x00\x01\x01\x02", True)]


def nef(path: Path) -> Path:
    """Write a file as Nikon lays it out: a preview first, and the mosaic as its sub-image."""
    with tifffile.TiffWriter(path) as file:
        made = [(271, 2, 0, "NIKON CORPORATION", True), (272, 2, 0, "NIKON D850", True)]
        file.write(PREVIEW, photometric="rgb", subfiletype=1, subifds=1, metadata=None, extratags=made)
        file.write(mosaic(), photometric=MOSAIC, metadata=None, extratags=BAYER)
    return path


def dng(path: Path, orientation: int = 1) -> Path:
    """Write a DNG of one page: an upright mosaic of 14 bits with neutral colours."""
    matrix = (3240454, -1537138, -498531, -969266, 1876010, 41556, 55643, -204026, 1057225)  # XYZ to sRGB
    tags = [
        (271, 2, 0, "A camera maker", True),
        (272, 2, 0, "A camera", True),
        (274, 3, 1, orientation, True),
        (50706, 1, 4, b"\x01\x04\x00\x00", True),
        (50708, 2, 0, "A camera", True),
        (50714, 3, 1, 0, True),
        (50717, 4, 1, 16383, True),
        (50721, 10, 9, tuple(part for value in matrix for part in (value, 1_000_000)), True),
        (50728, 5, 3, (3, 2, 1, 1, 3, 4), True),  # white of the camera
        (50778, 3, 1, 21, True),  # daylight
        *BAYER,
    ]
    tifffile.imwrite(path, mosaic(), photometric=MOSAIC, metadata=None, extratags=tags)
    return path


@pytest.mark.parametrize("make", [nef, dng])
def test_a_raw_file_is_developed_to_16_bits_at_full_size(tmp_path: Path, make) -> None:
    rawpy = pytest.importorskip("rawpy", reason='pip install "edgedenoise[raw]"')
    path = make(tmp_path / f"a.{make.__name__}")
    image = read_image(path)
    assert (image.height, image.width, image.bits) == (64, 96, 16)
    with rawpy.imread(str(path)) as raw:
        expected = raw.postprocess(
            output_bps=16, use_camera_wb=True, no_auto_bright=True, gamma=(2.4, 12.92), user_flip=None
        )
    assert np.array_equal(image.pixels, expected)
    write_image(image, tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert np.array_equal(file.pages[0].asarray(), expected)
        assert "amera" in file.pages[0].tags[271].value or "NIKON" in file.pages[0].tags[271].value


def test_linear_output_is_proportional_to_light(tmp_path: Path) -> None:
    pytest.importorskip("rawpy", reason='pip install "edgedenoise[raw]"')
    srgb = read_image(dng(tmp_path / "a.dng")).pixels[8:-8, 8:-8].mean(axis=(0, 1)) / 65535
    linear = read_image(tmp_path / "a.dng", raw="linear").pixels[8:-8, 8:-8].mean(axis=(0, 1)) / 65535
    curved = np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert curved == pytest.approx(srgb, abs=0.01)


def test_the_white_of_the_camera_becomes_gray(tmp_path: Path) -> None:
    """The mosaic has the ratio 6 : 4 : 3 of red, green and blue that the file states for white."""
    pytest.importorskip("rawpy", reason='pip install "edgedenoise[raw]"')
    red, green, blue = read_image(dng(tmp_path / "a.dng")).pixels[8:-8, 8:-8].mean(axis=(0, 1))
    assert red / green == pytest.approx(1, abs=0.03)
    assert blue / green == pytest.approx(1, abs=0.03)


def test_the_image_is_upright_and_no_viewer_turns_it_again(tmp_path: Path) -> None:
    pytest.importorskip("rawpy", reason='pip install "edgedenoise[raw]"')
    image = read_image(dng(tmp_path / "a.dng", orientation=6))
    assert (image.height, image.width) == (96, 64)
    write_image(image, tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert 274 not in file.pages[0].tags


@pytest.mark.parametrize("make", [nef, dng])
def test_without_the_extra_the_preview_is_not_taken_for_the_image(
    tmp_path: Path, make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / f"a.{make.__name__}")

    def absent(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(optional.importlib, "import_module", absent)
    with pytest.raises(RuntimeUnavailableError) as caught:
        read_image(path)
    assert str(path) in caught.value.message
    assert 'pip install "edgedenoise[raw]"' in (caught.value.hint or "")


def test_a_raw_extension_on_a_plain_tiff_is_not_read_as_an_image(tmp_path: Path) -> None:
    """Some cameras mark neither the preview nor the raw data in a way that TIFF knows."""
    pytest.importorskip("rawpy", reason='pip install "edgedenoise[raw]"')
    tifffile.imwrite(tmp_path / "a.ARW", PREVIEW, photometric="rgb")
    with pytest.raises(ImageError):
        read_image(tmp_path / "a.ARW")


def test_the_layout_of_a_raw_file_is_not_the_one_of_its_preview(tmp_path: Path) -> None:
    assert read_layout(nef(tmp_path / "a.nef")) is None
