"""Train a network: steps, schedules, logs, validations, checkpoints, and resuming after a kill.

Every step is a function of the config, of the weights and optimiser, and of its number. A checkpoint holds
all that changes, so a run that was killed and resumed ends with the weights of one that was not: on a CPU
bit for bit, and with another number of processes up to rounding.

    RUN/config.toml    the settings, with every `auto` settled
        data-check.json                   report of the data check
        checkpoint-last.safetensors       checkpoint-best.safetensors
        log.csv   validation.csv   curves.png   previews/step-001000.png   tensorboard/
"""

from __future__ import annotations

import logging
import math
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import torch

from edgedenoise.atomic import write_bytes
from edgedenoise.errors import TrainingError, UsageError
from edgedenoise.locks import one_writer
from edgedenoise.progress import Progress, silent
from edgedenoise.training.checkpoint import LAST, restore_network, restore_optimizer
from edgedenoise.training.config.config import RUN_CONFIG
from edgedenoise.training.data.prefetch import prefetched
from edgedenoise.training.initial_weights import initial_network
from edgedenoise.training.loop.distributed import joined_world
from edgedenoise.training.loop.interruption import interruption_error, stop_requests
from edgedenoise.training.loop.logs import LOG, read_columns
from edgedenoise.training.loop.preparation import PreparedRun, prepare_run
from edgedenoise.training.loop.recorder import Recorder, is_due
from edgedenoise.training.loop.stepping import Stepper
from edgedenoise.training.loop.throughput import StepTimer, Throughput, peak_gflops, step_gflop
from edgedenoise.training.loop.trials import settled_precision, steps_in
from edgedenoise.training.loop.validation import Validator
from edgedenoise.training.objectives.objective import open_objective
from edgedenoise.training.torch_device import memory_layout, resolve_device

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from edgedenoise.datacheck.check import DataReport
    from edgedenoise.training.config.config import TrainConfig
    from edgedenoise.training.loop.distributed import World
    from edgedenoise.training.objectives.objective import Objective

_log = logging.getLogger(__name__)

DATA_CHECK = "data-check.json"
"""Name of the data check's report in a run folder."""


@dataclass(frozen=True)
class TrainResult:
    """Result of a training run."""

    run: Path
    """The run folder: what `load_network` and `edgedenoise build` take as their checkpoint."""
    steps: int
    """Number of steps that are done, those before a resume included."""
    seconds: float
    """Time spent in this call."""
    losses: dict[str, float]
    """Losses of the last step: `total` and its parts."""
    best: float | None
    """Least loss on held-out images; None when none were held out, and on ranks above 0."""
    precision: str
    """Arithmetic of the network in training: `fp32` or `bf16`."""
    throughput: Throughput | None
    """Speed of the steps of this call on this process; None when there were none."""
    rank: int = 0
    """Rank of this process: above 0 only under torchrun, where every process returns."""


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
        config: settings of the run.
        resume: continue from the last checkpoint of the run folder.
        on_data_check: called with the report of the data check, before training; not on a resume.
        progress: called for every image and every step, on rank 0.

    Returns:
        The run folder, the losses of the last step, and the speed.

    Raises:
        UsageError: the config names no data or run folder; the run folder holds a run and `resume` is not set; or
            it holds none and `resume` is set.
        DatasetError: the images cannot be trained on.
        DeviceNotFoundError: the named device is not on this machine.
        TrainingError: there is no checkpoint to resume from, it cannot be used or written, another command trains in
            the run folder, the loss is not finite, or memory is exhausted.
        TrainingInterrupted: Ctrl-C or SIGTERM; a checkpoint was written after the step that was running.

    Example:
        >>> import edgedenoise
        >>> config = edgedenoise.TrainConfig.named("cbsn-16x4", data="photos", out="runs/new", steps=2)
        >>> edgedenoise.train(config).steps  # 2000 steps or more give a useful network
        2
    """
    begun = time.monotonic()
    with ExitStack() as stack:
        world = stack.enter_context(joined_world(config.device))
        if not world.is_first:
            progress, on_data_check = silent, None
        asked = config

        def prepare() -> PreparedRun:
            if asked.out:
                stack.enter_context(one_writer(Path(asked.out), TrainingError))
            return prepare_run(asked, resume=resume, on_data_check=on_data_check, progress=progress)

        prepared = world.first(prepare)
        config = prepared.config
        world.share_of(config.batch)
        if config.quantization_aware and world.size > 1:
            raise UsageError(
                f"objective = {config.objective!r} was started in {world.size} processes, each of which would observe "
                "other ranges; expected one process",
                hint="Train in one process.",
            )
        device = resolve_device(config.device, local_rank=world.local_rank)
        objective = open_objective(config, progress=progress)
        network = _first_network(prepared).to(device)
        config = _settled(prepared, objective, network, world)
        stepper = Stepper(config, objective, network, world)
        _restore(prepared, stepper)
        validator = Validator(config, objective, config.spec, best=prepared.best)
        if world.is_first:
            write_bytes(prepared.run / RUN_CONFIG, config.to_toml().encode())
            if prepared.report is not None:
                write_bytes(prepared.run / DATA_CHECK, msgspec.json.format(msgspec.json.encode(prepared.report)))
        losses, timer = _train(stepper, validator, prepared, progress)
        throughput = _throughput(timer, stepper)
    best = None if math.isinf(validator.best) else validator.best
    seconds = time.monotonic() - begun
    return TrainResult(prepared.run, config.steps, seconds, losses, best, config.precision, throughput, rank=world.rank)


def _first_network(prepared: PreparedRun) -> nn.Module:
    """Build the network; the weights of `init` are not needed where a checkpoint replaces them."""
    config = prepared.config
    return initial_network(config if prepared.checkpoint is None else msgspec.structs.replace(config, init=""))


def _settled(prepared: PreparedRun, objective: Objective, network: nn.Module, world: World) -> TrainConfig:
    """Return the config of a run with its precision and its steps measured; lay `network` out for that precision."""
    config = prepared.config
    if prepared.checkpoint is None or config.precision == "auto":
        precision = settled_precision(config, objective, network, world)
        config = msgspec.structs.replace(config, precision=precision)
    device = next(network.parameters()).device
    network.to(memory_format=memory_layout(device, config.precision))  # type: ignore[call-overload]
    if config.hours:
        steps = steps_in(config, objective, network, world)
        config = msgspec.structs.replace(config, steps=steps, hours=0.0)
    return config


def _restore(prepared: PreparedRun, stepper: Stepper) -> None:
    """Restore the weights, their means and the optimiser's state of the checkpoint that is resumed, if any."""
    checkpoint = prepared.checkpoint
    if checkpoint is not None:
        restore_network(checkpoint.network, stepper.network, source=prepared.run / LAST)
        restore_optimizer(checkpoint, stepper.network, stepper.optimizer)
    stepper.average.restore(checkpoint.mean if checkpoint is not None else {})


