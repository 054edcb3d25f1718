"""A run trains, keeps what it learned, and goes on after a kill as if nothing had happened."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from edgedenoise.errors import DatasetError, DeviceNotFoundError, TrainingError, UsageError
from edgedenoise.photo import Photo, read_photo, write_photo
from edgedenoise.training.checkpoint import LAST, load_network, read_checkpoint
from edgedenoise.training.config import TrainConfig
from edgedenoise.training.trainer import train_model


@pytest.fixture
def config(photos, tmp_path) -> TrainConfig:
    """Ten steps of a very small network."""
    return TrainConfig(
        network="cbsn-4x1",
        data=str(photos),
        out=str(tmp_path / "run"),
        steps=10,
        patch=20,
        checkpoint_every=3,
        preview_every=4,
        log_every=2,
        device="cpu",
    )


def assert_same_run(one, other):
    """Weights, optimiser and step are equal to the bit."""
    one, other = read_checkpoint(one / LAST), read_checkpoint(other / LAST)
    assert one.step == other.step
    assert one.network.keys() == other.network.keys()
    for name, value in one.network.items():
        assert torch.equal(value, other.network[name]), name
    for name, state in one.optimizer.items():
        for key, value in state.items():
            assert torch.equal(value, other.optimizer[name][key]), (name, key)


def rows(run):
    with (run / "log.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_run_leaves_weights_config_log_and_previews(config):
    told = []
    result = train_model(config, progress=lambda stage, done, total, note="": told.append((stage, done, total)))
    assert sorted(path.name for path in result.run.iterdir() if path.name != "tensorboard") == [
        LAST,
        "config.toml",
        "log.csv",
        "previews",
    ]
    assert TrainConfig.from_toml(result.run / "config.toml") == config
    assert [int(row["step"]) for row in rows(result.run)] == [2, 4, 6, 8, 10]
    last = rows(result.run)[-1]
    assert result.steps == 10
    assert set(result.losses) == {"total", "blind", "self", "inv"}
    assert float(last["total"]) == pytest.approx(result.losses["total"])
    assert read_checkpoint(result.run / LAST).step == 10
    previews = sorted((result.run / "previews").iterdir())
    assert [path.name for path in previews] == ["step-000004.png", "step-000008.png", "step-000010.png"]
    # a.png is 40 rows of 52, b.png 61 of 47: one above the other, each before and after.
    assert read_photo(previews[0]).pixels.shape == (40 + 61, 2 * 52, 3)
    assert [done for stage, done, _ in told if stage == "train"] == list(range(11))


def test_training_takes_noise_away(tmp_path):
    """Noise that is independent from pixel to pixel, on a smooth picture: the easiest case there is."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:80, :80]
    clean = np.stack([120 + 80 * np.sin(x / 25), 120 + 60 * np.cos(y / 20), 100 + x + y / 2], axis=-1)
    noisy = np.clip(clean + random.normal(0, 25, clean.shape), 0, 255).astype(np.uint8)
    write_photo(Photo(noisy), tmp_path / "photos" / "a.png")
    config = TrainConfig(
        network="cbsn-8x1",
        data=str(tmp_path / "photos"),
        out=str(tmp_path / "run"),
        steps=200,
        patch=40,
        batch=1,
        learning_rate=5e-3,
        blind_stride=1,  # neighbours do not share this noise
        statistics="photo",
    )
    run = train_model(config).run
    right = read_photo(run / "previews" / "step-000200.png").pixels[:, 80:]
    before, after = (float(np.square(pixels - clean).mean()) for pixels in (noisy, right))
    assert after < 0.75 * before, f"squared error {before:.0f} -> {after:.0f}"


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
@pytest.mark.parametrize(
    ("moment", "checkpoint_step"),
    [("before the first checkpoint", None), ("between checkpoints", 6), ("while a checkpoint is written", 3)],
)
def test_a_killed_run_goes_on_as_if_it_had_not_been(config, tmp_path, moment, checkpoint_step):
    code = f"""
import os, signal, sys
from edgedenoise.training import checkpoint, TrainConfig, train_model
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
at = {{"before the first checkpoint": 2, "between checkpoints": 8}}.get({moment!r}, 99)
if at == 99:
    whole, calls = checkpoint.save_file, []
    def save_half(tensors, path, metadata):
        calls.append(path)
        if len(calls) == 2:
            path.write_bytes(b"half a checkpoint")
            die()
        whole(tensors, path, metadata)
    checkpoint.save_file = save_half
def progress(stage, done, total, note=""):
    if stage == "train" and done == at:
        die()
train_model(TrainConfig.from_toml(sys.argv[1]), progress=progress)
"""
    (tmp_path / "config.toml").write_text(config.to_toml())
    child = subprocess.run([sys.executable, "-c", code, str(tmp_path / "config.toml")], check=False)
    assert child.returncode == -signal.SIGKILL
    killed = tmp_path / "run"
    assert (killed / LAST).exists() == (checkpoint_step is not None)
    if checkpoint_step is not None:
        assert read_checkpoint(killed / LAST).step == checkpoint_step

    resumed = train_model(config, resume=True)
    whole = train_model(config.with_overrides([f"out={tmp_path / 'whole'}"]))
    assert_same_run(resumed.run, whole.run)
    assert resumed.losses == whole.losses
    assert [int(row["step"]) for row in rows(resumed.run)] == [2, 4, 6, 8, 10], "no row twice"
    for one, other in zip(rows(resumed.run), rows(whole.run), strict=True):
        assert {**one, "seconds": ""} == {**other, "seconds": ""}


