"""A run trains, keeps what it learned, and goes on after a kill as if nothing had happened."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import edgedenoise
from edgedenoise.errors import DatasetError, DeviceNotFoundError, OutputError, TrainingError, UsageError
from edgedenoise.imaging.files import Image, read_image, write_image
from edgedenoise.training.checkpoint import BEST, LAST, load_network, read_checkpoint
from edgedenoise.training.config.config import CBSNConfig, TrainConfig
from edgedenoise.training.config.text import load_toml
from edgedenoise.training.settings import settings


def assert_same_run(one, other):
    """Weights, optimiser and step are equal to the bit."""
    one, other = read_checkpoint(one / LAST), read_checkpoint(other / LAST)
    assert one.step == other.step
    assert one.network.keys() == other.network.keys()
    for name, value in one.network.items():
        assert torch.equal(value, other.network[name]), name
    assert one.best == other.best
    for name, value in one.mean.items():
        assert torch.equal(value, other.mean[name]), name
    for name, state in one.optimizer.items():
        for key, value in state.items():
            assert torch.equal(value, other.optimizer[name][key]), (name, key)


def rows(run):
    with (run / "log.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_run_leaves_weights_config_log_and_previews(config):
    told = []
    result = edgedenoise.train(config, progress=lambda *report: told.append(report))
    assert sorted(path.name for path in result.run.iterdir() if path.name != "tensorboard") == [
        LAST,
        "config.toml",
        "curves.png",
        "log.csv",
        "previews",
    ]
    assert TrainConfig.from_toml(result.run / "config.toml") == config
    assert read_image(result.run / "curves.png").pixels.std() > 10, "curves were drawn"
    assert [int(row["step"]) for row in rows(result.run)] == [2, 4, 6, 8, 10]
    last = rows(result.run)[-1]
    assert result.steps == 10
    assert set(result.losses) == {"total", "blind", "self", "inv"}
    assert float(last["total"]) == pytest.approx(result.losses["total"])
    assert read_checkpoint(result.run / LAST).step == 10
    previews = sorted((result.run / "previews").iterdir())
    assert [path.name for path in previews] == ["step-000004.png", "step-000008.png", "step-000010.png"]
    # a.png is 40 rows of 52, b.png 61 of 47: one above the other, each before and after.
    assert read_image(previews[0]).pixels.shape == (40 + 61, 2 * 52, 3)
    reports = [(report[1], report[3] if len(report) > 3 else "") for report in told if report[0] == "train"]
    assert [done for done, note in reports if note != "validating"] == list(range(11))
    assert [done for done, note in reports if note == "validating"] == [4, 8, 10], "named while it runs, the last too"
    assert reports[-1][1].startswith("loss ")


def test_the_curves_are_in_tensorboard_too(config):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed: pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = edgedenoise.train(config).run
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    assert {"total", "blind", "self", "inv", "learning_rate"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("total")] == [2, 4, 6, 8, 10]
    assert [event.value for event in events.Scalars("total")] == pytest.approx(
        [float(row["total"]) for row in rows(run)], rel=1e-6
    )


def test_training_takes_noise_away(tmp_path):
    """Noise that is independent from pixel to pixel, on a smooth image: the easiest case there is."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:80, :80]
    clean = np.stack([120 + 80 * np.sin(x / 25), 120 + 60 * np.cos(y / 20), 100 + x + y / 2], axis=-1)
    noisy = np.clip(clean + random.normal(0, 25, clean.shape), 0, 255).astype(np.uint8)
    write_image(Image(noisy), tmp_path / "photos" / "a.png")
    config = CBSNConfig(
        network="cbsn-8x1",
        data=str(tmp_path / "photos"),
        out=str(tmp_path / "run"),
        steps=300,
        patch=40,
        batch=1,
        learning_rate=5e-3,
        blind_stride=1,  # neighbours do not share this noise
        first_weights="he",  # a local mean would take noise away without any training
        data_check="off",
        ema_decay=0.9,
        clip_norm=0,
        precision="fp32",
        ramp_fraction=0.6,
    )
    run = edgedenoise.train(config).run
    right = read_image(run / "previews" / "step-000300.png").pixels[:, 80:]
    before, after = (float(np.square(pixels - clean).mean()) for pixels in (noisy, right))
    assert after < 0.75 * before, f"squared error {before:.0f} -> {after:.0f}"


