"""Runs over files of many kinds: each becomes a file of its kind, and raw files become TIFF."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from image_files import random_array
from PIL import Image as PILImage
from tiff_files import mosaic

from edgedenoise.batch.run import denoise_files
from edgedenoise.errors import ImageError, UsageError
from edgedenoise.imaging.files import read_image

if TYPE_CHECKING:
    from pathlib import Path

FULL = random_array((40, 50, 3))


def test_pages_and_frames_of_files_are_denoised(tmp_path: Path, committed_bundle: Path) -> None:
    frames = [PILImage.fromarray(random_array((40, 50, 3), seed=seed)) for seed in range(3)]
    folder = tmp_path / "in"
    folder.mkdir()
    frames[0].save(folder / "a.tif", save_all=True, append_images=frames[1:])
    frames[0].save(folder / "b.png", save_all=True, append_images=frames[1:], duration=[10, 20, 30])
    report = denoise_files([folder], tmp_path / "out", committed_bundle)
    assert report.failures == ()
    for name in ("a.tif", "b.png"):
        with PILImage.open(tmp_path / "out" / name) as seen:
            assert seen.n_frames == 3
        before = read_image(folder / name, frames=True)
        after = read_image(tmp_path / "out" / name, frames=True)
        for old, new in zip(before.following, after.following, strict=True):
            assert not np.array_equal(old.pixels, new.pixels)
            assert old.metadata.timing == new.metadata.timing


def test_a_raw_file_becomes_a_tiff(tmp_path: Path, committed_bundle: Path) -> None:
    tifffile = pytest.importorskip("tifffile", reason='pip install "edgedenoise[io]"')
    pytest.importorskip("rawpy", reason='pip install "edgedenoise[raw]"')
    (tmp_path / "in").mkdir()
    with tifffile.TiffWriter(tmp_path / "in" / "a.NEF") as file:
        made = [(271, 2, 0, "NIKON CORPORATION", True), (272, 2, 0, "NIKON D850", True)]
        file.write(FULL[::4, ::4], photometric="rgb", subfiletype=1, subifds=1, metadata=None, extratags=made)
        bayer = [(33421, 3, 2, (2, 2), True), (33422, 1, 4, b"\x00\x01\x01\x02", True)]
        file.write(mosaic(), photometric=32803, metadata=None, extratags=bayer)
    report = denoise_files([tmp_path / "in"], tmp_path / "out", committed_bundle, raw="linear")
    assert [result.output for result in report.files] == [tmp_path / "out" / "a.tif"]
    image = read_image(tmp_path / "out" / "a.tif")
    assert (image.height, image.width, image.bits) == (64, 96, 16)


def test_an_unknown_curve_is_refused(tmp_path: Path, committed_bundle: Path) -> None:
    PILImage.fromarray(FULL).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match="expected srgb or linear, got 'log'"):
        denoise_files([tmp_path / "a.png"], tmp_path / "b.png", committed_bundle, raw="log")  # type: ignore[arg-type]


def test_cmyk_names_the_option_that_converts_it(tmp_path: Path, committed_bundle: Path) -> None:
    PILImage.new("CMYK", (40, 50)).save(tmp_path / "a.jpg", icc_profile=b"a profile")
    (result,) = denoise_files([tmp_path / "a.jpg"], tmp_path / "b.jpg", committed_bundle).files
    assert isinstance(result.error, ImageError)
    assert "--convert-cmyk" in (result.error.hint or "")
    PILImage.new("CMYK", (40, 50)).save(tmp_path / "a.jpg")
    (result,) = denoise_files([tmp_path / "a.jpg"], tmp_path / "b.jpg", committed_bundle, convert_cmyk=True).files
    assert "without a colour profile" in str(result.error)


def test_the_command_says_what_a_format_cannot_hold(tmp_path: Path, committed_bundle: Path) -> None:
    PILImage.fromarray(FULL).save(tmp_path / "a.jpg", comment=b"a comment")
    command = [sys.executable, "-m", "edgedenoise", "denoise", tmp_path / "a.jpg", "-o", tmp_path / "b.bmp"]
    done = subprocess.run(
        [*command, "-m", committed_bundle, "--json"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert "BMP cannot hold its comments" in done.stderr
    file, summary = map(json.loads, done.stdout.splitlines())
    assert summary["counts"]["denoised"] == 1
    assert file["notes"] == ["BMP cannot hold its comments"]
