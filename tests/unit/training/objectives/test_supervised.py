"""Students learn from clean images: noise is drawn, not stored, and every draw is a function of its number."""

from __future__ import annotations

import csv
import shlex
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from resuming import Stopped, check_same_end, stop

import edgedenoise
from edgedenoise.errors import DatasetError, TrainingError, UsageError
from edgedenoise.imaging.files import Image, from_unit, read_image, write_image
from edgedenoise.imaging.metrics import psnr_unit
from edgedenoise.training.checkpoint import BEST, LAST, load_network, read_checkpoint
from edgedenoise.training.config.config import SupervisedConfig
from edgedenoise.training.networks.families import build_network, network_spec
from edgedenoise.training.objectives.noisy_patches import DEVELOPMENTS, OFFSETS
from edgedenoise.training.objectives.objective import HELD_OUT_CROPS, open_objective
from edgedenoise.training.objectives.supervised import SupervisedObjective, student_losses
from edgedenoise.training.settings import settings

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def scene(seed: int, height: int = 72, width: int = 64) -> NDArray[np.float32]:
    """A clean image with an edge, in [0, 1]."""
    y, x = np.mgrid[:height, :width] / 64
    waves = 0.45 + 0.25 * np.sin(5 * x + seed)[..., None] * np.cos(4 * y + seed)[..., None] * np.array([1, 0.7, -0.6])
    return np.where((x + y > 0.9 + 0.1 * seed)[..., None], waves, 0.8 - waves / 2).astype(np.float32)


@pytest.fixture
def clean(tmp_path) -> Path:
    folder = tmp_path / "clean"
    for seed in range(4):
        write_image(Image(from_unit(scene(seed), np.uint8)), folder / f"{seed}.png")
    return folder


@pytest.fixture
def student(clean, tmp_path) -> SupervisedConfig:
    """A few steps of the smallest student."""
    return SupervisedConfig(
        network="edge-tiny",
        precision="fp32",
        clean=str(clean),
        out=str(tmp_path / "run"),
        steps=6,
        patch=32,
        batch=2,
        held_out=1,
        checkpoint_every=2,
        val_every=3,
        preview_every=3,
        log_every=2,
        device="cpu",
    )


def with_(config: SupervisedConfig, **values: Any) -> SupervisedConfig:
    return config.with_overrides(f"{key}={value}" for key, value in values.items())


def build_network_of(config: SupervisedConfig) -> torch.nn.Module:
    """The student as it begins: the identity."""
    return build_network(network_spec(config.network), seed=config.seed)


