"""Camera raw files are developed, and never read as the preview that they carry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgedenoise.errors import ImageError, RuntimeUnavailableError
from edgedenoise.imaging import optional
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.headers import read_layout

if TYPE_CHECKING:
    from pathlib import Path

tifffile = pytest.importorskip("tifffile", reason='pip install "edgedenoise[io]"')
pytest.importorskip("imagecodecs", reason='pip install "edgedenoise[io]"')

from raw_files import PREVIEW, dng, nef


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
