"""What is settled before the first step: the data, the stride, and how many steps there are time for."""

from __future__ import annotations

import json

import numpy as np
import pytest

import edgedenoise
from edgedenoise.errors import DatasetError, UsageError
from edgedenoise.imaging.files import Image, write_image
from edgedenoise.training.config.config import OBJECTIVE_CONFIGS, SupervisedConfig, TrainConfig
from edgedenoise.training.loop.trainer import DATA_CHECK

AUTO = ["blind_stride=auto", "data_check=refuse", "patch=60"]


@pytest.fixture
def folder(tmp_path):
    """Write images of a scene, each with what `noise(random, shape)` adds."""

    def make(noise, count=4, side=160):
        y, x = np.mgrid[:side, :side]
        for index in range(count):
            random = np.random.default_rng(index)
            scene = 120 + 50 * np.sin(x / 40 + index)[..., None] * np.cos(y / 50)[..., None] * np.ones(3)
            noisy = np.clip(scene + noise(random, scene.shape), 0, 255).round().astype(np.uint8)
            write_image(Image(noisy), tmp_path / "noisy" / f"{index}.png")
        return tmp_path / "noisy"

    return make


def white(random, shape):
    return random.normal(0, 12, shape)


def wide(random, shape):
    """Noise that reaches three pixels far: white noise, averaged over 3 x 3."""
    grown = random.normal(0, 36, (shape[0] + 2, shape[1] + 2, 3))
    return sum(grown[i : i + shape[0], j : j + shape[1]] for i in range(3) for j in range(3)) / 9


# No camera averages its noise over 3 x 3, and the data check says so: that folder has to be insisted on.
@pytest.mark.parametrize(("noise", "more", "stride"), [(white, [], 1), (wide, ["data_check=warn"], 3)])
def test_the_stride_is_what_the_noise_calls_for_and_is_written_down(config, folder, noise, more, stride):
    seen = []
    config = config.with_overrides([*AUTO, f"data={folder(noise)}", *more, "steps=2"])
    run = edgedenoise.train(config, on_data_check=seen.append).run
    assert seen[0].stride == stride
    assert TrainConfig.from_toml(run / "config.toml").blind_stride == stride
    assert json.loads((run / DATA_CHECK).read_text())["stride"] == stride
    # On a resume the number stands: nobody looks again.
    edgedenoise.train(config.with_overrides(["steps=3"]), resume=True, on_data_check=seen.append)
    assert len(seen) == 1


def test_photographs_without_noise_are_refused_and_nothing_is_written(config, folder, tmp_path):
    clean = folder(lambda random, shape: np.zeros(shape))
    config = config.with_overrides([*AUTO, f"data={clean}"])
    with pytest.raises(DatasetError, match="cannot be trained on") as caught:
        edgedenoise.train(config)
    assert "data_check=warn" in caught.value.hint
    assert not (tmp_path / "run").exists()
    seen = []
    edgedenoise.train(config.with_overrides(["data_check=warn"]), on_data_check=seen.append)
    assert seen[0].refusals


def test_a_patch_that_the_settled_stride_does_not_divide_says_which_do(config, folder):
    config = config.with_overrides([*AUTO, f"data={folder(wide)}", "patch=50", "data_check=warn"])
    with pytest.raises(UsageError, match=r"patch = 50 must be divisible by blind_stride = 3"):
        edgedenoise.train(config)


@pytest.mark.parametrize(
    ("objective", "missing", "what"),
    [
        ("supervised", "clean", "folder of clean images"),
        ("supervised", "out", "folder for the run"),
        ("distill", "data", "folder of noisy images"),
        ("distill", "teacher", "run whose network is the teacher"),
        ("distill", "out", "folder for the run"),
        ("cbsn", "data", "folder of noisy images"),
    ],
)
def test_a_folder_that_is_missing_is_named_with_the_flag_that_gives_it(objective, missing, what, tmp_path):
    needed = {"supervised": ("clean", "out"), "distill": ("data", "teacher", "out"), "cbsn": ("data", "out")}[objective]
    folders = {key: str(tmp_path / key) for key in needed if key != missing}
    network = "cbsn-6x1" if objective == "cbsn" else "edge-tiny"
    with pytest.raises(UsageError, match=f"names no {what}") as caught:
        edgedenoise.train(OBJECTIVE_CONFIGS[objective](network=network, **folders))
    assert f"--{missing}" in caught.value.hint
    assert not list(tmp_path.iterdir())


def supervised(folder, tmp_path):
    """A run of a student on images without noise, which the data check would refuse."""
    clean = folder(lambda random, shape: np.zeros(shape))
    return SupervisedConfig(
        network="edge-tiny", clean=str(clean), out=str(tmp_path / "student"), patch=32, batch=1,
        steps=2, device="cpu", checkpoint_every=1,
    )  # fmt: skip


def test_clean_photographs_are_not_asked_for_noise(folder, tmp_path):
    config = supervised(folder, tmp_path)
    assert not hasattr(config, "data_check")
    run = edgedenoise.train(config, on_data_check=lambda report: pytest.fail("looked at")).run
    assert not (run / DATA_CHECK).exists()


def test_a_run_on_clean_photographs_is_resumed_wherever_they_went(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = supervised(folder, tmp_path).with_overrides(["clean=noisy", "out=student"])
    run = edgedenoise.train(config).run
    assert TrainConfig.from_toml(run / "config.toml").clean == str(tmp_path / "noisy"), "absolute"
    (tmp_path / "noisy").rename(tmp_path / "moved")
    assert edgedenoise.train(config.with_overrides(["clean=moved", "steps=3"]), resume=True).steps == 3
    for change in ("loss=l1", "noise_high=0.5", "magnify=1", "jpeg_share=0"):
        with pytest.raises(UsageError, match=f"was trained with {change.partition('=')[0]} = "):
            edgedenoise.train(config.with_overrides([change, "clean=moved"]), resume=True)


def test_hours_become_steps_that_a_resume_keeps(config):
    run = edgedenoise.train(config.with_overrides(["hours=0.0002", "checkpoint_every=1", "preview_every=100000"])).run
    written = TrainConfig.from_toml(run / "config.toml")
    assert written.hours == 0
    assert written.steps > 1
    again = edgedenoise.train(config.with_overrides(["hours=0.0002"]), resume=True)
    assert again.steps == written.steps
