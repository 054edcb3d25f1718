"""Large images are denoised by rows, from file to file, to the same pixels; what does not fit is refused."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image as PILImage

import edgedenoise
from edgedenoise.batch import memory
from edgedenoise.batch.memory import MemoryBudget, needed_bytes
from edgedenoise.batch.plan import FileJob
from edgedenoise.denoiser import load
from edgedenoise.errors import DamagedImageError, DeviceMemoryError, UsageError
from edgedenoise.imaging.files import open_rows, read_image, write_image
from edgedenoise.imaging.image import Image
from edgedenoise.imaging.layout import Layout
from edgedenoise.runtimes.machine import used_memory_bytes

if TYPE_CHECKING:
    from pathlib import Path

LARGE = 'pip install "edgedenoise[large]"'


def pixels(height: int = 200, width: int = 150, channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(height)
    ramp = np.linspace(40, 200, height)[:, None, None] * np.ones((1, width, channels))
    return np.clip(ramp + rng.normal(0, 12, (height, width, channels)), 0, 255).astype(np.uint8)


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every test image a large one."""
    pytest.importorskip("pyvips", reason=LARGE)
    monkeypatch.setattr(memory, "BY_ROWS_PIXELS", 1000)


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize("model", ["edge-tiny", "C-BSN"])
@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.jpg"])
def test_by_rows_gives_the_file_that_the_whole_image_gives(
    tmp_path: Path, committed_bundle: Path, model: str, name: str
) -> None:
    bundle = committed_bundle if model == "C-BSN" else model
    path = tmp_path / name
    write_image(Image(pixels()), path)
    os.utime(path, ns=(10**18, 10**18))
    seen: list[tuple[Any, ...]] = []
    report = edgedenoise.denoise_files(
        [path], tmp_path / "out", bundle, tile=64, progress=lambda *step: seen.append(step)
    )
    assert not report.failures
    assert report.files[0].variant == report.variant
    assert report.files[0].seconds.denoise is not None
    assert report.files[0].seconds.read is None, "reading is a part of denoising"
    assert ("tiles", 12, 12) in seen
    with load(bundle, tile=0) as denoiser:
        write_image(denoiser(read_image(path)), tmp_path / f"whole-{name}")
    found, expected = read_image(tmp_path / "out" / name), read_image(tmp_path / f"whole-{name}")
    np.testing.assert_array_equal(found.pixels, expected.pixels)
    assert not np.array_equal(found.pixels, read_image(path).pixels)
    assert (tmp_path / "out" / name).stat().st_mtime_ns == 10**18


@pytest.mark.usefixtures("small_limit")
def test_files_that_are_decoded_whole_and_damaged_ones_are_among_them(tmp_path: Path) -> None:
    array = pixels()
    write_image(Image(array), tmp_path / "a.png")
    write_image(Image(array, array[..., 0] | 1), tmp_path / "b-alpha.png")
    PILImage.fromarray(array).convert("P").save(tmp_path / "c-palette.png")
    write_image(Image(array), tmp_path / "d-cut.tif")
    (tmp_path / "d-cut.tif").write_bytes((tmp_path / "d-cut.tif").read_bytes()[:40000])
    PILImage.fromarray(array).save(tmp_path / "e.bmp")
    report = edgedenoise.denoise_files([tmp_path], tmp_path / "out", "edge-tiny")
    assert [one.source.name for one in report.files if one.error] == ["d-cut.tif"]
    assert isinstance(report.failures[0].error, DamagedImageError)
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["a.png", "b-alpha.png", "c-palette.png", "e.bmp"]


def test_a_large_image_is_read_by_rows_in_python(tmp_path: Path) -> None:
    pytest.importorskip("pyvips", reason=LARGE)
    array = pixels()
    write_image(Image(array), tmp_path / "a.png")
    image = open_rows(tmp_path / "a.png")
    assert image is not None
    with load("edge-tiny", tile=64) as denoiser:
        clean = denoiser.by_rows(image)
        for rows in (33, 200):  # each pass runs the network again
            np.testing.assert_array_equal(np.concatenate(list(clean.pixels.start(rows))), denoiser(array))


# ---------------------------------------------------------------- the budget


def job(tmp_path: Path, megapixels: float, *, alpha: bool = False, name: str = "a.png") -> FileJob:
    side = int((megapixels * 1e6) ** 0.5)
    layout = Layout(side, side, 3, 8, alpha)
    return FileJob(tmp_path / name, tmp_path / "out" / name, "edgedenoise denoise", layout)


def test_rows_are_for_what_is_large_or_does_not_fit(tmp_path: Path) -> None:
    pytest.importorskip("pyvips", reason=LARGE)
    assert not MemoryBudget(None).wants_rows(job(tmp_path, 60))
    assert MemoryBudget(None).wants_rows(job(tmp_path, 70))
    assert not MemoryBudget(None).wants_rows(job(tmp_path, 70, alpha=True))
    assert not MemoryBudget(None).wants_rows(job(tmp_path, 70, name="a.webp"))
    assert MemoryBudget(100_000_000).wants_rows(job(tmp_path, 12))
    assert not MemoryBudget(200_000_000).wants_rows(job(tmp_path, 12))


def test_an_image_takes_its_input_its_output_and_what_pillow_holds() -> None:
    assert needed_bytes(Layout(1000, 1000, 3, 8, False)) == 10_000_000
    assert needed_bytes(Layout(1000, 1000, 3, 16, False)) == 18_000_000


def test_what_does_not_fit_is_refused_with_what_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(Image(pixels(), pixels()[..., 0]), tmp_path / "alpha.png")
    report = edgedenoise.denoise_files([tmp_path / "alpha.png"], tmp_path / "out", "edge-tiny", max_memory=1_000_000)
    error = report.files[0].error
    assert isinstance(error, DeviceMemoryError)
    assert "alpha.png does not fit into the memory that it may take: expected at most 0 MB" in error.message
    if error.hint is not None and "--max-memory" in error.hint:
        assert f"edgedenoise denoise {tmp_path / 'alpha.png'}" in error.hint
    monkeypatch.setitem(sys.modules, "pyvips", None)
    report = edgedenoise.denoise_files([tmp_path / "alpha.png"], tmp_path / "out", "edge-tiny", max_memory=1_000_000)
    assert report.files[0].error is not None
    assert LARGE in str(report.files[0].error.hint)


def test_without_the_extra_large_images_are_denoised_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvips", None)
    monkeypatch.setattr(memory, "BY_ROWS_PIXELS", 1000)
    write_image(Image(pixels()), tmp_path / "a.png")
    assert not edgedenoise.denoise_files([tmp_path / "a.png"], tmp_path / "out", "edge-tiny").failures


def test_tiles_are_chosen_from_what_may_be_taken() -> None:
    array, tiles = pixels(1500, 1500), []
    for more in (40_000_000, 2_000_000_000):
        with load("edge-tiny", max_memory=used_memory_bytes() + 30_000_000 + more) as denoiser:
            denoiser(array)
            tiles.append(denoiser.last_tile)
    assert 0 < (tiles[0] or 0) < (tiles[1] or 0)
    with load("edge-tiny", max_memory=1_000_000) as denoiser, pytest.raises(DeviceMemoryError) as caught:
        denoiser(array)
    assert "expected at most 1000000 bytes for the process" in str(caught.value)
    assert "--max-memory" in str(caught.value.hint)


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "1GB"])
def test_a_limit_that_is_no_number_of_bytes_is_refused(limit: Any) -> None:
    with pytest.raises(UsageError, match=r"max_memory is .*; expected a number of bytes above 0"):
        load("edge-tiny", max_memory=limit)
