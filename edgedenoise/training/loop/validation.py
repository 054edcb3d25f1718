"""Validate a network: loss on held-out images, quality on clean ones, previews and curves."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from edgedenoise.training.checkpoint import BEST, save_checkpoint
from edgedenoise.training.config.config import BlindConfig
from edgedenoise.training.inference import evaluating
from edgedenoise.training.loop.curves import write_curves
from edgedenoise.training.loop.previews import SHOWN, write_preview
from edgedenoise.training.scoring import open_pairs, score_pairs

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from edgedenoise.training.config.config import TrainConfig
    from edgedenoise.training.inference import Mode
    from edgedenoise.training.networks.families import NetworkSpec
    from edgedenoise.training.objectives.objective import Objective


@dataclass(frozen=True)
class Scores:
    """Result of one validation; NaN for what was not measured."""

    held_out_loss: float
    """Loss of the objective on held-out images."""
    psnr_db: float
    """PSNR against clean images."""
    ssim: float
    """SSIM against clean images."""


COLUMNS = tuple(field.name for field in fields(Scores))
"""Columns of `validation.csv`."""


class Validator:
    """Judges a network and keeps the best checkpoint."""

    def __init__(self, config: TrainConfig, objective: Objective, spec: NetworkSpec, *, best: float) -> None:
        """Open the images of the validation.

        Args:
            config: settings of the run.
            objective: objective, which judges networks on its held-out images.
            spec: spec of the network.
            best: least loss on held-out images so far.

        Raises:
            DatasetError: `val_clean` does not fit `val_noisy`.
        """
        self.config, self.objective, self.spec, self.best = config, objective, spec, best
        self._mode: Mode = config.val_mode if isinstance(config, BlindConfig) else "direct"
        self._pairs = open_pairs(config.val_noisy or config.noisy_images, config.val_clean) if config.val_clean else []

    @property
    def has_images(self) -> bool:
        """Whether there are images to validate on."""
        return bool(self._pairs) or self.objective.judges

    def validate(self, run: Path, network: nn.Module, done: int) -> Scores:
        """Judge a network after `done` steps, and write it as the best checkpoint if it is."""
        with evaluating(network):
            loss = self.objective.judge(network)
        if loss is not None and loss < self.best and self.objective.may_be_best(done):
            self.best = loss
            save_checkpoint(run / BEST, config=self.config, step=done, network=network, best=loss)
        psnr_db = ssim = math.nan
        if self._pairs:
            quality = score_pairs(network, self.spec, self._pairs, mode=self._mode)
            psnr_db, ssim = quality.psnr_db, quality.ssim
        return Scores(math.nan if loss is None else loss, psnr_db, ssim)

    def show(self, run: Path, network: nn.Module, done: int) -> None:
        """Write a preview and the curves."""
        write_preview(run / "previews" / f"step-{done:06d}.png", network, self.spec, self.objective.previews(SHOWN))
        write_curves(run)
