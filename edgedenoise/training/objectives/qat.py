"""Quantization-aware training: a trained network learns to compute in 8 bits.

The network is that of `init`, with fake quantization of a scheme. It learns from clean images with synthetic noise
(`qat`), as the shipped networks did, or from its own float outputs to noisy images (`qat-self`). Ranges of activations
follow a running mean first and are then frozen, so that the weights learn with the ranges that devices use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from edgedenoise.imaging.files import to_unit
from edgedenoise.imaging.normalize import UNIT
from edgedenoise.noise.level import level_plane
from edgedenoise.noise.level_estimator import LevelEstimator
from edgedenoise.progress import Progress, silent
from edgedenoise.runtimes.noise_plane import with_plane
from edgedenoise.training.data.draws import Stream, draw
from edgedenoise.training.data.patches import unit_planes
from edgedenoise.training.initial_weights import float_network
from edgedenoise.training.networks.fake_quant import observe
from edgedenoise.training.objectives.objective import (
    Batch,
    StepLosses,
    first_images,
    mean_over_held_out,
    open_noisy_images,
)
from edgedenoise.training.objectives.supervised import SupervisedObjective, student_losses

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from torch import nn

    from edgedenoise.noise.level import NoiseCurve
    from edgedenoise.training.config.config import QATConfig, SelfQATConfig
    from edgedenoise.training.data.patches import ImageFolder


class SupervisedQAT(SupervisedObjective):
    """Quantization-aware training on clean images with synthetic noise."""

    config: QATConfig

    def losses(self, network: nn.Module, batch: Batch, step: int) -> StepLosses:
        """Return the distance to the clean patches."""
        observe(network, ranges_move(self.config, step))
        return super().losses(network, batch, step)

    def may_be_best(self, step: int) -> bool:
        """Return whether the ranges are frozen: before, what is judged is not what devices run."""
        return not ranges_move(self.config, step)


class SelfDistilledQAT:
    """Quantization-aware training on noisy images, towards the network's own float outputs."""

    parts: ClassVar[tuple[str, ...]] = SupervisedObjective.parts

    def __init__(self, config: SelfQATConfig, *, progress: Progress = silent) -> None:
        self.config = config
        self._float = float_network(config).eval().requires_grad_(False)
        self.photos, self._held_out = open_noisy_images(config, progress)
        self.judges = self._held_out is not None
        self._curves: dict[tuple[ImageFolder, int], NoiseCurve] = {}

    def batch(self, step: int, samples: Iterable[int]) -> Batch:
        """Return noisy patches (N, C, P, P) as the network reads them: in [0, 1], or normalised, with a level plane."""
        return self._patches(self.photos, step, samples, Stream.CROP)

    def losses(self, network: nn.Module, batch: Batch, step: int) -> StepLosses:
        """Return the distance to the float outputs."""
        observe(network, ranges_move(self.config, step))
        return self._losses(network, batch[0])

    def judge(self, network: nn.Module) -> float | None:
        """Return the loss on fixed crops of held-out images."""
        held_out = self._held_out
        if held_out is None:
            return None

        def loss_of(samples: range, device: torch.device) -> torch.Tensor:
            (patches,) = self._patches(held_out, 0, samples, Stream.HELD_OUT)
            return self._losses(network, patches.to(device)).total

        return mean_over_held_out(network, self.config.batch, loss_of)

    def may_be_best(self, step: int) -> bool:
        """Return whether the ranges are frozen: before, what is judged is not what devices run."""
        return not ranges_move(self.config, step)

    def previews(self, count: int) -> Iterable[NDArray[np.float32]]:
        """Return the first images."""
        return first_images(self.photos, count)

    def _losses(self, network: nn.Module, patches: torch.Tensor) -> StepLosses:
        with torch.no_grad():
            target = self._float.to(patches.device)(patches)
        return student_losses(self.config, network(patches), target)

    def _patches(self, photos: ImageFolder, step: int, samples: Iterable[int], stream: Stream) -> Batch:
        config, spec = self.config, self.config.spec
        if spec.normalization != UNIT:
            return (torch.from_numpy(photos.batch(config.seed, step, samples, stream=stream)),)
        patches = []
        for sample in samples:
            index, crop = photos.cut(draw(config.seed, stream, step, sample), config.patch)
            planes = unit_planes(crop)
            if spec.level_planes:
                planes = with_plane(planes, level_plane(self._curve(photos, index).map(to_unit(crop))))
            patches.append(planes)
        return (torch.from_numpy(np.stack(patches)),)

    def _curve(self, photos: ImageFolder, index: int) -> NoiseCurve:
        """Return the estimated noise of a whole image; it is estimated once."""
        curve = self._curves.get((photos, index))
        if curve is None:
            curve = self._curves[photos, index] = LevelEstimator.shipped().curve(to_unit(photos.pixels(index)))
        return curve


def ranges_move(config: QATConfig | SelfQATConfig, step: int) -> bool:
    """Return whether ranges of activations still follow the batches at a step."""
    return step < config.observe_fraction * config.steps
