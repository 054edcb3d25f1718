"""The comparison of trainings: the same patches for all runs, a stop and a restart, and ordinary run folders."""

from __future__ import annotations

import csv
import importlib
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytest.importorskip("torch")

import torch

import edgedenoise
from edgedenoise.errors import UsageError
from edgedenoise.imaging.files import Image, write_image
from edgedenoise.training.checkpoint import LAST, read_checkpoint
from edgedenoise.training.config.config import TrainConfig

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "side_by_side.py"
FEW = [
    "patch=32", "batch=2", "tile=48", "tile_uses=2", "held_out=1", "steps=6", "log_every=1", "warmup=2",
    "precision=fp32", "psnr_floor_steps=2",
]  # fmt: skip
RUNS = ("blind=edge-full-range", "level=edge-level-full-range")


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clean")
    random = np.random.default_rng(0)
    for number in range(3):
        pixels = random.integers(0, 255, (8, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        write_image(Image(pixels), folder / f"{number}.png")
    return folder


@pytest.fixture
def compare(clean, tmp_path, monkeypatch) -> Iterator[Callable[..., None]]:
    """Run the benchmark with few steps, in this process."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    module = importlib.import_module("side_by_side")
    threads, handlers = torch.get_num_threads(), {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}

    def run(out: str, *options: str, runs: tuple[str, ...] = RUNS) -> None:
        settings = [word for setting in FEW for word in ("--set", setting)]
        command = [*runs, "--clean", str(clean), "--out", str(tmp_path / out), "--judge-every", "3"]
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *command, *settings, *options])
        module.main()

    yield run
    torch.set_num_threads(threads)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_comparison_stops_and_continues_as_if_it_had_not_stopped(compare, tmp_path):
    compare("whole")
    for until in ("2", "6"):
        compare("parts", "--until", until)
    for name in ("blind", "level"):
        one, other = (read_checkpoint(tmp_path / out / name / LAST) for out in ("whole", "parts"))
        assert one.step == other.step == 6
        assert all(torch.equal(value, other.network[key]) for key, value in one.network.items())
    progress = rows(tmp_path / "whole" / "progress.csv")
    assert [row["step"] for row in progress] == [str(step) for step in range(1, 7)]
    # New networks return their input, so the first loss is that of the noise: the same for all, on the same patches.
    assert progress[0]["blind:loss"] == progress[0]["level:loss"]
    assert float(progress[-1]["level:cpu"]) >= float(progress[0]["level:cpu"])


def test_it_reports_the_quality_on_held_out_images_by_noise(compare, tmp_path):
    compare("out")
    found = rows(tmp_path / "out" / "held-out.csv")
    assert [(row["step"], row["run"]) for row in found] == [
        ("3", "blind"), ("3", "level"), ("6", "blind"), ("6", "level"),
    ]  # fmt: skip
    assert 15 < float(found[0]["psnr_db"]) < 45
    assert float(found[0]["0-20 dB"]) < float(found[0]["38-100 dB"])
    results = json.loads((tmp_path / "out" / "side_by_side.json").read_text())["results"]
    assert [(row["run"], row["steps"]) for row in results["rows"]] == [("blind", 6), ("level", 6)]
    assert results["rows"][1]["psnr_db"] == pytest.approx(float(found[-1]["psnr_db"]), abs=0.001)


def test_a_run_is_an_ordinary_one_that_train_continues(compare, tmp_path):
    compare("out", runs=RUNS[:1])
    run = tmp_path / "out" / "blind"
    config = TrainConfig.from_toml(run / "config.toml")
    assert edgedenoise.train(config.with_overrides(["steps=7"]), resume=True).steps == 7


def test_configs_that_draw_other_patches_are_refused(compare, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text(TrainConfig.named("edge-full-range", clean="clean", out="run", noise_high=1.0).to_toml())
    with pytest.raises(UsageError, match=r"expected one noise_high, got 1\.25 and 1\.0") as caught:
        compare("out", runs=(RUNS[0], f"other={other}"))
    assert "--set noise_high=1.25" in caught.value.hint
    with pytest.raises(UsageError, match=r"has the unknown setting|objective = .cbsn."):
        compare("out", runs=("camera=cbsn-16x4",))
    with pytest.raises(UsageError, match="expected NAME=CONFIG"):
        compare("out", runs=("edge-full-range",))
    assert not (tmp_path / "out").exists()