DIE = """
import edgedenoise, os, signal, sys
from edgedenoise.training import checkpoint, TrainConfig
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
"""

BETWEEN_STEPS = """
def progress(stage, done, total, note=""):
    if stage == "train" and done == {step}:
        die()
edgedenoise.train(TrainConfig.from_toml(sys.argv[1]), resume={resume}, progress=progress)
"""

WHILE_WRITING = """
whole, calls = checkpoint._in_fixed_order, []
def save_half(data):
    calls.append(data)
    header, tensors = whole(data)
    yield header
    if len(calls) == 2:
        die()
    yield tensors
checkpoint._in_fixed_order = save_half
edgedenoise.train(TrainConfig.from_toml(sys.argv[1]))
"""

AT_ANY_INSTANT = """
import threading
threading.Timer({seconds}, die).start()
edgedenoise.train(TrainConfig.from_toml(sys.argv[1]), resume={resume})
"""


def killed(code, config, tmp_path):
    """Train in a process that kills itself; return whether it did."""
    path = tmp_path / "config.toml"
    path.write_text(config.to_toml())
    child = subprocess.run([sys.executable, "-c", DIE + code, str(path)], check=False, timeout=120)
    assert child.returncode in (0, -signal.SIGKILL)
    return child.returncode != 0


def assert_same_logs(one, other):
    assert [int(row["step"]) for row in rows(one)] == [2, 4, 6, 8, 10], "no row twice"
    for mine, theirs in zip(rows(one), rows(other), strict=True):
        assert {**mine, "seconds": ""} == {**theirs, "seconds": ""}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
@pytest.mark.parametrize(
    ("code", "checkpoint_step"),
    [
        pytest.param(BETWEEN_STEPS.format(step=2, resume=False), None, id="before the first checkpoint"),
        pytest.param(BETWEEN_STEPS.format(step=8, resume=False), 6, id="between checkpoints"),
        pytest.param(WHILE_WRITING, 3, id="while a checkpoint is written"),
    ],
)
def test_a_killed_run_goes_on_as_if_it_had_not_been(config, tmp_path, code, checkpoint_step):
    assert killed(code, config, tmp_path)
    run = tmp_path / "run"
    assert (run / LAST).exists() == (checkpoint_step is not None)
    if checkpoint_step is None:
        with pytest.raises(TrainingError, match="has no checkpoint to resume from") as caught:
            edgedenoise.train(config, resume=True)
        assert f"edgedenoise train --config {run / 'config.toml'}" in caught.value.hint
    else:
        assert read_checkpoint(run / LAST).step == checkpoint_step
    resumed = edgedenoise.train(config, resume=checkpoint_step is not None)
    assert not [path.name for path in run.iterdir() if path.name.startswith(".")], "no half-written file stays"
    whole = edgedenoise.train(config.with_overrides([f"out={tmp_path / 'whole'}"]))
    assert_same_run(resumed.run, whole.run)
    assert resumed.losses == whole.losses
    assert_same_logs(resumed.run, whole.run)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_kills_at_random_instants_change_nothing(config, photos, tmp_path):
    """With a validation, a best checkpoint, running means, and threads that cut patches ahead."""
    config = config.with_overrides(["held_out=1", "val_every=2", "checkpoint_every=1", "workers=2", "ramp_fraction=0"])
    (tmp_path / "run").mkdir()
    random, kills = np.random.default_rng(0), 0
    for _ in range(3):
        resume = (tmp_path / "run" / LAST).exists()
        # Python and torch take seconds to start; the instants fall before, in and after training.
        code = AT_ANY_INSTANT.format(seconds=random.uniform(0, 0.6), resume=resume)
        kills += killed(code, config, tmp_path)
    assert kills, "every run ended before it was killed"
    resume = (tmp_path / "run" / LAST).exists()
    resumed = edgedenoise.train(config, resume=resume)
    whole = edgedenoise.train(config.with_overrides([f"out={tmp_path / 'whole'}"]))
    assert_same_run(resumed.run, whole.run)
    best, other = read_checkpoint(resumed.run / BEST), read_checkpoint(whole.run / BEST)
    assert (best.step, best.best) == (other.step, other.best)
    assert all(torch.equal(value, other.network[name]) for name, value in best.network.items())


def test_a_run_does_not_depend_on_torchs_own_random_state(config, tmp_path):
    torch.manual_seed(1)
    one = edgedenoise.train(config)
    torch.manual_seed(2)
    assert_same_run(one.run, edgedenoise.train(config.with_overrides([f"out={tmp_path / 'again'}"])).run)