def _train(
    stepper: Stepper, validator: Validator, prepared: PreparedRun, progress: Progress
) -> tuple[dict[str, float], StepTimer]:
    """Run the steps that are left; return the losses of the last one, and the time of the steps."""
    config, objective, world, start = stepper.config, stepper.objective, stepper.world, prepared.start
    names = ("total", *objective.parts)
    samples = world.share_of(config.batch)
    batches = prefetched(lambda step: objective.batch(step, samples), start, config.steps, workers=config.workers)
    stepper.network.train()
    progress("train", start, config.steps)
    with ExitStack() as stack:
        stack.enter_context(closing(batches))
        request = stack.enter_context(stop_requests())
        recorder = stack.enter_context(Recorder(prepared, stepper, validator)) if world.is_first else None
        losses: dict[str, float] = {}
        timer = StepTimer()
        for done, batch in enumerate(batches, start=start + 1):
            numbers = stepper.step(done - 1, batch)
            timer.stop()
            if is_due(done, config.log_every, config):
                losses = dict(zip(names, [numbers.total, *world.mean(numbers.parts).tolist()], strict=True))
                if recorder is not None:
                    recorder.log(done, losses, numbers.gradient_norm)
            if recorder is not None:
                if recorder.is_validation_due(done):
                    progress("train", done, config.steps, "validating")
                recorder.write(done)
            progress("train", done, config.steps, f"loss {numbers.total:.4f}")
            if world.any(request.signal_number > 0) and done < config.steps:
                if recorder is not None:
                    recorder.save(done)
                raise interruption_error(request, prepared.run, done)
            timer.start()
    if not losses:  # nothing was left to do
        last = {name: float(values[-1]) for name, values in read_columns(prepared.run / LOG).items()}
        losses = {name: last[name] for name in names if name in last}
    return losses, timer


def _throughput(timer: StepTimer, stepper: Stepper) -> Throughput | None:
    """Measure the device's peak, and return and log the speed of the steps; None when there were none."""
    if not timer.has_steps:
        return None
    device = next(stepper.network.parameters()).device
    work = step_gflop(stepper.objective, stepper.network, stepper.world.share_of(stepper.config.batch))
    peak = peak_gflops(device, torch.bfloat16 if stepper.config.precision == "bf16" else torch.float32)
    speed = timer.throughput(work, peak)
    _log.info(
        "%.3g steps a second on %s with %d threads, in %s: %.3g GFLOP/s, %.0f %% of the %.3g GFLOP/s that a matrix "
        "product reaches here",
        speed.steps_per_second,
        device,
        torch.get_num_threads(),
        stepper.config.precision,
        speed.gflops,
        100 * speed.share_of_peak,
        peak,
    )
    return speed
