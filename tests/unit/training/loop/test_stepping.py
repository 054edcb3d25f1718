"""What goes wrong in a step is told, and costs nothing that was learnt."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import edgedenoise
from edgedenoise.errors import TrainingError
from edgedenoise.training.checkpoint import LAST, load_network, read_checkpoint
from edgedenoise.training.objectives import objective as objectives


def with_losses(monkeypatch, change):
    """Pass the losses of every step through `change(losses, batch, step)` before the trainer sees them."""
    losses = objectives.CBSNObjective.losses
    monkeypatch.setattr(
        objectives.CBSNObjective,
        "losses",
        lambda self, network, batch, step: change(losses(self, network, batch, step), batch, step),
    )


def test_a_loss_that_is_no_number_keeps_its_batch_and_leaves_the_last_checkpoint_sound(config, monkeypatch):
    def broken(losses, batch, step):
        return objectives.StepLosses(losses.total * float("nan"), losses.parts) if step == 4 else losses

    with_losses(monkeypatch, broken)
    with pytest.raises(TrainingError, match=r"loss became nan at step 4; the batch is in .*bad-batch-step-000004"):
        edgedenoise.train(config)
    network, _ = load_network(config.out)
    assert read_checkpoint(Path(config.out) / LAST).step == 3
    assert all(parameter.isfinite().all() for parameter in network.parameters())
    saved = load_file(Path(config.out) / "bad-batch-step-000004.safetensors")
    patches, mask = objectives.open_objective(config).batch(4, range(2))
    assert torch.equal(saved["0"], patches)
    assert torch.equal(saved["1"], mask)


def test_a_gradient_that_is_no_number_is_told_before_the_weights_are_touched(config, monkeypatch):
    def broken(losses, batch, step):
        zero = losses.total - losses.total.detach()
        return objectives.StepLosses(losses.total + (zero.sqrt() if step == 5 else 0), losses.parts)

    with_losses(monkeypatch, broken)
    with pytest.raises(TrainingError, match=r"gradient's norm became (nan|inf) at step 5"):
        edgedenoise.train(config)


def test_running_out_of_memory_names_a_batch_that_fits(config, monkeypatch):
    def narrow(losses, batch, step):
        if len(batch[0]) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")
        return losses

    with_losses(monkeypatch, narrow)
    with pytest.raises(TrainingError, match="batch = 12 and patch = 20; batch = 3 was tried and fits") as caught:
        edgedenoise.train(config.with_overrides(["batch=12"]))
    assert "--batch 3" in caught.value.hint


def test_running_out_of_memory_with_one_sample_says_so(config, monkeypatch):
    def none(losses, batch, step):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 20 bytes")

    with_losses(monkeypatch, none)
    with pytest.raises(TrainingError, match="a single sample does not fit") as caught:
        edgedenoise.train(config)
    assert "smaller patch" in caught.value.hint


def test_what_a_failed_step_held_is_given_back_before_a_smaller_one_is_tried(config, monkeypatch):
    class Activations:
        """What a step has made when memory ends."""

    made, in_the_way = [], []

    def narrow(losses, batch, step):
        in_the_way.append(sum(held() is not None for held in made))
        if len(batch[0]) > 3:
            activations = Activations()
            made.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return losses

    with_losses(monkeypatch, narrow)
    with pytest.raises(TrainingError, match="batch = 3 was tried and fits"):
        edgedenoise.train(config.with_overrides(["batch=12"]))
    assert in_the_way == [0, 0, 0]


def test_compiling_without_a_compiler_says_what_is_missing(config, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(TrainingError, match="no-such-compiler") as caught:
        edgedenoise.train(config.with_overrides(["compile=true"]))
    assert "--set compile=false" in caught.value.hint