def test_the_checkpoint_is_written_before_what_can_be_given_up(config):
    """Where the disk is full, the preview fails after it."""
    run = Path(config.out)
    run.mkdir(parents=True)
    (run / "previews").touch()
    with pytest.raises(OutputError, match="previews"):
        edgedenoise.train(msgspec.structs.replace(config, checkpoint_every=4))
    assert read_checkpoint(run / LAST).step == config.preview_every == 4


def test_a_finished_run_can_be_resumed_and_nothing_happens(config):
    first = edgedenoise.train(config)
    again = edgedenoise.train(config, resume=True)
    assert again.steps == 10
    assert again.losses == pytest.approx(first.losses)


def test_a_run_can_be_trained_further_and_elsewhere(config):
    edgedenoise.train(config)
    result = edgedenoise.train(config.with_overrides(["steps=12", "log_every=1"]), resume=True)
    assert [int(row["step"]) for row in rows(result.run)] == [2, 4, 6, 8, 10, 11, 12]
    assert TrainConfig.from_toml(result.run / "config.toml").steps == 12


def test_a_row_that_a_kill_cut_short_is_dropped(config):
    run = edgedenoise.train(config).run
    with (run / "log.csv").open("a") as stream:
        stream.write("12,0.5,0.00")
    edgedenoise.train(config.with_overrides(["steps=14"]), resume=True)
    assert [int(row["step"]) for row in rows(run)] == [2, 4, 6, 8, 10, 12, 14]


def test_a_folder_that_holds_a_run_is_not_written_over(config):
    run = edgedenoise.train(config).run
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="already holds a training run") as caught:
        edgedenoise.train(config)
    assert "--resume" in caught.value.hint
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_resuming_what_is_not_there_is_refused(config, tmp_path):
    with pytest.raises(UsageError, match="no training run to resume"):
        edgedenoise.train(config, resume=True)
    (tmp_path / "run").write_text("a file")
    with pytest.raises(UsageError, match="a file of that name"):
        edgedenoise.train(config)


