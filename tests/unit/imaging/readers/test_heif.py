"""HEIC and AVIF files are read upright, at their depth, with their metadata, and written."""

from __future__ import annotations

import io
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from image_files import XMP, exif_block
from PIL import Image as PILImage
from PIL import ImageCms, features
from programs import needs

from edgedenoise.errors import DamagedImageError, ImageError, RuntimeUnavailableError
from edgedenoise.imaging import optional
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.image import Image
from edgedenoise.imaging.metadata.embedded import Metadata
from edgedenoise.imaging.metadata.ifd import read_ifds

if TYPE_CHECKING:
    from pathlib import Path

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
Y, X = np.mgrid[0:64, 0:96]
PIXELS = np.dstack([X * 2, Y * 3, X + Y]).astype(np.uint8)
META = Metadata(icc=ICC, exif=exif_block(orientation=1), xmp=XMP)


def skip_without(ending: str) -> None:
    if ending == "heic":
        pytest.importorskip("pillow_heif", reason='pip install "edgedenoise[heic]"')
    elif not features.check("avif"):
        pytest.skip('pip install "pillow>=11.3"')


@pytest.mark.parametrize("kind", ["gray", "rgb", "rgba"])
@pytest.mark.parametrize("ending", ["heic", "avif"])
def test_pixels_alpha_and_metadata_come_back(tmp_path: Path, ending: str, kind: str) -> None:
    skip_without(ending)
    pixels = PIXELS[..., :1] if kind == "gray" else PIXELS
    alpha = (X * 2).astype(np.uint8) if kind == "rgba" else None
    write_image(Image(pixels, alpha, META), tmp_path / f"a.{ending}")
    image = read_image(tmp_path / f"a.{ending}")
    assert image.bits == 8
    assert np.abs(image.pixels.astype(int) - pixels).mean() < 2
    assert (image.alpha is None) == (alpha is None)
    if alpha is not None:
        assert np.abs(image.alpha.astype(int) - alpha).mean() < 2
    assert (image.metadata.icc, image.metadata.xmp) == (ICC, XMP)
    assert read_ifds(image.metadata.exif or b"")[0].raw(0x010F) == b"A camera maker\x00"


@pytest.mark.parametrize("ending", ["heic", "avif"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_the_orientation_is_applied_exactly_once(tmp_path: Path, ending: str, orientation: int) -> None:
    skip_without(ending)
    meta = Metadata(exif=exif_block(orientation))
    write_image(Image(PIXELS, metadata=meta), tmp_path / f"a.{ending}")
    write_image(read_image(tmp_path / f"a.{ending}"), tmp_path / "b.png")
    upright = {3: np.rot90(PIXELS, 2), 6: np.rot90(PIXELS, -1), 8: np.rot90(PIXELS)}[orientation]
    with PILImage.open(tmp_path / "b.png") as seen:  # as a viewer shows it
        turn = {1: 0, 3: 2, 6: -1, 8: 1}[seen.getexif().get(0x0112, 1)]
        shown = np.rot90(np.asarray(seen), turn)
    assert shown.shape == upright.shape
    assert np.abs(shown.astype(int) - upright).mean() < 2


@pytest.mark.parametrize("ending", ["heic", "avif"])
def test_exiftool_reads_ours(tmp_path: Path, ending: str) -> None:
    skip_without(ending)
    exiftool = needs("exiftool", "libimage-exiftool-perl")
    write_image(Image(PIXELS, metadata=META), tmp_path / f"a.{ending}")
    found = subprocess.check_output(
        [exiftool, "-s3", "-ImageSize", "-Make", "-ISO", tmp_path / f"a.{ending}"], text=True
    )
    assert found.split("\n")[:3] == ["96x64", "A camera maker", "3200"]


def test_ten_bits_of_heic_are_kept_over_the_full_range(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason='pip install "edgedenoise[heic]"')
    deep = (PIXELS.astype(np.uint16) << 8) + 77
    deep[0, 0] = 65535
    file = pillow_heif.from_bytes("RGB;16", (96, 64), deep.tobytes())
    file.save(tmp_path / "a.heic", quality=100, chroma=444)
    image = read_image(tmp_path / "a.heic")
    assert image.bits == 16
    assert np.abs(image.pixels.astype(int) - deep).mean() < 300
    assert len(np.unique(image.pixels)) > 300  # more than 8 bits hold


def test_ten_bits_of_avif_are_kept_over_the_full_range(tmp_path: Path) -> None:
    skip_without("avif")
    imagecodecs = pytest.importorskip("imagecodecs", reason='pip install "edgedenoise[io]"')
    deep = (PIXELS.astype(np.uint16) << 2) + 1
    (tmp_path / "a.avif").write_bytes(imagecodecs.avif_encode(deep, level=100, bitspersample=10))
    image = read_image(tmp_path / "a.avif")
    assert image.bits == 16
    assert np.abs(image.pixels.astype(int) - deep * 65535.0 / 1023).max() < 200


@pytest.mark.parametrize("ending", ["heic", "avif"])
def test_16_bits_are_not_reduced_without_a_word(tmp_path: Path, ending: str) -> None:
    with pytest.raises(ImageError, match="expected 8 bits per sample"):
        write_image(Image(PIXELS.astype(np.uint16)), tmp_path / f"a.{ending}")


def test_a_missing_extra_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.heic").write_bytes(b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(40))

    def absent(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(optional.importlib, "import_module", absent)
    with pytest.raises(RuntimeUnavailableError) as caught:
        read_image(tmp_path / "a.heic")
    assert str(tmp_path / "a.heic") in caught.value.message
    assert caught.value.hint == 'Install it with: pip install "edgedenoise[heic]"'


def test_a_pillow_without_avif_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.avif").write_bytes(b"\x00\x00\x00\x18ftypavif\x00\x00\x00\x00mif1avif" + bytes(40))
    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(RuntimeUnavailableError, match="no AVIF codec"):
        read_image(tmp_path / "a.avif")


@pytest.mark.parametrize("ending", ["heic", "avif"])
def test_a_cut_file_is_damaged(tmp_path: Path, ending: str) -> None:
    skip_without(ending)
    write_image(Image(PIXELS, metadata=META), tmp_path / f"a.{ending}")
    data = (tmp_path / f"a.{ending}").read_bytes()
    for share in (0.05, 0.3, 0.6, 0.9):
        (tmp_path / f"a.{ending}").write_bytes(data[: max(30, int(len(data) * share))])
        with pytest.raises(DamagedImageError):
            read_image(tmp_path / f"a.{ending}")


def test_an_avif_animation_is_refused(tmp_path: Path) -> None:
    skip_without("avif")
    stream = io.BytesIO()
    frames: list[Any] = [PILImage.fromarray(PIXELS), PILImage.fromarray(PIXELS[::-1].copy())]
    frames[0].save(stream, "AVIF", save_all=True, append_images=frames[1:])
    (tmp_path / "a.avif").write_bytes(stream.getvalue())
    with pytest.raises(ImageError, match="AVIF animation"):
        read_image(tmp_path / "a.avif", frames=True)


def test_further_images_of_a_heic_are_named(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason='pip install "edgedenoise[heic]"')
    file = pillow_heif.from_pillow(PILImage.fromarray(PIXELS))
    file.add_from_pillow(PILImage.fromarray(PIXELS[::-1].copy()))
    file.save(tmp_path / "a.heic")
    image = read_image(tmp_path / "a.heic")
    assert image.metadata.notes == ("1 further images in it are not kept",)
