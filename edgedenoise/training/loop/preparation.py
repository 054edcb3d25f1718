"""Before the first step: check the run folder and the images, and settle what the config leaves open.

What is settled is written to the run's `config.toml`, so that a resumed run does the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgedenoise.bundles.pretrained import SHIPPED
from edgedenoise.datacheck.check import check_images
from edgedenoise.errors import DatasetError, TrainingError, UsageError
from edgedenoise.progress import Progress, silent
from edgedenoise.shell import command_line
from edgedenoise.training.checkpoint import LAST, Checkpoint, read_checkpoint, read_run
from edgedenoise.training.config.config import (
    OFFICIAL_STRIDE,
    RUN_CONFIG,
    BlindConfig,
    DistillConfig,
    SelfQATConfig,
    TrainConfig,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgedenoise.datacheck.check import DataReport

_MAY_CHANGE = {
    "version", "data", "clean", "teacher", "out", "steps", "hours", "device", "val_clean", "val_noisy", "val_mode",
    "data_check", "checkpoint_every", "preview_every", "val_every", "log_every", "cache_mb", "workers", "compile",
    "precision", "estimated_level_share",
}  # fmt: skip
"""Settings that a resumed run may change: locations, its length (which stretches the schedules), its precision (the
last steps may be more exact), and the share of estimated noise levels (true ones are learnt first)."""

_FOLDERS = {
    "data": "folder of noisy images",
    "clean": "folder of clean images",
    "teacher": "run whose network is the teacher",
    "init": "run or bundle to start from",
    "out": "folder for the run",
}


@dataclass(frozen=True)
class PreparedRun:
    """A run that can begin."""

    config: TrainConfig
    """Its settings, with `blind_stride` settled and all folders absolute."""
    run: Path
    """The run folder."""
    checkpoint: Checkpoint | None
    """The state that it goes on from, or None at the beginning."""
    report: DataReport | None
    """Report of the data check; None when the images were not checked now."""

    @property
    def start(self) -> int:
        """Number of steps that are done."""
        return self.checkpoint.step if self.checkpoint is not None else 0

    @property
    def best(self) -> float:
        """Least loss on held-out images so far."""
        return self.checkpoint.best if self.checkpoint is not None else math.inf


def prepare_run(
    config: TrainConfig,
    *,
    resume: bool,
    on_data_check: Callable[[DataReport], None] | None = None,
    progress: Progress = silent,
) -> PreparedRun:
    """Check the run folder and the images, and settle what the config leaves open.

    Args:
        config: the run as it was asked for.
        resume: whether the run goes on.
        on_data_check: called with the report of the data check, where there is one.
        progress: called for every image.

    Raises:
        UsageError, DatasetError, TrainingError: see `trainer.train`.
    """
    run = _run_folder(config, resume=resume)
    checkpoint = read_checkpoint(run / LAST) if resume else None
    before = checkpoint.config if checkpoint is not None else None
    report = None
    if isinstance(config, DistillConfig):
        read_run(config.teacher)  # before minutes are spent on checking the images
    if before is None:
        report = _checked_data(config, on_data_check, progress)
        stride = OFFICIAL_STRIDE if report is None else report.stride
        config = _with_stride(config, stride)
    else:
        config = _as_before(config, before, run)
    if checkpoint is not None and checkpoint.step > config.steps:
        raise UsageError(f"{run} has {checkpoint.step} steps already, more than steps = {config.steps}")
    # Absolute, so that the run can be resumed from another folder.
    folders = {key: getattr(config, key, "") for key in ("data", "clean", "teacher", "init", "val_clean", "val_noisy")}
    absolute = {key: str(Path(folder).resolve()) for key, folder in folders.items() if folder}
    if config.init in SHIPPED:
        absolute["init"] = config.init  # a shipped bundle, which is found by its name wherever the package is
    return PreparedRun(msgspec.structs.replace(config, **absolute), run, checkpoint, report)


def _checked_data(
    config: TrainConfig, on_data_check: Callable[[DataReport], None] | None, progress: Progress
) -> DataReport | None:
    """Check the noisy images of a config, and refuse those that cannot be trained on."""
    if not isinstance(config, (BlindConfig, DistillConfig, SelfQATConfig)) or config.data_check == "off":
        return None
    report = check_images(config.data, progress=progress)
    if on_data_check is not None:
        on_data_check(report)
    if report.refusals and config.data_check == "refuse":
        first = report.refusals[0]
        raise DatasetError(
            f"{config.data} cannot be trained on: {first.message}",
            hint=f"{first.hint} To train anyway: --set data_check=warn",
        )
    return report


def _with_stride(config: TrainConfig, stride: int) -> TrainConfig:
    """Return the config with `blind_stride` settled, where it has one that is still `auto`."""
    if isinstance(config, (BlindConfig, DistillConfig)) and config.blind_stride == "auto":
        return msgspec.structs.replace(config, blind_stride=stride)
    return config


def _as_before(config: TrainConfig, before: TrainConfig, run: Path) -> TrainConfig:
    """Return the config of a resumed run, after checking that it is the same run."""
    if config.hours:  # became steps when the run started
        config = msgspec.structs.replace(config, steps=before.steps, hours=0.0)
    if config.precision == "auto":
        config = msgspec.structs.replace(config, precision=before.precision)
    if isinstance(before, (BlindConfig, DistillConfig)) and isinstance(before.blind_stride, int):
        config = _with_stride(config, before.blind_stride)
    if type(before) is not type(config):
        raise UsageError(
            f"{run} was trained with objective = {before.objective!r}; it cannot be resumed with {config.objective!r}",
            hint=f"Resume with objective = {before.objective!r}, or train into another folder.",
        )
    was, now = msgspec.structs.asdict(before), msgspec.structs.asdict(config)
    if not before.quantization_aware:  # only that reads `init` again, for its targets; elsewhere it may have moved
        was["init"] = now["init"] = was["init"] and now["init"] and was["init"]
    for key in was.keys() - _MAY_CHANGE:
        if was[key] != now[key]:
            raise UsageError(
                f"{run} was trained with {key} = {was[key]!r}; it cannot be resumed with {now[key]!r}",
                hint=f"Resume with {key} = {was[key]!r}, or train into another folder.",
            )
    return config


def _run_folder(config: TrainConfig, *, resume: bool) -> Path:
    """Return the run folder, after checking that nothing in it would be lost."""
    run = Path(config.out)
    if resume and config.out and not ((run / LAST).exists() or (run / RUN_CONFIG).exists()):
        raise UsageError(
            f"there is no training run to resume in {run}", hint="Train without --resume, or correct --out."
        )
    for key in config.needed_folders:
        if not getattr(config, key):
            raise UsageError(
                f"the config names no {_FOLDERS[key]}", hint=f"Give it with --{key}, or set {key} in the config."
            )
    if not resume and (run / RUN_CONFIG).exists() and not (run / LAST).exists():
        return run  # it was stopped before its first checkpoint: there is nothing to lose
    if not resume:
        return new_run_folder(run, hint="Continue it with --resume, or name another folder with --out.")
    if not (run / LAST).exists():
        raise TrainingError(
            f"{run} has no checkpoint to resume from: the run was stopped before it wrote one",
            hint=f"Start it again with: {command_line('train', '--config', run / RUN_CONFIG, '--out', run)}",
        )
    return run


def new_run_folder(run: Path, *, hint: str) -> Path:
    """Return the folder of a new run, after checking that nothing in it would be lost.

    Args:
        run: the folder; it need not exist.
        hint: hint of the error when it holds a run.

    Raises:
        UsageError: the folder is a file, or holds a run.
    """
    if run.exists() and not run.is_dir():
        raise UsageError(f"the run folder {run} cannot be made: a file of that name is there")
    if (run / RUN_CONFIG).exists() or (run / LAST).exists():
        raise UsageError(f"{run} already holds a training run; nothing was changed", hint=hint)
    return run
