"""Several processes train as one would."""

from __future__ import annotations

import csv
import subprocess
import sys

import pytest
import torch

import edgedenoise
from edgedenoise.errors import UsageError
from edgedenoise.training.checkpoint import LAST, read_checkpoint
from edgedenoise.training.loop.distributed import World


def torchrun(config, tmp_path, *arguments):
    """Train in two processes on the CPU, which talk over gloo."""
    path = tmp_path / "config.toml"
    path.write_text(config.to_toml())
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launcher, "-m", "edgedenoise", "train", "--config", str(path), *arguments]
    child = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
    assert child.returncode == 0, child.stderr[-3000:]
    assert child.stdout.count("trained") == 1, "one of the processes speaks"


def curve(run):
    with (run / "log.csv").open(newline="") as stream:
        return [(int(row["step"]), float(row["total"])) for row in csv.DictReader(stream)]


def test_two_processes_give_the_curve_of_one_and_any_number_goes_on(config, tmp_path):
    config = config.with_overrides(["batch=4", "log_every=1", "held_out=1", "val_every=5"])
    one = edgedenoise.train(config.with_overrides([f"out={tmp_path / 'one'}"])).run
    # Six steps in two processes, and the other four in one.
    two = tmp_path / "two"
    first = config.with_overrides([f"out={two}", "steps=6", "schedule=constant", "ramp_fraction=0"])
    torchrun(first, tmp_path)
    alone = edgedenoise.train(first.with_overrides([f"out={tmp_path / 'alone'}"])).run
    assert [step for step, _ in curve(two)] == list(range(1, 7))
    assert [loss for _, loss in curve(two)] == pytest.approx([loss for _, loss in curve(alone)], rel=1e-4)

    longer = first.with_overrides(["steps=10"])
    edgedenoise.train(longer, resume=True)
    torchrun(longer.with_overrides([f"out={alone}"]), tmp_path, "--resume")
    assert [loss for _, loss in curve(two)] == pytest.approx([loss for _, loss in curve(alone)], rel=1e-4)
    for run in (two, alone):
        assert read_checkpoint(run / LAST).step == 10
    mine, theirs = read_checkpoint(two / LAST).network, read_checkpoint(alone / LAST).network
    # Adam divides by the gradient's size, so that rounding of a tiny gradient moves a weight by part of a step.
    assert all((mine[name] - theirs[name]).abs().max() < 10 * config.learning_rate for name in mine)
    assert torch.cat([(mine[n] - theirs[n]).abs().flatten() for n in mine]).mean() < 0.1 * config.learning_rate
    assert curve(one)[0][1] > 0


def test_a_batch_is_shared_out_without_gap_or_overlap():
    shares = [list(World(rank, 3).share_of(6)) for rank in range(3)]
    assert shares == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(UsageError, match="batch = 4 cannot be divided among 3 processes") as caught:
        World(0, 3).share_of(4)
    assert "--batch 6" in caught.value.hint


def test_alone_nothing_is_exchanged():
    world, value = World(), torch.tensor(3.0)
    assert world.mean(value) == value
    assert world.mean_of(2.5) == 2.5
    assert world.first(lambda: "said") == "said"
    module = torch.nn.Conv2d(1, 1, 1)
    assert world.wrap(module) is module
