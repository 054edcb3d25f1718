"""One training run: steps, schedules, logs, validations, checkpoints, and going on after a kill.

Every step is a function of the config, of the weights and optimiser, and of its number. A checkpoint holds
all that changes, so a run that was killed and resumed ends with the weights of one that was not: on a CPU, to
the bit; and with another number of processes, but for rounding.

    RUN/config.toml    what was trained, with every `auto` settled
        data-check.json                   what the images were found to be
        checkpoint-last.safetensors       checkpoint-best.safetensors
        log.csv   validation.csv   curves.png   previews/step-001000.png   tensorboard/
"""

from __future__ import annotations

import math
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import torch

from edgedenoise.errors import UsageError
from edgedenoise.files import write_bytes
from edgedenoise.progress import Progress, silent
from edgedenoise.training.checkpoint import LAST, restore_network, restore_optimizer
from edgedenoise.training.config.config import RUN_CONFIG
from edgedenoise.training.data.prefetch import prefetched
from edgedenoise.training.initial_weights import initial_network
from edgedenoise.training.loop.distributed import joined_world
from edgedenoise.training.loop.logs import LOG, read_columns
from edgedenoise.training.loop.preparation import Plan, plan_run, steps_in
from edgedenoise.training.loop.recorder import Recorder, is_due
from edgedenoise.training.loop.stepping import Stepper
from edgedenoise.training.loop.torch_device import resolve_device
from edgedenoise.training.loop.validation import Validator
from edgedenoise.training.networks.families import network_spec
from edgedenoise.training.objectives.objective import open_objective

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from edgedenoise.datacheck.check import DataReport
    from edgedenoise.training.config.config import TrainConfig

DATA_CHECK = "data-check.json"
"""Name of the data check's report in a run folder."""


@dataclass(frozen=True)
class TrainResult:
    """What a training run came to."""

    run: Path
    """The run folder: what `load_network` and `edgedenoise build` take."""
    steps: int
    """Steps that are done, those before a resume included."""
    seconds: float
    """Time spent in this call."""
    losses: dict[str, float]
    """Of the last step: `total` and its parts."""
    best: float | None
    """Least loss on held-out images; None when none were held out, and on ranks above 0."""
    rank: int = 0
    """Of this process: above 0 only under torchrun, where every process returns."""


def train(
    config: TrainConfig,
    *,
    resume: bool = False,
    on_data_check: Callable[[DataReport], None] | None = None,
    progress: Progress = silent,
) -> TrainResult:
    """Train a network and leave it in the run folder `config.out`.

    Under torchrun every process calls this; they train as one, and rank 0 writes.

    Args:
        config: the run.
        resume: go on where the run folder's last checkpoint stands (at the beginning when it has none yet).
        on_data_check: called with what the images were found to be, before training; not on a resume.
        progress: told of every image and of every step, on rank 0.

    Raises:
        UsageError: no data or run folder is named, or the run folder holds a run without `resume`, or it
            holds none with `resume`.
        DatasetError: the images cannot be trained on.
        DeviceNotFoundError: the device that was named is not there.
        TrainingError: the checkpoint cannot be used or written, the loss is no longer a number, or memory is at
            its end.
    """
    begun = time.monotonic()
    with joined_world(config.device) as world:
        if not world.is_first:
            progress, on_data_check = silent, None
        plan = world.first(lambda: plan_run(config, resume=resume, on_data_check=on_data_check, progress=progress))
        config = plan.config
        world.share_of(config.batch)
        if config.objective == "qat" and world.size > 1:
            raise UsageError(
                f"objective = 'qat' was started in {world.size} processes, each of which would see other ranges; "
                "accepted: one",
                hint="Train in one process.",
            )
        device = resolve_device(config.device, local_rank=world.local_rank)
        objective = open_objective(config, progress=progress)
        # Channels last is what convolutions want, on CPUs and GPUs; benchmarks/train_step.py has the gain on a CPU.
        network = _first_network(plan).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.hours:
            steps = steps_in(config, objective, network, world)
            config = msgspec.structs.replace(config, steps=steps, hours=0.0)
        stepper = Stepper(config, objective, network, world)
        _restore(plan, stepper)
        validator = Validator(config, objective, network_spec(config.network), best=plan.best)
        if world.is_first:
            write_bytes(plan.run / RUN_CONFIG, config.to_toml().encode())
            if plan.report is not None:
                write_bytes(plan.run / DATA_CHECK, msgspec.json.format(msgspec.json.encode(plan.report)))
        losses = _train(stepper, validator, plan, progress)
    best = None if math.isinf(validator.best) else validator.best
    return TrainResult(plan.run, config.steps, time.monotonic() - begun, losses, best, world.rank)


def _first_network(plan: Plan) -> nn.Module:
    """Build the network; the weights of `init` are not needed where a checkpoint replaces them."""
    return initial_network(plan.config if plan.checkpoint is None else msgspec.structs.replace(plan.config, init=""))


def _restore(plan: Plan, stepper: Stepper) -> None:
    """Take up the weights, their means and the optimiser's state of the checkpoint that is resumed, if any."""
    checkpoint = plan.checkpoint
    if checkpoint is not None:
        restore_network(checkpoint.network, stepper.network, source=plan.run / LAST)
        restore_optimizer(checkpoint, stepper.network, stepper.optimizer)
    stepper.average.restore(checkpoint.mean if checkpoint is not None else {})


def _train(stepper: Stepper, validator: Validator, plan: Plan, progress: Progress) -> dict[str, float]:
    """Do the steps that are left; return the losses of the last one."""
    config, objective, world = stepper.config, stepper.objective, stepper.world
    names = ("total", *objective.parts)
    samples = world.share_of(config.batch)
    batches = prefetched(lambda step: objective.batch(step, samples), plan.start, config.steps, workers=config.workers)
    stepper.network.train()
    progress("train", plan.start, config.steps)
    with ExitStack() as stack:
        stack.enter_context(closing(batches))
        recorder = stack.enter_context(Recorder(plan, stepper, validator)) if world.is_first else None
        losses: dict[str, float] = {}
        for done, batch in enumerate(batches, start=plan.start + 1):
            found = stepper.step(done - 1, batch)
            if is_due(done, config.log_every, config):
                losses = dict(zip(names, [found.total, *world.mean(found.parts).tolist()], strict=True))
                if recorder is not None:
                    recorder.log(done, losses, found.gradient_norm)
            if recorder is not None:
                recorder.look(done)
            progress("train", done, config.steps, f"loss {found.total:.4f}")
    if not losses:  # nothing was left to do
        last = {name: float(values[-1]) for name, values in read_columns(plan.run / LOG).items()}
        losses = {name: last[name] for name in names if name in last}
    return losses