def test_a_run_does_not_depend_on_torchs_own_random_state(config, tmp_path):
    torch.manual_seed(1)
    one = train_model(config)
    torch.manual_seed(2)
    assert_same_run(one.run, train_model(config.with_overrides([f"out={tmp_path / 'again'}"])).run)


def test_a_finished_run_can_be_resumed_and_nothing_happens(config):
    first = train_model(config)
    again = train_model(config, resume=True)
    assert again.steps == 10
    assert again.losses == pytest.approx(first.losses)


def test_a_run_can_be_trained_further_and_elsewhere(config):
    train_model(config)
    result = train_model(config.with_overrides(["steps=12", "log_every=1"]), resume=True)
    assert [int(row["step"]) for row in rows(result.run)] == [2, 4, 6, 8, 10, 11, 12]
    assert TrainConfig.from_toml(result.run / "config.toml").steps == 12


def test_a_row_that_a_kill_cut_short_is_dropped(config):
    run = train_model(config).run
    with (run / "log.csv").open("a") as stream:
        stream.write("12,0.5,0.00")
    train_model(config.with_overrides(["steps=14"]), resume=True)
    assert [int(row["step"]) for row in rows(run)] == [2, 4, 6, 8, 10, 12, 14]


def test_a_folder_that_holds_a_run_is_not_written_over(config):
    run = train_model(config).run
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="already holds a training run") as caught:
        train_model(config)
    assert "--resume" in caught.value.hint
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_resuming_what_is_not_there_is_refused(config, tmp_path):
    with pytest.raises(UsageError, match="no training run to resume"):
        train_model(config, resume=True)
    (tmp_path / "run").write_text("a file")
    with pytest.raises(UsageError, match="a file of that name"):
        train_model(config)


@pytest.mark.parametrize("override", ["network=cbsn-5x1", "seed=1", "patch=30", "learning_rate=1"])
def test_a_run_is_not_resumed_as_another_one(config, override):
    train_model(config)
    key = override.partition("=")[0]
    with pytest.raises(UsageError, match=f"was trained with {key} = "):
        train_model(config.with_overrides([override]), resume=True)


def test_fewer_steps_than_are_done_are_refused(config):
    train_model(config)
    with pytest.raises(UsageError, match="10 steps already"):
        train_model(config.with_overrides(["steps=9"]), resume=True)


@pytest.mark.parametrize("key", ["data", "out"])
def test_a_config_without_data_or_run_folder_says_what_to_give(config, key):
    with pytest.raises(UsageError) as caught:
        train_model(config.with_overrides([f"{key}="]))
    assert f"--{key}" in caught.value.hint


def test_bad_photographs_are_told_before_anything_is_written(config, photos, tmp_path):
    (photos / "bad.png").write_bytes(b"text")
    with pytest.raises(DatasetError, match=r"bad\.png"):
        train_model(config)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_number_names_the_step_and_leaves_the_last_checkpoint_sound(config, monkeypatch):
    from edgedenoise.training import objectives

    losses = objectives.CBSNObjective.losses

    def broken(self, network, batch, step):
        found = losses(self, network, batch, step)
        return objectives.StepLosses(found.total * float("nan"), found.parts) if step == 4 else found

    monkeypatch.setattr(objectives.CBSNObjective, "losses", broken)
    with pytest.raises(TrainingError, match="nan at step 4"):
        train_model(config)
    network, _ = load_network(config.out)
    assert read_checkpoint(Path(config.out) / LAST).step == 3
    assert all(parameter.isfinite().all() for parameter in network.parameters())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused_and_not_replaced(config, tmp_path):
    with pytest.raises(DeviceNotFoundError, match=r"'cuda'.*available: .*cpu"):
        train_model(config.with_overrides(["device=cuda"]))
    assert not (tmp_path / "run").exists()
