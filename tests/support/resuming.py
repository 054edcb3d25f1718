"""Trainings that are stopped, and the comparison of a resumed one with one that ran through."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from edgedenoise.training.checkpoint import LAST, read_checkpoint

if TYPE_CHECKING:
    from pathlib import Path


class Stopped(Exception):
    """Raised by `stop`."""


def stop(stage: str, done: int, total: int, note: str = "") -> None:
    """Stop a training after its fifth step."""
    if stage == "train" and done == 5:
        raise Stopped


def check_same_end(one: Path, other: Path) -> None:
    """Assert that two trainings ended with the same weights, their means and the same best score."""
    mine, theirs = (read_checkpoint(run / LAST) for run in (one, other))
    for found, expected in ((mine.network, theirs.network), (mine.mean, theirs.mean)):
        assert found.keys() == expected.keys()
        assert all(torch.equal(value, expected[name]) for name, value in found.items())
    assert mine.best == theirs.best
