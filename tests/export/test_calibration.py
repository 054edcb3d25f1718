"""Calibration: crops can be drawn again, ranges are those of the kept pixels, and a changed photograph is noticed."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import onnxruntime
import pytest
from graphs import branched_graph, shuffling_graph

from edgedenoise.bundle import Bundle
from edgedenoise.calibration.calibrate import RANGES_FILE, SET_FILE, calibrate_model, stored_ranges
from edgedenoise.calibration.histograms import Range
from edgedenoise.calibration.ranges import measure_ranges
from edgedenoise.calibration.sets import CalibrationSet
from edgedenoise.errors import BundleError, CalibrationError, DatasetError, UsageError
from edgedenoise.tiling import Tiling

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_the_same_seed_draws_the_same_crops(noisy_folder: Path) -> None:
    first = CalibrationSet.from_folder(noisy_folder, 10, seed=3, crop_px=64)
    assert first == CalibrationSet.from_folder(noisy_folder, 10, seed=3, crop_px=64)
    assert first != CalibrationSet.from_folder(noisy_folder, 10, seed=4, crop_px=64)


def test_crops_are_spread_evenly_over_the_photographs(noisy_folder: Path) -> None:
    chosen = CalibrationSet.from_folder(noisy_folder, 10, crop_px=64)
    counts = [sum(crop.photo == f"{i}.png" for crop in chosen.crops) for i in range(4)]
    assert sorted(counts) == [2, 2, 3, 3]
    assert chosen.photographs == 4


def test_a_crop_comes_with_its_halo_and_the_whole_photographs_statistics(noisy_folder: Path) -> None:
    chosen = CalibrationSet.from_folder(noisy_folder, 4, crop_px=64)
    whole = CalibrationSet.from_folder(noisy_folder, 4, crop_px=4096)
    tiling = Tiling(halo_px=5)
    shapes = {x.shape for x, _ in chosen.inputs(noisy_folder, "whole-image", tiling)}
    assert shapes == {(1, 3, 74, 74)}
    for x, _ in whole.inputs(noisy_folder, "whole-image", tiling):
        inner = x[..., 5:-5, 5:-5]
        assert inner.shape == (1, 3, 160, 192)
        np.testing.assert_allclose(inner.mean(axis=(2, 3)), 0, atol=1e-4)
        np.testing.assert_allclose(inner.std(axis=(2, 3)), 1, atol=1e-3)


def test_crops_lie_on_the_grid_of_networks_that_shuffle_pixels(noisy_folder: Path) -> None:
    chosen = CalibrationSet.from_folder(noisy_folder, 12, crop_px=63)
    shapes = {x.shape[2:] for x, _ in chosen.inputs(noisy_folder, "unit", Tiling(halo_px=6, multiple_of=4))}
    assert shapes == {(64 + 16, 64 + 16)}  # halo 6 becomes a margin of 8


def test_a_ladder_of_noise_is_added_to_clean_photographs(noisy_folder: Path) -> None:
    plain = CalibrationSet.from_folder(noisy_folder, 9, seed=2, crop_px=64)
    noisy = CalibrationSet.from_folder(noisy_folder, 9, seed=2, crop_px=64, noise_levels=(0.0, 1.0))
    assert [crop.noise_level for crop in noisy.crops] == [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0]
    assert [(crop.photo, crop.y, crop.x) for crop in noisy.crops] == [(c.photo, c.y, c.x) for c in plain.crops]
    crops = [[x for x, _ in one.inputs(noisy_folder, "unit", Tiling(halo_px=4))] for one in (plain, noisy, noisy)]
    assert all(np.array_equal(a, b) for a, b in zip(crops[1], crops[2], strict=True)), "the same noise every time"
    errors = [float(np.abs(a - b).mean()) for a, b in zip(crops[0], crops[1], strict=True)]
    assert 0 < max(errors[::2]) < min(errors[1::2]), "the highest ISO is noisier than the lowest"


def test_a_noise_level_out_of_range_is_refused(noisy_folder: Path) -> None:
    with pytest.raises(UsageError, match=r"noise levels 0\.5, 1\.5 were received; accepted: each 0 to 1"):
        CalibrationSet.from_folder(noisy_folder, noise_levels=(0.5, 1.5))


def test_noise_is_not_added_for_a_network_that_would_have_to_be_told_its_statistics(
    branched_bundle: Bundle, noisy_folder: Path
) -> None:
    with pytest.raises(UsageError, match="normalises by the whole noisy photograph"):
        calibrate_model(branched_bundle.root, noisy_folder, count=2, noise_levels=(0.5,))


def test_a_bundle_that_cannot_be_changed_is_refused_before_anything_is_measured(noisy_folder: Path) -> None:
    told: list[str] = []
    with pytest.raises(BundleError, match="part of the installed package"):
        calibrate_model("edge", noisy_folder, progress=lambda stage, *_: told.append(stage))
    assert told == []


def test_a_changed_photograph_is_noticed(noisy_folder: Path) -> None:
    chosen = CalibrationSet.from_folder(noisy_folder, 8)
    shutil.copy(noisy_folder / "0.png", noisy_folder / "1.png")
    with pytest.raises(CalibrationError, match=r"1\.png is not the photograph"):
        list(chosen.inputs(noisy_folder, "unit", Tiling(halo_px=4)))


def test_an_empty_folder_and_a_senseless_count_are_refused(tmp_path: Path, noisy_folder: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises((CalibrationError, DatasetError), match="empty"):
        CalibrationSet.from_folder(tmp_path / "empty")
    with pytest.raises(UsageError, match="count >= 1"):
        CalibrationSet.from_folder(noisy_folder, 0)


@pytest.mark.parametrize("graph", [branched_graph, shuffling_graph])
def test_ranges_are_those_of_the_pixels_that_are_kept(graph: Callable[[], object]) -> None:
    """Zero padding at the border of a crop makes values that never reach a kept pixel; they must not widen ranges."""
    model = graph()
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 3, 48, 56), np.float32)
    framed = x.copy()
    framed[..., :8, :], framed[..., -8:, :], framed[..., :8], framed[..., -8:] = 90, 90, 90, 90
    ranges = measure_ranges(model, [framed], margin_px=8, total=1, graph_sha256="").tensors
    assert ranges["image"] == Range(float(x[..., 8:-8, 8:-8].min()), float(x[..., 8:-8, 8:-8].max()))
    full = measure_ranges(model, [framed], margin_px=0, total=1, graph_sha256="").tensors
    assert full["image"].high == 90
    session = onnxruntime.InferenceSession(model.SerializeToString())
    answer = session.run(None, {"image": framed})[0][..., 8:-8, 8:-8]
    assert ranges["denoised"].low == pytest.approx(answer.min(), rel=1e-5)
    assert ranges["denoised"].high == pytest.approx(answer.max(), rel=1e-5)


def test_ranges_grow_with_every_crop_and_name_every_tensor() -> None:
    model = branched_graph()
    rng = np.random.default_rng(0)
    crops = [rng.standard_normal((1, 3, 32, 32), np.float32) * scale for scale in (1, 3)]
    one = measure_ranges(model, crops[:1], margin_px=4, total=1, graph_sha256="").tensors
    two = measure_ranges(model, crops, margin_px=4, total=2, graph_sha256="").tensors
    assert set(two) == {"image", *(name for node in model.graph.node for name in node.output)}
    assert all(two[name].low <= one[name].low and two[name].high >= one[name].high for name in one)


def test_a_network_that_gives_nan_cannot_be_calibrated() -> None:
    with pytest.raises(CalibrationError, match="image is not finite"):
        measure_ranges(
            branched_graph(), [np.full((1, 3, 32, 32), np.nan, np.float32)], margin_px=4, total=1, graph_sha256=""
        )


def test_ranges_and_crop_list_are_stored_without_the_photographs(branched_bundle: Bundle, noisy_folder: Path) -> None:
    bundle = calibrate_model(branched_bundle.root, noisy_folder, count=6, seed=1, crop_px=64)
    assert stored_ranges(bundle).crops == 6
    stored = msgspec.json.decode(bundle.file(SET_FILE).read_bytes(), type=CalibrationSet)
    assert stored == CalibrationSet.from_folder(noisy_folder, 6, 1, 64)
    assert bundle.manifest.calibration is not None
    assert bundle.manifest.calibration.photographs == 4
    assert not [name for name in bundle.manifest.files if name.endswith((".png", ".jpg"))]


def test_ranges_of_another_graph_are_refused(branched_bundle: Bundle, noisy_folder: Path) -> None:
    bundle = calibrate_model(branched_bundle.root, noisy_folder, count=2, crop_px=64)
    ranges = stored_ranges(bundle)
    with bundle.edit() as draft:
        other = msgspec.structs.replace(ranges, graph_sha256="0" * 64)
        draft.write(RANGES_FILE, msgspec.json.encode(other))
    with pytest.raises(CalibrationError, match="another graph"):
        stored_ranges(Bundle.open(bundle.root))


def test_an_uncalibrated_bundle_says_what_to_do(branched_bundle: Bundle) -> None:
    with pytest.raises(CalibrationError, match="edgedenoise calibrate"):
        stored_ranges(branched_bundle)
