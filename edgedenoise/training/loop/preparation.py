"""Before the first step: where a run begins, what its images are, and what `auto` and `hours` come to.

What is settled here is written to the run's `config.toml`, so that a resumed run does the very same thing.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgedenoise.bundles.pretrained import resolve
from edgedenoise.datacheck.check import check_photographs
from edgedenoise.errors import DatasetError, UsageError
from edgedenoise.progress import Progress, silent
from edgedenoise.training.checkpoint import LAST, Checkpoint, read_checkpoint, read_run
from edgedenoise.training.config.config import OFFICIAL_STRIDE, RUN_CONFIG, TrainConfig
from edgedenoise.training.loop.distributed import World
from edgedenoise.training.loop.stepping import Stepper

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from edgedenoise.datacheck.check import DataReport
    from edgedenoise.training.objectives.objective import Objective

_log = logging.getLogger(__name__)

_MAY_CHANGE = {
    "version", "data", "clean", "teacher", "out", "steps", "hours", "device", "val_clean", "val_noisy", "val_mode",
    "data_check", "checkpoint_every", "preview_every", "val_every", "log_every", "cache_mb", "workers", "compile",
}  # fmt: skip
"""What a resumed run may have otherwise: where things are, and how long it goes on (which stretches the schedules)."""

_FOLDERS = {
    "data": "folder of noisy images",
    "clean": "folder of clean images",
    "teacher": "run whose network is the teacher",
    "init": "run or bundle to begin with",
    "out": "folder for the run",
}

_TRIAL_STEPS = 3
_TRIAL_SECONDS = 3.0
_TRAINING_SHARE = 0.95
"""Of the hours; the rest is for validations, previews and checkpoints."""


@dataclass(frozen=True)
class Plan:
    """A run that can begin."""

    config: TrainConfig
    """With `blind_stride` settled."""
    run: Path
    checkpoint: Checkpoint | None
    """Where it goes on, or None at the beginning."""
    report: DataReport | None
    """What the images were found to be; None when that was not looked at now."""

    @property
    def start(self) -> int:
        """Steps that are done."""
        return self.checkpoint.step if self.checkpoint is not None else 0

    @property
    def best(self) -> float:
        """Least loss on held-out images so far."""
        return self.checkpoint.best if self.checkpoint is not None else math.inf


def plan_run(
    config: TrainConfig,
    *,
    resume: bool,
    on_data_check: Callable[[DataReport], None] | None = None,
    progress: Progress = silent,
) -> Plan:
    """Look at the run folder and at the images, and settle what the config leaves open.

    Raises:
        UsageError, DatasetError, TrainingError: see `trainer.train`.
    """
    run = _run_folder(config, resume=resume)
    checkpoint = read_checkpoint(run / LAST) if resume and (run / LAST).exists() else None
    before = checkpoint.config if checkpoint is not None else None
    if before is None and resume and (run / RUN_CONFIG).exists():
        before = TrainConfig.from_toml(run / RUN_CONFIG)
    report = None
    if config.teacher:
        read_run(config.teacher)  # before minutes are spent on looking at the images
    if before is None:
        report = _checked_data(config, on_data_check, progress)
        stride = OFFICIAL_STRIDE if report is None else report.stride
        config = _with_stride(config, stride)
    else:
        config = _as_before(config, before, run)
    if checkpoint is not None and checkpoint.step > config.steps:
        raise UsageError(f"{run} has {checkpoint.step} steps already, more than steps = {config.steps}")
    # Absolute, so that the run can be resumed from another folder.
    folders = {key: getattr(config, key) for key in ("data", "clean", "teacher", "init", "val_clean", "val_noisy")}
    absolute = {key: str(Path(folder).resolve()) if folder else "" for key, folder in folders.items()}
    if config.init and resolve(config.init) != Path(config.init):
        absolute["init"] = config.init  # a shipped one, found again wherever the package is
    return Plan(msgspec.structs.replace(config, **absolute), run, checkpoint, report)


def steps_in(config: TrainConfig, objective: Objective, network: nn.Module, world: World) -> int:
    """Return how many steps fit into `config.hours` here, by doing some on a copy that is thrown away.

    Every process calls this at the same time: they share the machine then as they will in training.
    """
    stepper = Stepper(config, objective, copy.deepcopy(network), World())
    samples = world.share_of(config.batch)
    batch = objective.batch(0, samples)
    stepper.step(0, batch)  # allocations and, maybe, compilation
    begun, steps = time.monotonic(), 0
    while steps < _TRIAL_STEPS or time.monotonic() - begun < _TRIAL_SECONDS:
        stepper.step(0, batch)
        steps += 1
    seconds = world.mean_of((time.monotonic() - begun) / steps)
    wanted = max(1, int(config.hours * 3600 * _TRAINING_SHARE / seconds))
    _log.info("%.3f seconds a step: %d steps in %g hours", seconds, wanted, config.hours)
    return wanted


def _checked_data(
    config: TrainConfig, on_data_check: Callable[[DataReport], None] | None, progress: Progress
) -> DataReport | None:
    """Look at the images, and refuse those that cannot be trained on."""
    if config.data_check == "off" or not config.data:
        return None
    report = check_photographs(config.data, progress=progress)
    if on_data_check is not None:
        on_data_check(report)
    if report.refusals and config.data_check == "refuse":
        first = report.refusals[0]
        raise DatasetError(
            f"{config.data} cannot be trained on: {first.message}",
            hint=f"{first.hint} To train all the same: --set data_check=warn",
        )
    return report


def _with_stride(config: TrainConfig, stride: int) -> TrainConfig:
    """Settle `blind_stride`."""
    return msgspec.structs.replace(config, blind_stride=stride) if config.blind_stride == "auto" else config


def _as_before(config: TrainConfig, before: TrainConfig, run: Path) -> TrainConfig:
    """Return the config of a run that goes on, after making sure that it is the same one."""
    if config.hours:  # was turned into steps when the run began
        config = msgspec.structs.replace(config, steps=before.steps, hours=0.0)
    if before.blind_stride != "auto":
        config = _with_stride(config, before.blind_stride)
    was, now = msgspec.structs.asdict(before), msgspec.structs.asdict(config)
    if before.objective == "qat" and bool(before.clean) != bool(config.clean):
        raise UsageError(
            f"{run} was trained on {'clean' if before.clean else 'noisy'} images; it cannot be resumed on others",
            hint=f"Give --{'clean' if before.clean else 'data'} DIR, or train into another folder.",
        )
    if before.objective != "qat":  # which asks it for targets; of the others, where it lies does not matter any more
        was["init"] = now["init"] = was["init"] and now["init"] and was["init"]
    for key in was.keys() - _MAY_CHANGE:
        if was[key] != now[key]:
            raise UsageError(
                f"{run} was trained with {key} = {was[key]!r}; it cannot be resumed with {now[key]!r}",
                hint=f"Resume with {key} = {was[key]!r}, or train into another folder.",
            )
    return config


def _run_folder(config: TrainConfig, *, resume: bool) -> Path:
    """Return the run folder after making sure that nothing in it would be lost."""
    for key in config.needed_folders:
        if not getattr(config, key):
            raise UsageError(
                f"the config names no {_FOLDERS[key]}", hint=f"Give --{key} DIR, or set {key} in the config."
            )
    run = Path(config.out)
    if not resume:
        return new_run_folder(run, hint="Go on with it with --resume, or name another folder with --out.")
    if not _holds_run(run):
        raise UsageError(f"there is no training run to resume in {run}", hint="Leave out --resume, or fix --out.")
    return run


def new_run_folder(run: Path, *, hint: str) -> Path:
    """Return the folder of a run that is to be made, after making sure that nothing in it would be lost.

    Args:
        run: the folder; it need not exist.
        hint: what to do when it holds a run.

    Raises:
        UsageError: it is a file, or holds a run.
    """
    if run.exists() and not run.is_dir():
        raise UsageError(f"the run folder {run} cannot be made: a file of that name is there")
    if _holds_run(run):
        raise UsageError(f"{run} already holds a training run, and nothing of it was touched", hint=hint)
    return run


def _holds_run(run: Path) -> bool:
    return (run / RUN_CONFIG).exists() or (run / LAST).exists()
