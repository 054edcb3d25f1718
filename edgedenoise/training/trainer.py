"""One training run: steps, schedules, log, previews, checkpoints, and going on after a kill.

Every step is a function of the config, of the weights and optimiser, and of its number. A checkpoint holds
all that changes, so a run that was killed and resumed ends with the weights of one that was not: on a CPU, to
the bit.

    RUN/config.toml   checkpoint-last.safetensors   log.csv   previews/step-000500.png   tensorboard/
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import torch

from edgedenoise.errors import TrainingError, UsageError
from edgedenoise.files import write_bytes
from edgedenoise.progress import Progress, silent
from edgedenoise.training.checkpoint import (
    LAST,
    Checkpoint,
    read_checkpoint,
    restore_network,
    restore_optimizer,
    save_checkpoint,
)
from edgedenoise.training.config import RUN_CONFIG
from edgedenoise.training.devices import resolve_device
from edgedenoise.training.logs import RunLog, last_row
from edgedenoise.training.networks import build_network, network_spec
from edgedenoise.training.objectives import Objective, StepLosses, open_objective
from edgedenoise.training.previews import write_preview
from edgedenoise.training.schedules import learning_rate_at, ramp_at

if TYPE_CHECKING:
    from torch import nn

    from edgedenoise.training.config import TrainConfig

_MAY_CHANGE = {
    "version", "data", "out", "steps", "device", "checkpoint_every", "preview_every", "log_every", "cache_mb",
}  # fmt: skip
"""What a resumed run may have otherwise: where things are, and how long it goes on (which stretches the schedules)."""


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


def train_model(config: TrainConfig, *, resume: bool = False, progress: Progress = silent) -> TrainResult:
    """Train a network and leave it in the run folder `config.out`.

    Args:
        config: the run.
        resume: go on where the run folder's last checkpoint stands (at the beginning when it has none yet).
        progress: told of every photograph and of every step.

    Raises:
        UsageError: no data or run folder is named, or the run folder holds a run without `resume`, or it
            holds none with `resume`.
        DatasetError: the photographs cannot be trained on.
        DeviceNotFoundError: the device that was named is not there.
        TrainingError: the checkpoint cannot be used or written, or the loss is no longer a number.
    """
    begun = time.monotonic()
    run = _run_folder(config, resume=resume)
    device = resolve_device(config.device)
    checkpoint = _checkpoint_to_resume(run, config) if resume else None
    objective = open_objective(config, progress=progress)
    # Channels last is what convolutions want, on CPUs and GPUs: 1.4 times the steps per second on a CPU.
    network = build_network(network_spec(config.network), seed=config.seed)
    if config.first_weights == "local-mean":
        network.start_as_local_mean()  # type: ignore[operator]
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    if checkpoint is not None:
        restore_network(checkpoint, network, source=run / LAST)
        restore_optimizer(checkpoint, network, optimizer)
    start = checkpoint.step if checkpoint is not None else 0
    # Absolute, so that the run can be resumed from another folder.
    written = msgspec.structs.replace(config, data=str(Path(config.data).resolve()))
    write_bytes(run / RUN_CONFIG, written.to_toml().encode())
    losses = _train(config, objective, network, optimizer, run=run, start=start, progress=progress)
    return TrainResult(run, config.steps, time.monotonic() - begun, losses)


def _train(
    config: TrainConfig,
    objective: Objective,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    run: Path,
    start: int,
    progress: Progress,
) -> dict[str, float]:
    """Do steps `start` to the end; return the losses of the last one."""
    spec = network_spec(config.network)
    numbers: dict[str, float] = {}
    network.train()
    progress("train", start, config.steps)
    with RunLog(run, ("learning_rate", "ramp", "total", *objective.parts), done=start) as log:
        begun = time.monotonic() - log.seconds_before
        for step in range(start, config.steps):
            losses = _step(config, objective, network, optimizer, step)
            numbers = {"total": losses.total.item()}
            done = step + 1
            if _due(done, config.log_every, config):
                numbers |= {name: value.item() for name, value in losses.parts.items()}
                rates = {"learning_rate": learning_rate_at(config, step), "ramp": ramp_at(config, step)}
                log.add(done, time.monotonic() - begun, numbers | rates)
            if _due(done, config.checkpoint_every, config):
                save_checkpoint(run / LAST, config=config, step=done, network=network, optimizer=optimizer)
            if _due(done, config.preview_every, config):
                write_preview(run / "previews" / f"step-{done:06d}.png", network, spec, objective.photos)
            progress("train", done, config.steps, f"loss {numbers['total']:.4f}")
    if not numbers:  # nothing was left to do
        numbers = {name: value for name, value in last_row(run).items() if name in {"total", *objective.parts}}
    return numbers


def _step(
    config: TrainConfig, objective: Objective, network: nn.Module, optimizer: torch.optim.Optimizer, step: int
) -> StepLosses:
    """Update the weights once."""
    device = next(network.parameters()).device
    batch = tuple(tensor.to(device) for tensor in objective.batch(step))
    losses = objective.losses(network, batch, step)
    value = losses.total.item()
    if not math.isfinite(value):
        # Told before the weights are touched: the last checkpoint is sound.
        raise TrainingError(
            f"the loss became {value} at step {step}",
            hint=f"Train again with a learning_rate below {config.learning_rate:g}; "
            "the weights of the last checkpoint are sound.",
        )
    for group in optimizer.param_groups:
        group["lr"] = learning_rate_at(config, step)
    optimizer.zero_grad(set_to_none=True)
    losses.total.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return losses


def _due(done: int, every: int, config: TrainConfig) -> bool:
    """Tell whether something that happens every so many steps, and at the end, happens now."""
    return done % every == 0 or done == config.steps


def _run_folder(config: TrainConfig, *, resume: bool) -> Path:
    """Return the run folder after making sure that nothing in it would be lost."""
    for key in ("data", "out"):
        if not getattr(config, key):
            what = "folder of noisy photographs" if key == "data" else "folder for the run"
            raise UsageError(f"the config names no {what}", hint=f"Give --{key} DIR, or set {key} in the config.")
    run = Path(config.out)
    if run.exists() and not run.is_dir():
        raise UsageError(f"the run folder {run} cannot be made: a file of that name is there")
    holds_run = (run / RUN_CONFIG).exists() or (run / LAST).exists()
    if holds_run and not resume:
        raise UsageError(
            f"{run} already holds a training run, and nothing of it was touched",
            hint="Go on with it with --resume, or name another folder with --out.",
        )
    if resume and not holds_run:
        raise UsageError(f"there is no training run to resume in {run}", hint="Leave out --resume, or mend --out.")
    return run


def _checkpoint_to_resume(run: Path, config: TrainConfig) -> Checkpoint | None:
    """Return the checkpoint to go on from, or None when the run was killed before its first one."""
    if not (run / LAST).exists():
        return None
    checkpoint = read_checkpoint(run / LAST)
    before, now = msgspec.structs.asdict(checkpoint.config), msgspec.structs.asdict(config)
    for key in before.keys() - _MAY_CHANGE:
        if before[key] != now[key]:
            raise UsageError(
                f"{run} was trained with {key} = {before[key]!r}; it cannot be resumed with {now[key]!r}",
                hint=f"Resume with {key} = {before[key]!r}, or train into another folder.",
            )
    if checkpoint.step > config.steps:
        raise UsageError(f"{run} has {checkpoint.step} steps already, more than steps = {config.steps}")
    return checkpoint
