"""Calibration: crops can be drawn again, ranges are those of the kept pixels, and a changed image is noticed.

Nothing counts twice, images may be listed, crops may be chosen by what they look like, and a recorded set can be
measured again.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import onnxruntime
import pytest
from graphs import branched_graph, shuffling_graph
from measuring import measure_ranges
from typer.testing import CliRunner

import edgedenoise
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.writer import BundleWriter
from edgedenoise.calibration.calibrate import RANGES_FILE, SET_FILE, calibration_report, recorded_set, stored_ranges
from edgedenoise.calibration.calibrators import calibrator_named
from edgedenoise.calibration.crops import CalibrationCrop
from edgedenoise.calibration.histograms import Range
from edgedenoise.calibration.sets import CalibrationSet
from edgedenoise.calibration.strata import Measures, choose_evenly, measure
from edgedenoise.cli import app
from edgedenoise.errors import BundleError, CalibrationError, DatasetError, UsageError
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.image import Image
from edgedenoise.imaging.normalize import UNIT, WHOLE_IMAGE, Normalization
from edgedenoise.imaging.tiling import Tiling
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_the_same_seed_draws_the_same_crops(noisy_folder: Path) -> None:
    first = CalibrationSet.from_folder(noisy_folder, 10, seed=3, crop_px=64)
    assert first == CalibrationSet.from_folder(noisy_folder, 10, seed=3, crop_px=64)
    assert first != CalibrationSet.from_folder(noisy_folder, 10, seed=4, crop_px=64)


def test_crops_are_spread_evenly_over_the_photographs(noisy_folder: Path) -> None:
    chosen = CalibrationSet.from_folder(noisy_folder, 10, crop_px=64)
    counts = [sum(crop.image == f"{i}.png" for crop in chosen.crops) for i in range(4)]
    assert sorted(counts) == [2, 2, 3, 3]
    assert chosen.images == 4


def test_a_crop_comes_with_its_halo_and_the_whole_photographs_statistics(noisy_folder: Path) -> None:
    chosen = CalibrationSet.from_folder(noisy_folder, 4, crop_px=64)
    whole = CalibrationSet.from_folder(noisy_folder, 4, crop_px=4096)
    tiling = Tiling(halo_px=5)
    shapes = {x.shape for x, _ in chosen.inputs(noisy_folder, WHOLE_IMAGE, tiling)}
    assert shapes == {(1, 3, 74, 74)}
    for x, _ in whole.inputs(noisy_folder, WHOLE_IMAGE, tiling):
        inner = x[..., 5:-5, 5:-5]
        assert inner.shape == (1, 3, 160, 192)
        np.testing.assert_allclose(inner.mean(axis=(2, 3)), 0, atol=1e-4)
        np.testing.assert_allclose(inner.std(axis=(2, 3)), 1, atol=1e-3)


def test_crops_lie_on_the_grid_of_networks_that_shuffle_pixels(noisy_folder: Path) -> None:
    chosen = CalibrationSet.from_folder(noisy_folder, 12, crop_px=63)
    shapes = {x.shape[2:] for x, _ in chosen.inputs(noisy_folder, UNIT, Tiling(halo_px=6, multiple_of=4))}
    assert shapes == {(64 + 16, 64 + 16)}  # halo 6 becomes a margin of 8


def test_a_ladder_of_noise_is_added_to_clean_photographs(noisy_folder: Path) -> None:
    plain = CalibrationSet.from_folder(noisy_folder, 9, seed=2, crop_px=64)
    noisy = CalibrationSet.from_folder(noisy_folder, 9, seed=2, crop_px=64, noise_levels=(0.0, 1.0))
    assert [crop.noise_level for crop in noisy.crops] == [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0]
    assert [(crop.image, crop.y, crop.x) for crop in noisy.crops] == [(c.image, c.y, c.x) for c in plain.crops]
    crops = [[x for x, _ in one.inputs(noisy_folder, UNIT, Tiling(halo_px=4))] for one in (plain, noisy, noisy)]
    assert all(np.array_equal(a, b) for a, b in zip(crops[1], crops[2], strict=True)), "the same noise every time"
    errors = [float(np.abs(a - b).mean()) for a, b in zip(crops[0], crops[1], strict=True)]
    assert 0 < max(errors[::2]) < min(errors[1::2]), "the highest ISO is noisier than the lowest"


def test_a_noise_level_out_of_range_is_refused(noisy_folder: Path) -> None:
    with pytest.raises(UsageError, match=r"noise levels are out of range; expected 0 to 1\.25, got 0\.5, 1\.5"):
        CalibrationSet.from_folder(noisy_folder, noise_levels=(0.5, 1.5))


def test_noise_is_not_added_for_a_network_that_would_have_to_be_told_its_statistics(
    branched_bundle: Bundle, noisy_folder: Path
) -> None:
    with pytest.raises(UsageError, match="normalizes by the whole noisy image"):
        edgedenoise.calibrate(branched_bundle.root, noisy_folder, count=2, noise_levels=(0.5,))


def test_a_bundle_that_cannot_be_changed_is_refused_before_anything_is_measured(noisy_folder: Path) -> None:
    told: list[str] = []
    with pytest.raises(BundleError, match="part of the installed package"):
        edgedenoise.calibrate("edge", noisy_folder, progress=lambda stage, *_: told.append(stage))
    assert told == []


def test_a_changed_photograph_is_noticed(noisy_folder: Path) -> None:
    chosen = CalibrationSet.from_folder(noisy_folder, 8)
    shutil.copy(noisy_folder / "0.png", noisy_folder / "1.png")
    with pytest.raises(CalibrationError, match=r"1\.png is not the image"):
        list(chosen.inputs(noisy_folder, UNIT, Tiling(halo_px=4)))


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
    ranges = measure_ranges(model, [framed], margin_px=8).tensors
    assert ranges["image"] == Range(float(x[..., 8:-8, 8:-8].min()), float(x[..., 8:-8, 8:-8].max()))
    full = measure_ranges(model, [framed], margin_px=0).tensors
    assert full["image"].high == 90
    session = onnxruntime.InferenceSession(model.SerializeToString())
    answer = session.run(None, {"image": framed})[0][..., 8:-8, 8:-8]
    assert ranges["denoised"].low == pytest.approx(answer.min(), rel=1e-5)
    assert ranges["denoised"].high == pytest.approx(answer.max(), rel=1e-5)


def test_ranges_grow_with_every_crop_and_name_every_tensor() -> None:
    model = branched_graph()
    rng = np.random.default_rng(0)
    crops = [rng.standard_normal((1, 3, 32, 32), np.float32) * scale for scale in (1, 3)]
    one = measure_ranges(model, crops[:1], margin_px=4).tensors
    two = measure_ranges(model, crops, margin_px=4).tensors
    assert set(two) == {"image", *(name for node in model.graph.node for name in node.output)}
    assert all(two[name].low <= one[name].low and two[name].high >= one[name].high for name in one)


def test_a_network_that_gives_nan_cannot_be_calibrated() -> None:
    with pytest.raises(CalibrationError, match="image is not finite"):
        measure_ranges(branched_graph(), [np.full((1, 3, 32, 32), np.nan, np.float32)], margin_px=4)


def test_ranges_and_crop_list_are_stored_without_the_photographs(branched_bundle: Bundle, noisy_folder: Path) -> None:
    bundle = edgedenoise.calibrate(branched_bundle.root, noisy_folder, count=6, seed=1, crop_px=64)
    assert stored_ranges(bundle).crops == 6
    stored = msgspec.json.decode(bundle.file(SET_FILE).read_bytes(), type=CalibrationSet)
    assert stored == CalibrationSet.from_folder(noisy_folder, 6, 1, 64)
    assert bundle.manifest.calibration is not None
    assert bundle.manifest.calibration.images == 4
    assert not [name for name in bundle.manifest.files if name.endswith((".png", ".jpg"))]


def test_the_limit_of_the_normalization_is_the_range_of_the_input(
    make_bundle: Callable[..., Bundle], noisy_folder: Path
) -> None:
    """Unseen images may reach the limit on either side, although no calibration crop does."""
    made = make_bundle(branched_graph(), normalization=Normalization("whole-image-bounded", 4.0))
    bundle = edgedenoise.calibrate(made.root, noisy_folder, count=4, crop_px=64)
    assert stored_ranges(bundle).tensors["image"] == Range(-4, 4)
    assert stored_ranges(bundle, calibrator_named("mse")).tensors["image"] == Range(-4, 4)


def test_ranges_of_another_graph_are_refused(branched_bundle: Bundle, noisy_folder: Path) -> None:
    bundle = edgedenoise.calibrate(branched_bundle.root, noisy_folder, count=2, crop_px=64)
    ranges = stored_ranges(bundle)
    with BundleWriter.edit(bundle) as draft:
        other = msgspec.structs.replace(ranges, graph_sha256="0" * 64)
        draft.write(RANGES_FILE, msgspec.json.encode(other))
    with pytest.raises(CalibrationError, match="another graph"):
        stored_ranges(Bundle.open(bundle.root))


def test_an_uncalibrated_bundle_says_what_to_do(branched_bundle: Bundle) -> None:
    with pytest.raises(CalibrationError, match="edgedenoise calibrate"):
        stored_ranges(branched_bundle)


# ---------------------------------------------------------------- lists


def test_a_list_names_photographs_in_any_folder(noisy_folder: Path) -> None:
    other = noisy_folder / "more"
    other.mkdir()
    (noisy_folder / "3.png").rename(other / "0.png")  # the name that another one has, too
    listed = noisy_folder / "list.txt"
    listed.write_text("\ufeff# the good ones\n0.png\n\nmore/0.png\n", encoding="utf-8")
    chosen = CalibrationSet.from_folder(listed, 6, crop_px=64)
    assert chosen.images == 2
    assert {crop.image for crop in chosen.crops} == {"0.png"}, "no folder is recorded: it may tell who someone is"
    inputs = [x for x, _ in chosen.inputs(listed, UNIT, Tiling(halo_px=0))]
    pictures = [read_image(path).unit().transpose(2, 0, 1) for path in (noisy_folder / "0.png", other / "0.png")]
    for crop, x in zip(chosen.crops, inputs, strict=True):
        part = (slice(None), slice(crop.y, crop.y + 64), slice(crop.x, crop.x + 64))
        assert any(np.array_equal(x[0], picture[part]) for picture in pictures)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"0.png\nlost.png\n", r"line 2 of .*list\.txt names 'lost\.png', and there is no file"),
        (b"# nothing\n", r"list\.txt holds no images to calibrate on; accepted: a folder of images, or a"),
        (b"\xff\xfe\x00", r"cannot be read as a list of images"),
    ],
)
def test_a_list_that_cannot_be_used_says_why(noisy_folder: Path, content: bytes, said: str) -> None:
    listed = noisy_folder / "list.txt"
    listed.write_bytes(content)
    with pytest.raises(CalibrationError, match=said):
        CalibrationSet.from_folder(listed)


def test_a_picture_is_no_list(noisy_folder: Path) -> None:
    with pytest.raises(CalibrationError, match=r"0\.png is one image; accepted: a folder .*, or a text file"):
        CalibrationSet.from_folder(noisy_folder / "0.png")


# ---------------------------------------------------------------- nothing twice


def test_the_same_photograph_counts_once_whatever_its_name_or_container(noisy_folder: Path) -> None:
    shutil.copy(noisy_folder / "0.png", noisy_folder / "copy.png")
    write_image(Image(read_image(noisy_folder / "1.png").pixels), noisy_folder / "other.tif")
    chosen = CalibrationSet.from_folder(noisy_folder, 12, crop_px=64)
    assert chosen.images == 4
    assert len(chosen.crops) == 12, "the others give more instead"
    found = {frozenset((one.image, one.same_as)): one.by for one in chosen.duplicates}
    assert found == {frozenset(("0.png", "copy.png")): "file", frozenset(("1.png", "other.tif")): "pixels"}
    assert not {one.image for one in chosen.duplicates} & {crop.image for crop in chosen.crops}


def test_no_two_crops_lie_exactly_upon_each_other(noisy_folder: Path) -> None:
    chosen = CalibrationSet.from_folder(noisy_folder, 40, crop_px=158)  # 3 x 35 places in each image
    assert len({(crop.image, crop.y, crop.x) for crop in chosen.crops}) == 40
    whole = CalibrationSet.from_folder(noisy_folder, 40, crop_px=4096)
    assert (len(whole.crops), whole.overlapping) == (4, 36), "an image that is taken whole is taken once"
    ladder = CalibrationSet.from_folder(noisy_folder, 40, crop_px=4096, noise_levels=(0.2, 0.8))
    assert (len(ladder.crops), ladder.overlapping) == (8, 32), "and once with every noise level"


# ---------------------------------------------------------------- strata


@pytest.fixture
def mixed_folder(tmp_path: Path) -> Path:
    """Nine images alike, bright and smooth and quiet, and one that is dark and noisy."""
    folder = tmp_path / "mixed"
    ramp = np.linspace(150, 200, 128)[:, None, None] * np.ones((128, 128, 3))
    for seed in range(10):
        rng = np.random.default_rng(seed)
        clean, sigma = (ramp, 2) if seed else (ramp / 4, 20)
        noisy = clean + rng.normal(0, sigma, clean.shape)
        write_image(Image(np.clip(np.rint(noisy), 0, 255).astype(np.uint8)), folder / f"{seed}.png")
    return folder


def test_a_crop_is_measured_in_8_bit_levels() -> None:
    rng = np.random.default_rng(0)
    flat = np.full((3, 96, 96), 100 / 255)
    squares = flat + 50 / 255 * ((np.indices((96, 96)) // 8).sum(axis=0) % 2)
    quiet, noisy, small = (flat + rng.normal(0, level / 255, flat.shape) for level in (2, 12, 2))
    assert measure(quiet.astype(np.float32)).noise == pytest.approx(2, rel=0.15)
    assert measure(noisy.astype(np.float32)).noise == pytest.approx(12, rel=0.15)
    assert measure(quiet.astype(np.float32)).brightness == pytest.approx(100, abs=0.5)
    textures = [measure(x.astype(np.float32)).texture for x in (quiet, noisy, squares)]
    assert textures[0] < textures[1] < 2, "noise hardly counts as texture"
    assert textures[2] == pytest.approx(50, rel=0.01)
    assert np.isfinite(measure(small[:, :5, :1].astype(np.float32)).noise), "a crop may be as small as it likes"


def test_every_kind_of_crop_is_chosen_as_often_as_it_can_be() -> None:
    rng = np.random.default_rng(0)
    common = [Measures(float(noise), 100.0, 10.0) for noise in rng.uniform(1, 1.5, 90)]
    rare = [Measures(20.0, 100.0, 10.0)] * 6
    bright = [Measures(1.0, 250.0, 10.0)] * 4
    chosen = choose_evenly(common + rare + bright, 30, seed=0)
    assert chosen == sorted(set(chosen))
    assert sum(i < 90 for i in chosen) == 20
    assert sum(i >= 90 for i in chosen) == 10, "all that there are of the rare kinds"
    assert choose_evenly(common, 1000, seed=0) == list(range(90))
    assert choose_evenly(common, 30, seed=0) == choose_evenly(common, 30, seed=0) != choose_evenly(common, 30, seed=1)


def test_stratified_crops_hold_more_of_what_is_rare(mixed_folder: Path) -> None:
    plain = CalibrationSet.from_folder(mixed_folder, 10, seed=1, crop_px=48)
    told: list[str] = []
    chosen = CalibrationSet.from_folder(
        mixed_folder, 10, seed=1, crop_px=48, stratify="noise", progress=lambda stage, *_: told.append(stage)
    )
    shares = [sum(crop.image == "0.png" for crop in one.crops) / 10 for one in (plain, chosen)]
    assert shares[0] == 0.1
    assert shares[1] >= 0.3
    assert (chosen.stratify, chosen.candidates, len(chosen.crops)) == ("noise", 40, 10)
    assert set(told) == {"images"}
    assert chosen == CalibrationSet.from_folder(mixed_folder, 10, seed=1, crop_px=48, stratify="noise")
    for crop in chosen.crops:
        assert crop.measured is not None
        assert (crop.measured.noise > 8) == (crop.image == "0.png")


def test_a_chosen_crop_keeps_the_noise_that_it_was_measured_with(mixed_folder: Path) -> None:
    chosen = CalibrationSet.from_folder(
        mixed_folder, 6, seed=1, crop_px=48, noise_levels=(0.0, 0.5, 1.0), stratify="noise"
    )
    again = msgspec.json.decode(msgspec.json.encode(chosen), type=CalibrationSet)
    assert again == chosen
    for crop, (x, _) in zip(again.crops, again.inputs(mixed_folder, UNIT, Tiling(halo_px=0)), strict=True):
        assert measure(x[0]) == crop.measured


def test_an_unknown_way_to_stratify_is_told_what_is_accepted(noisy_folder: Path) -> None:
    with pytest.raises(UsageError, match="stratified by 'colour'; expected one of none, noise"):
        CalibrationSet.from_folder(noisy_folder, stratify="colour")  # type: ignore[arg-type]


# ---------------------------------------------------------------- a recorded set, again


def test_a_recorded_set_is_measured_again_even_under_other_names(branched_bundle: Bundle, noisy_folder: Path) -> None:
    first = edgedenoise.calibrate(branched_bundle.root, noisy_folder, count=6, seed=5, crop_px=64, stratify="noise")
    chosen, ranges = recorded_set(first), stored_ranges(first)
    (noisy_folder / "0.png").rename(noisy_folder / "renamed.png")
    again = edgedenoise.calibrate(branched_bundle.root, noisy_folder, set_of=branched_bundle.root)
    assert recorded_set(again) == chosen
    assert stored_ranges(again) == ranges
    assert again.manifest.calibration == first.manifest.calibration


def test_lost_and_changed_photographs_of_a_recorded_set_are_named_before_anything_is_measured(
    branched_bundle: Bundle, noisy_folder: Path
) -> None:
    edgedenoise.calibrate(branched_bundle.root, noisy_folder, count=6, crop_px=64)
    (noisy_folder / "0.png").unlink()
    shutil.copy(noisy_folder / "2.png", noisy_folder / "1.png")
    told: list[str] = []
    with pytest.raises(CalibrationError, match="2 of its 4 images are missing or changed: ") as caught:
        edgedenoise.calibrate(
            branched_bundle.root,
            noisy_folder,
            set_of=branched_bundle.root,
            progress=lambda stage, *_: told.append(stage),
        )
    assert "0.png" in str(caught.value)
    assert "1.png" in str(caught.value)
    assert "calibrate the bundle again" in str(caught.value)
    assert set(told) == {"images"}


def test_the_command_that_calibrates_quotes_a_name_with_spaces(branched_bundle: Bundle) -> None:
    spaced = branched_bundle.root.rename(branched_bundle.root.with_name("my bundle.edge"))
    with pytest.raises(CalibrationError, match="has not been calibrated") as caught:
        stored_ranges(Bundle.open(spaced))
    assert caught.value.hint == f"Measure its ranges first: {command_line('calibrate', spaced, '--data', 'noisy')}"


def test_a_recorded_set_has_its_own_options(branched_bundle: Bundle, noisy_folder: Path) -> None:
    with pytest.raises(CalibrationError, match=r"has not been calibrated: it has no calibration/set\.json"):
        edgedenoise.calibrate(branched_bundle.root, noisy_folder, set_of=branched_bundle.root)
    with pytest.raises(UsageError, match="options of a new set were given beside the set"):
        edgedenoise.calibrate(branched_bundle.root, noisy_folder, set_of=branched_bundle.root, count=7)


def test_a_set_with_added_noise_is_not_measured_on_a_network_that_normalises_by_the_photograph(
    branched_bundle: Bundle, noisy_folder: Path
) -> None:
    ladder = CalibrationSet.from_folder(noisy_folder, 2, crop_px=64, noise_levels=(0.5,))
    with BundleWriter.edit(branched_bundle) as draft:
        draft.write(SET_FILE, msgspec.json.encode(ladder))
    with pytest.raises(UsageError, match="normalizes by the whole noisy image"):
        edgedenoise.calibrate(branched_bundle.root, noisy_folder, set_of=branched_bundle.root)


def test_sets_of_older_bundles_are_read() -> None:
    old = b'{"seed":1,"crop_px":64,"crops":[{"photo":"a.png","sha256":"00","y":1,"x":2,"noise_level":null}]}'
    read = msgspec.json.decode(old, type=CalibrationSet)
    assert read == CalibrationSet(1, 64, [CalibrationCrop("a.png", "00", 1, 2)])


# ---------------------------------------------------------------- the command


def test_the_verb_tells_what_was_dropped_and_scripts_get_all_of_it(branched_bundle: Bundle, noisy_folder: Path) -> None:
    shutil.copy(noisy_folder / "0.png", noisy_folder / "copy.png")
    given = ["calibrate", str(branched_bundle.root), "--data", str(noisy_folder), "--count", "5", "--crop", "64"]
    plain = CliRunner().invoke(app, [*given])
    assert plain.exit_code == 0, plain.output
    assert "measured ranges on 5 crops of 4 images\n" in plain.stdout
    assert "the same file as" in plain.stdout
    chosen = CliRunner().invoke(app, [*given, "--stratify", "noise", "--json"])
    assert chosen.exit_code == 0, chosen.output
    report = json.loads(chosen.stdout)
    assert report == json.loads(msgspec.json.encode(calibration_report(Bundle.open(branched_bundle.root))))
    assert (report["crops"], report["stratify"], report["candidates"]) == (5, "noise", 20)
    assert [one["by"] for one in report["duplicates"]] == ["file"]
    again = CliRunner().invoke(app, [*given[:4], "--set-of", str(branched_bundle.root), "--json"])
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout) == report
