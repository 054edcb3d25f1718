"""Held-out crops share no pixel with those of calibration, and each image of a set is decoded once."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from edgedenoise.calibration import drawing, sets
from edgedenoise.calibration.drawing import SetOptions
from edgedenoise.calibration.sets import HELD_OUT_EVERY, CalibrationSet, draw_held_out, draw_set
from edgedenoise.errors import CalibrationError
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.image import Image
from edgedenoise.imaging.normalize import UNIT, WHOLE_IMAGE
from edgedenoise.imaging.tiling import Tiling

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TILING = Tiling(halo_px=4)


def images(folder: Path, count: int, side_px: int) -> Path:
    """Write images of random pixels."""
    rng = np.random.default_rng(count)
    for number in range(count):
        pixels = rng.integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)
        write_image(Image(pixels), folder / f"{number}.png")
    return folder


def shared_px(one: CalibrationSet, other: CalibrationSet, side_px: int) -> int:
    """Count the pixels that two sets have in common."""
    masks = [{crop.pixels_sha256: np.zeros((side_px, side_px), bool) for crop in each.crops} for each in (one, other)]
    for mask, each in zip(masks, (one, other), strict=True):
        for crop in each.crops:
            mask[crop.pixels_sha256][crop.y : crop.y + each.crop_px, crop.x : crop.x + each.crop_px] = True
    return sum(int((masks[0][name] & masks[1][name]).sum()) for name in masks[0].keys() & masks[1].keys())


@pytest.mark.parametrize(("count", "side_px"), [(8, 128), (24, 192)])
def test_whole_images_are_held_out_where_there_are_enough(tmp_path: Path, count: int, side_px: int) -> None:
    folder = images(tmp_path, count, side_px)
    calibration = draw_set(folder, SetOptions(), hold_out=True).crops
    assert calibration.images == count - count // HELD_OUT_EVERY
    held_out = draw_held_out(calibration, folder, SetOptions(8, seed=1), UNIT, TILING).crops
    assert not {crop.sha256 for crop in held_out.crops} & {crop.sha256 for crop in calibration.crops}
    assert held_out.images == count // HELD_OUT_EVERY


def test_copies_in_another_format_are_not_held_out(tmp_path: Path) -> None:
    folder = images(tmp_path, 8, 96)
    for number in range(8):
        write_image(read_image(folder / f"{number}.png"), folder / f"copy-{number}.bmp")
    calibration = draw_set(folder, SetOptions(48, crop_px=24), hold_out=True).crops
    held_out = draw_held_out(calibration, folder, SetOptions(12, seed=1, crop_px=24), UNIT, TILING).crops
    assert len(held_out.crops) == 12
    assert shared_px(calibration, held_out, 96) == 0


@pytest.mark.parametrize("multiple_of", [1, 4])
def test_of_a_few_images_the_parts_that_calibration_did_not_see_are_taken(tmp_path: Path, multiple_of: int) -> None:
    folder = images(tmp_path, 3, 200)
    calibration = draw_set(folder, SetOptions(4, crop_px=62), hold_out=True).crops
    assert calibration.images == 3
    tiling = Tiling(halo_px=4, multiple_of=multiple_of)
    drawn = draw_held_out(calibration, folder, SetOptions(12, seed=1, crop_px=124), UNIT, tiling)
    assert len(drawn.crops.crops) == 12
    assert shared_px(calibration, drawn.crops, 200) == 0


def test_images_of_another_folder_are_used_whatever_their_names(tmp_path: Path) -> None:
    ours, other = images(tmp_path / "ours", 4, 128), images(tmp_path / "other", 5, 128)
    calibration = draw_set(ours, SetOptions()).crops
    assert draw_held_out(calibration, other, SetOptions(10), UNIT, TILING).crops.images == 5


def test_nothing_left_is_an_error_and_too_little_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = images(tmp_path / "small", 2, 128)
    everything = draw_set(folder, SetOptions(2)).crops
    with pytest.raises(CalibrationError, match="calibration has seen every part of the images"):
        draw_held_out(everything, folder, SetOptions(8), UNIT, TILING)
    (image,) = everything.crops[:1]
    corner = CalibrationSet(0, 48, [msgspec.structs.replace(image, y=0, x=0)])
    (folder / ("1.png" if image.image == "0.png" else "0.png")).unlink()
    with caplog.at_level(logging.WARNING):
        found = draw_held_out(corner, folder, SetOptions(500, crop_px=156), UNIT, TILING).crops
    assert 0 < len(found.crops) < 500
    assert f"only {len(found.crops)} of 500 held-out crops" in caplog.text


# ---------------------------------------------------------------- one decode per image and set


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each image is decoded."""
    counts: Counter[str] = Counter()

    def counted(path: Path) -> Image:
        counts[path.name] += 1
        return read_image(path)

    for module in (drawing, sets):
        monkeypatch.setattr(module, "read_image", counted)
    return counts


@pytest.mark.parametrize(
    "options",
    [SetOptions(9, crop_px=48), SetOptions(9, crop_px=48, stratify="noise"), SetOptions(9, noise_levels=(0.2, 0.9))],
    ids=["plain", "stratified", "noise added"],
)
def test_each_image_is_decoded_once_and_measured_as_the_recorded_set_is(
    tmp_path: Path, decoded: Counter[str], options: SetOptions
) -> None:
    folder = images(tmp_path, 4, 96)
    drawn = draw_set(folder, options, UNIT, TILING)
    first = list(drawn.inputs())
    clean = list(drawn.clean())
    assert set(decoded.values()) == {1}
    assert len(decoded) == 4
    again = list(drawn.crops.inputs(folder, UNIT, TILING))
    assert len(first) == len(again) == len(clean) == len(drawn.crops.crops)
    for (x, _), (y, _), plain in zip(first, again, clean, strict=True):
        np.testing.assert_array_equal(x, y)
        assert np.array_equal(x[0], plain) == (not options.noise_levels)


def test_a_set_that_is_too_large_for_memory_is_decoded_again(
    tmp_path: Path, decoded: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = images(tmp_path, 3, 96)
    kept = _inputs(folder)
    monkeypatch.setattr(drawing, "_WINDOW_BYTES", 10_000)
    decoded.clear()
    for x, y in zip(kept, _inputs(folder), strict=True):
        np.testing.assert_array_equal(x, y)
    assert set(decoded.values()) == {2}


def _inputs(folder: Path) -> Iterator[np.ndarray]:
    return iter([x for x, _ in draw_set(folder, SetOptions(6, crop_px=32), WHOLE_IMAGE, TILING).inputs()])