def test_resuming_a_misspelt_folder_names_it_and_not_the_settings_it_would_hold(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no training run to resume"):
        edgedenoise.train(settings(None, [f"out={tmp_path / 'misspelt'}"], resume=True), resume=True)


@pytest.mark.parametrize("override", ["network=cbsn-7x1", "seed=1", "patch=30", "learning_rate=1"])
def test_a_run_is_not_resumed_as_another_one(config, override):
    edgedenoise.train(config)
    key = override.partition("=")[0]
    with pytest.raises(UsageError, match=f"was trained with {key} = "):
        edgedenoise.train(config.with_overrides([override]), resume=True)


def test_fewer_steps_than_are_done_are_refused(config):
    edgedenoise.train(config)
    with pytest.raises(UsageError, match="10 steps already"):
        edgedenoise.train(config.with_overrides(["steps=9"]), resume=True)


@pytest.mark.parametrize("key", ["data", "out"])
def test_a_config_without_data_or_run_folder_says_what_to_give(config, key):
    with pytest.raises(UsageError) as caught:
        edgedenoise.train(config.with_overrides([f"{key}="]))
    assert f"--{key}" in caught.value.hint


def test_bad_photographs_are_told_before_anything_is_written(config, photos, tmp_path):
    (photos / "bad.png").write_bytes(b"text")
    with pytest.raises(DatasetError, match=r"bad\.png"):
        edgedenoise.train(config)
    assert not (tmp_path / "run").exists()


def test_gradients_are_clipped_to_the_norm_that_is_allowed(config, tmp_path):
    tight, loose = (
        edgedenoise.train(config.with_overrides([f"clip_norm={limit}", f"out={tmp_path / str(limit)}"])).run
        for limit in (1e-4, 0)
    )
    norms = [float(row["gradient_norm"]) for row in rows(tight)]
    assert min(norms) > 1e-4, "the log has the norm before clipping"
    states = [read_checkpoint(run / LAST).optimizer for run in (tight, loose)]
    moments = [sum(state["exp_avg"].square().sum() for state in s.values()).sqrt().item() for s in states]
    assert moments[0] <= 1e-4
    assert moments[1] > 10 * moments[0]


def test_the_running_mean_of_the_weights_is_kept_apart_and_is_what_a_run_is_known_by(config):
    run = edgedenoise.train(config.with_overrides(["learning_rate=1e-2"])).run
    checkpoint = read_checkpoint(run / LAST)
    assert checkpoint.mean.keys() == checkpoint.network.keys()
    assert not torch.equal(checkpoint.mean["head.weight"], checkpoint.network["head.weight"])
    assert torch.equal(load_network(run)[0].head.weight, checkpoint.mean["head.weight"])


def test_validation_tells_quality_and_keeps_the_best_network(config, photos):
    config = config.with_overrides(
        ["held_out=1", "val_every=2", "ramp_fraction=0.5", f"val_clean={photos}", "learning_rate=1e-2"]
    )
    result = edgedenoise.train(config)
    with (result.run / "validation.csv").open(newline="") as stream:
        found = list(csv.DictReader(stream))
    assert [int(row["step"]) for row in found] == [2, 4, 6, 8, 10]
    # Against themselves the noisy images have an infinite PSNR, and what the network made of them a finite one.
    assert all(10 < float(row["psnr_db"]) < 60 and 0 < float(row["ssim"]) < 1 for row in found)
    after_ramp = {int(row["step"]): float(row["held_out_loss"]) for row in found if int(row["step"]) >= 6}
    best = read_checkpoint(result.run / BEST)
    assert result.best == best.best == pytest.approx(min(after_ramp.values()))
    assert after_ramp[best.step] == pytest.approx(best.best)
    assert torch.equal(load_network(result.run, "best")[0].head.weight, best.network["head.weight"])


@pytest.mark.parametrize("override", ["objective=sdap", "blind_sampler=permuted", "precision=bf16", "workers=0"])
def test_every_way_of_training_trains_and_resumes(config, tmp_path, override):
    config = config.with_overrides([override])
    whole = edgedenoise.train(config.with_overrides([f"out={tmp_path / 'whole'}"]))
    assert all(np.isfinite(list(whole.losses.values())))

    class Killed(Exception):
        pass

    def stop(stage, done, total, note=""):
        if stage == "train" and done == 7:
            raise Killed

    with pytest.raises(Killed):
        edgedenoise.train(config, progress=stop)
    resumed = edgedenoise.train(config, resume=True)
    assert_same_run(resumed.run, whole.run)
    if "workers" not in override:
        plain = edgedenoise.train(config.with_overrides([f"out={tmp_path / 'plain'}", *PLAIN]))
        with pytest.raises(AssertionError):
            assert_same_run(plain.run, whole.run)


PLAIN = ("objective=cbsn", "blind_sampler=lattice", "precision=fp32")


def test_threads_that_cut_patches_ahead_change_nothing(config, tmp_path):
    one, other = (
        edgedenoise.train(config.with_overrides([f"workers={n}", f"out={tmp_path / str(n)}"])).run for n in (0, 3)
    )
    assert_same_run(one, other)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused_and_not_replaced(config, tmp_path):
    with pytest.raises(DeviceNotFoundError, match=r"'cuda'.*available: .*cpu"):
        edgedenoise.train(config.with_overrides(["device=cuda"]))
    assert not (tmp_path / "run").exists()


def test_a_run_of_version_1_is_resumed_as_if_nothing_had_changed(config, photos, tmp_path):
    """Config and checkpoint as the first version wrote them, with the settings of all objectives in one table."""
    config = config.with_overrides(["normalization_limit=0"])  # version 1 had no limit
    whole = edgedenoise.train(config.with_overrides([f"out={tmp_path / 'whole'}"]))

    class Killed(Exception):
        pass

    def stop(stage, done, total, note=""):
        if stage == "train" and done == 7:
            raise Killed

    with pytest.raises(Killed):
        edgedenoise.train(config, progress=stop)
    run = tmp_path / "run"
    text = (Path(__file__).parents[1] / "fixtures" / "config-v1-cbsn.toml").read_text()
    text = text.replace('data = "photos"', f'data = "{photos}"').replace('out = "run"', f'out = "{run}"')
    (run / "config.toml").write_text(text)
    with safe_open(run / LAST, framework="pt") as stream:
        header = stream.metadata()
    save_file(load_file(run / LAST), run / LAST, {**header, "config": json.dumps(load_toml(text))})
    resumed = edgedenoise.train(settings(None, [f"out={run}"], resume=True), resume=True)
    assert_same_run(resumed.run, whole.run)
    assert TrainConfig.from_toml(run / "config.toml") == config