def pairs(config: SupervisedConfig, *, step: int = 0, count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy and clean patches of a step."""
    noisy, clean = SupervisedObjective(config).batch(step, range(count))
    return noisy, clean


def psnr_of(noisy: torch.Tensor, clean: torch.Tensor) -> float:
    return psnr_unit(noisy.numpy(), clean.numpy())


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_patches_are_pixels(student):
    noisy, clean = pairs(student, count=12)
    assert noisy.shape == clean.shape == (12, 3, 32, 32)
    assert noisy.dtype == clean.dtype == torch.float32
    for patches in (noisy, clean):
        assert patches.min() >= 0
        assert patches.max() <= 1
    assert ((noisy - clean).abs().amax(dim=(1, 2, 3)) > 0).all(), "every patch has noise"
    assert (255 * noisy - (255 * noisy).round()).abs().max() < 1e-4, "a camera gives whole levels"


def test_a_pair_is_a_function_of_seed_step_and_sample(student):
    objective = SupervisedObjective(student)
    together = objective.batch(3, range(4))
    for samples in ([2], [3, 0], [1, 2, 3]):
        for found, wanted in zip(SupervisedObjective(student).batch(3, samples), together, strict=True):
            assert torch.equal(found, wanted[samples])
    for others in (objective.batch(4, range(4)), SupervisedObjective(with_(student, seed=1)).batch(3, range(4))):
        assert not any(torch.equal(a, b) for a, b in zip(others[0], together[0], strict=True))
    noisy = together[0].unbind()
    assert not any(torch.equal(noisy[i], noisy[j]) for i in range(4) for j in range(i)), "each is another one"


def test_the_noise_of_a_patch_is_another_one_at_every_step(student, tmp_path):
    """One image of one colour, so that steps differ by noise alone."""
    write_image(Image(np.full((48, 48, 3), 120, np.uint8)), tmp_path / "flat" / "0.png")
    config = with_(student, clean=tmp_path / "flat", held_out=0, magnify=1, darken=1, noise_low=0.5)
    (one, clean), (other, same) = pairs(config, step=0), pairs(config, step=1)
    assert torch.equal(clean, same)
    assert (one != other).float().mean() > 0.5


def test_without_noise_patches_are_nearly_clean(student):
    quiet = with_(student, magnify=1, darken=1, noise_low=0, noise_high=0, jpeg_share=0)
    assert psnr_of(*pairs(quiet, count=8)) > 35


def test_higher_levels_are_noisier(student):
    quality = [
        psnr_of(*pairs(with_(student, magnify=1, darken=1, noise_low=level, noise_high=level, jpeg_share=0), count=8))
        for level in (0, 0.5, 1)
    ]
    assert quality[0] > quality[1] + 5 > quality[2] + 10, quality


def test_a_power_below_one_draws_more_strong_noise(student):
    weak, even, strong = (psnr_of(*pairs(with_(student, noise_power=power), count=16)) for power in (10, 1, 0.1))
    assert weak > even > strong


def test_jpeg_is_a_share_of_the_patches(student):
    def changed(share: float) -> float:
        """Part of the patches that are other ones than without JPEG."""
        with_jpeg, without = (pairs(with_(student, jpeg_share=s), count=32)[0] for s in (share, 0))
        return (with_jpeg != without).flatten(1).any(dim=1).float().mean().item()

    assert changed(1) == 1
    assert 0.25 < changed(0.5) < 0.75


def test_half_of_the_patches_are_darker_and_the_clean_ones_with_them(student, monkeypatch):
    dark = pairs(with_(student, darken=0.3, noise_high=0, jpeg_share=0), count=32)
    assert psnr_of(*dark) > 30, "the target is as dark as what the student sees"
    # Where noise draws nothing, the crop of a darker patch is that of the bright one.
    monkeypatch.setattr(
        "edgedenoise.training.objectives.noisy_patches.add_camera_noise", lambda clean, parameters, random: clean
    )
    bright, dark = (pairs(with_(student, darken=gain), count=32) for gain in (1, 0.3))
    gains = dark[1].mean(dim=(1, 2, 3)) / bright[1].mean(dim=(1, 2, 3))
    assert 0.25 < (gains < 0.999).float().mean() < 0.75
    assert gains.min() >= 0.3
    assert torch.allclose(dark[1], gains[:, None, None, None] * bright[1], atol=1e-5)


def test_magnification_keeps_a_ramp_a_ramp(student, tmp_path):
    """Bicubic magnification of a slope is a gentler slope, wherever the crop's edge is out of reach."""
    y, x = np.mgrid[:64, :64]
    ramp = (12_000 + 400 * x + 150 * y)[..., None] * np.ones(3)
    write_image(Image(ramp.astype(np.uint16)), tmp_path / "ramp" / "0.png")
    config = with_(student, clean=tmp_path / "ramp", held_out=0, darken=1, magnify=4)
    _, clean = pairs(config, count=48)
    inner = clean[..., 8:-8, 8:-8].double()
    for axis in (2, 3):
        assert inner.diff(n=2, dim=axis).abs().max() < 1e-6, "straight"
    slopes = 65535 * torch.stack([inner.diff(dim=axis).abs().mean(dim=(1, 2, 3)) for axis in (2, 3)], dim=1)
    gentle, steep = slopes.amin(dim=1), slopes.amax(dim=1)
    assert torch.allclose(gentle / steep, torch.tensor(150 / 400).double(), rtol=1e-3)
    # 400 a pixel, divided by a magnification of 1 to 4 that takes a whole number of pixels to the patch and its margin.
    whole = 32 + OFFSETS
    sides = whole * steep / 400
    assert (sides - sides.round()).abs().max() < 0.01
    assert whole / 4 - 0.1 < sides.min() < whole / 3.2
    assert whole / 1.3 < sides.max() < whole + 0.1
    flat = pairs(with_(config, magnify=1), count=4)[1].double()
    assert flat.diff(n=2, dim=3).abs().max() < 1e-6
    assert (flat.diff(dim=3).abs() * 65535).amax() == pytest.approx(400, rel=1e-3)


def test_mosaic_and_blocks_of_jpeg_begin_anywhere_in_a_patch(student, monkeypatch):
    """Each pixel is marked with its place in its block: a camera that leaves the image as it is, but for that."""

    def marking(clean, parameters, random):
        y, x = np.indices(clean.shape[:2])
        return np.dstack([(8 * (y % 8) + x % 8).astype(np.float32), clean[..., 1], clean[..., 2]])

    monkeypatch.setattr("edgedenoise.training.objectives.noisy_patches.add_camera_noise", marking)
    noisy, clean = pairs(student, count=128)
    assert torch.equal(noisy[:, 1:], clean[:, 1:]), "both are the same crop, turned alike"
    assert len(set(noisy[:, 0, 0, 0].tolist())) > 40, "of 64 places"
    # One pixel to the right is the next place in the row, or the one before, or the same of the columns.
    directions = {tuple(int(d) for d in mark[:2, :2].flatten() - mark[0, 0]) for mark in noisy[:, 0]}
    inside = {found for found in directions if max(map(abs, found)) <= 9}
    assert {(0, s * a, t * b, s * a + t * b) for a, b in ((1, 8), (8, 1)) for s in (1, -1) for t in (1, -1)} <= inside


def test_patches_are_developed_in_every_way(student, monkeypatch):
    """Those of the cameras of `noise.py`, and those of others: without a tone curve, without a colour matrix."""
    drawn = []

    def remembering(clean, parameters, random):
        drawn.append(parameters)
        return clean

    monkeypatch.setattr("edgedenoise.training.objectives.noisy_patches.add_camera_noise", remembering)
    pairs(student, count=64)
    for key, (low, high) in DEVELOPMENTS.items():
        found, tenth = [getattr(parameters, key) for parameters in drawn], (high - low) / 10
        assert low <= min(found) < low + tenth, key
        assert high - tenth < max(found) <= high, key


def test_photographs_have_room_for_the_patch_and_its_margin(student, tmp_path):
    """Or else a step fails, sooner or later, in the middle of the run."""
    sides = 32 + OFFSETS, 32 + OFFSETS - 1
    for side in sides:
        write_image(Image(np.full((side, 60, 3), 99, np.uint8)), tmp_path / str(side) / "a.png")
    enough, small = (with_(student, clean=tmp_path / str(side), held_out=0, magnify=1) for side in sides)
    assert pairs(enough)[0].shape == (4, 3, 32, 32)
    with pytest.raises(DatasetError, match=r"a\.png is 60x39 .* at least 40 on each side"):
        edgedenoise.train(small)
    assert not (tmp_path / "run").exists()


def test_noisy_photographs_are_of_no_use_to_it(student, clean):
    words = "unknown setting 'data': expected one of the settings of objective = 'supervised'"
    with pytest.raises(UsageError, match=words) as caught:
        student.with_overrides([f"data={clean}"])
    assert "another --objective" in caught.value.hint


def test_clean_photographs_smaller_than_the_patch_are_named(student):
    with pytest.raises(DatasetError, match=r"\.png is 64x72 pixels, smaller than the patch"):
        edgedenoise.train(with_(student, patch=80))


def test_held_out_photographs_are_judged_by_the_same_noise_each_time(student):
    objective = open_objective(student)
    assert objective.judges
    identity = build_network_of(student)
    first = objective.judge(identity)
    assert first == objective.judge(identity) == SupervisedObjective(student).judge(identity)
    # The identity's answer is what it sees: the loss is the mean over the crops, however they are batched.
    assert first == pytest.approx(SupervisedObjective(with_(student, batch=5)).judge(identity), rel=1e-5)
    assert HELD_OUT_CROPS % 5, "of which the last batch is a part"
    nobody = SupervisedObjective(with_(student, held_out=0))
    assert nobody.judge(identity) is None
    assert not nobody.judges


def test_the_loss_of_a_step_is_between_the_answer_and_the_clean_patch(student):
    objective, identity = SupervisedObjective(student), build_network_of(student)
    noisy, clean = batch = objective.batch(0, range(2))
    found, wanted = objective.losses(identity, batch, 0), student_losses(student, noisy, clean)
    assert found.total == wanted.total
    assert tuple(found.parts) == objective.parts


def test_a_run_leaves_scores_and_pictures(student, clean, tmp_path):
    for path in clean.iterdir():
        noisy = read_image(path).unit() + np.random.default_rng(0).normal(0, 0.05, (72, 64, 3))
        write_image(Image(from_unit(noisy.astype(np.float32), np.uint8)), tmp_path / "noisy" / path.name)
    result = edgedenoise.train(with_(student, val_noisy=tmp_path / "noisy", val_clean=clean))
    assert [int(row["step"]) for row in rows(result.run / "log.csv")] == [2, 4, 6]
    assert set(result.losses) == {"total", "reconstruction", "laplacian"}
    found = rows(result.run / "validation.csv")
    assert [int(row["step"]) for row in found] == [3, 6]
    scores = [float(row["held_out_loss"]) for row in found]
    assert result.best == pytest.approx(min(scores))
    assert all(24 < float(row["psnr_db"]) < 30 for row in found), "noise of 26 dB"
    assert read_checkpoint(result.run / BEST).step in (3, 6)
    previews = sorted((result.run / "previews").iterdir())
    assert [path.name for path in previews] == ["step-000003.png", "step-000006.png"]
    # One image is held out: 72 rows, before and after; nothing but its noise and the student are between.
    image = read_image(previews[0]).pixels
    assert image.shape == (72, 2 * 64, 3)
    noisy = image[:, :64].astype(float)
    assert 3 < np.abs(noisy - 255 * scene(0)).mean() < 40, "with noise, of the image that was held out"


def test_a_student_learns_to_take_noise_away(student):
    more = {"loss": "psnr", "laplacian": 0, "noise_low": 0.8, "darken": 1, "magnify": 1, "clip_norm": 10}
    config = with_(student, **more, steps=40, batch=4, schedule="constant", ema_decay=0.8, val_every=40)
    before = SupervisedObjective(config).judge(build_network_of(config))
    result = edgedenoise.train(config)
    assert result.best < before - 0.5, f"PSNR {-before:.2f} -> {-result.best:.2f} dB"
    # What is kept is what was judged.
    assert SupervisedObjective(config).judge(load_network(result.run)[0]) == pytest.approx(result.best, rel=1e-4)


@pytest.mark.parametrize("more", [{}, {"precision": "bf16", "loss": "psnr"}], ids=["plain", "as shipped"])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(student, tmp_path, more):
    student = with_(student, **more)
    whole = edgedenoise.train(with_(student, out=tmp_path / "whole"))
    with pytest.raises(Stopped):
        edgedenoise.train(student, progress=stop)
    assert read_checkpoint(tmp_path / "run" / LAST).step == 4
    resumed = edgedenoise.train(student, resume=True)
    check_same_end(whole.run, resumed.run)
    assert resumed.losses == whole.losses


def test_threads_and_chance_elsewhere_change_nothing(student, tmp_path):
    found = []
    for workers in (0, 2):
        torch.manual_seed(workers)
        np.random.seed(workers)  # noqa: NPY002 - what a library might have done
        run = edgedenoise.train(with_(student, workers=workers, steps=3, out=tmp_path / str(workers))).run
        found.append(read_checkpoint(run / LAST).network)
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_a_loss_that_is_no_number_says_how_to_go_on_without_noisy_photographs(student, monkeypatch):
    """The command of the hint is one that is accepted, and means this run again."""

    def broken(config, answer, target, **options):
        losses = student_losses(config, answer, target, **options)
        return type(losses)(losses.total * float("nan"), losses.parts)

    monkeypatch.setattr("edgedenoise.training.objectives.supervised.student_losses", broken)
    with pytest.raises(TrainingError, match="became nan at step 0") as caught:
        edgedenoise.train(student)
    words = iter(shlex.split(caught.value.hint.partition("edgedenoise train ")[2]))
    given = [(word.removeprefix("--"), next(words)) for word in words]
    named = dict(given).get("config")
    again = settings(named, [v if k == "set" else f"{k}={v}" for k, v in given if k != "config"])
    assert (again.objective, again.network, again.clean) == (student.objective, student.network, student.clean)
    assert again.learning_rate == student.learning_rate / 2
