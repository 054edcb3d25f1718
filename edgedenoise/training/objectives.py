"""What one step minimises, by name.

An objective owns its data: it draws the batch of a step and turns it into losses. The trainer knows no more.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

import numpy as np
import torch

from edgedenoise.progress import Progress, silent
from edgedenoise.training.data import NoisyFolder
from edgedenoise.training.draws import Stream, draw
from edgedenoise.training.losses import cbsn_losses
from edgedenoise.training.schedules import ramp_at

if TYPE_CHECKING:
    from torch import nn

    from edgedenoise.training.config import TrainConfig

Batch = tuple[torch.Tensor, ...]
"""What one step needs, on the CPU; what is in it is between `batch` and `losses` of one objective."""


@dataclass(frozen=True)
class StepLosses:
    """The losses of one step, scalar tensors."""

    total: torch.Tensor
    """What is minimised."""
    parts: dict[str, torch.Tensor]
    """What it is made of, for the log; the same names at every step."""


class Objective(Protocol):
    """Made once per run, as `factory(config, progress=...)`."""

    parts: ClassVar[tuple[str, ...]]
    """Names of the parts of the loss."""
    photos: NoisyFolder
    """Where previews are taken from."""

    def batch(self, step: int) -> Batch:
        """Draw what `step` trains on; a function of the config's seed and of `step`."""

    def losses(self, network: nn.Module, batch: Batch, step: int) -> StepLosses:
        """Return the losses of `batch`, wherever its tensors are."""


class CBSNObjective:
    """C-BSN from noisy photographs alone: L_blind + s (L_self + lambda L_inv); see `losses.py`."""

    parts: ClassVar[tuple[str, ...]] = ("blind", "self", "inv")

    def __init__(self, config: TrainConfig, *, progress: Progress = silent) -> None:
        self.config = config
        self.photos = NoisyFolder(
            config.data,
            patch=config.patch,
            statistics=config.statistics,
            cache_mb=config.cache_mb,
            progress=progress,
        )

    def batch(self, step: int) -> Batch:
        """Return patches (N, 3, P, P) and the sub-sampler's mask (N, P / k, P / k)."""
        config = self.config
        patches = self.photos.batch(config.seed, step, config.batch)
        cells = config.patch // config.sub_stride
        masks = [
            draw(config.seed, Stream.SUBSAMPLE, step, sample).integers(config.sub_stride**2, size=(cells, cells))
            for sample in range(config.batch)
        ]
        return torch.from_numpy(patches), torch.from_numpy(np.stack(masks))

    def losses(self, network: nn.Module, batch: Batch, step: int) -> StepLosses:
        """Return the three losses and their weighted sum at `step`."""
        config = self.config
        patches, mask = batch
        losses = cbsn_losses(network, patches, mask, blind_stride=config.blind_stride)
        total = losses.total(ramp_at(config, step), lambda_inv=config.lambda_inv)
        return StepLosses(total, {"blind": losses.blind, "self": losses.self_, "inv": losses.inv})


OBJECTIVES: Final = {"cbsn": "edgedenoise.training.objectives:CBSNObjective"}
"""Every objective: what configs call it, and `module:callable`."""


def open_objective(config: TrainConfig, *, progress: Progress = silent) -> Objective:
    """Make the objective of `config` and open its data.

    Raises:
        DatasetError: its data cannot be trained on.
    """
    module, _, name = OBJECTIVES[config.objective].partition(":")
    objective: Objective = getattr(importlib.import_module(module), name)(config, progress=progress)
    return objective
