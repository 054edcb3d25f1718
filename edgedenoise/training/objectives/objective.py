"""Training objectives by name: what one step minimises.

An objective owns its data: it draws the batch of a step and turns it into losses.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Literal, Protocol

import numpy as np
import torch

from edgedenoise.datacheck.check import list_training_images
from edgedenoise.imaging.files import to_unit
from edgedenoise.progress import Progress, silent
from edgedenoise.training.config.schedules import ramp_at
from edgedenoise.training.data.draws import Stream, draw
from edgedenoise.training.data.patches import ImageFolder, split_held_out
from edgedenoise.training.objectives.losses import blind_loss, cbsn_losses, sdap_loss

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import nn

    from edgedenoise.imaging.normalize import Normalization
    from edgedenoise.training.config.config import (
        BlindConfig,
        CBSNConfig,
        DistillConfig,
        SDAPConfig,
        SelfQATConfig,
        TrainConfig,
    )

Batch = tuple[torch.Tensor, ...]
"""Tensors of one step, on the CPU, with samples along the first axis of each; `losses` knows what they are."""

HELD_OUT_CROPS = 32
"""Number of crops of held-out images that a network is judged on; they are the same each time."""


@dataclass(frozen=True)
class StepLosses:
    """The losses of one step, scalar tensors."""

    total: torch.Tensor
    """The loss that is minimised."""
    parts: dict[str, torch.Tensor]
    """Its parts by name, for the log; the names are the same at every step."""


class Objective(Protocol):
    """One training objective and its data; made once per run, as `factory(config, progress=...)`."""

    parts: ClassVar[tuple[str, ...]]
    """Names of the parts of the loss."""
    judges: bool
    """Whether images are held out, so that `judge` returns a loss."""

    def batch(self, step: int, samples: Iterable[int]) -> Batch:
        """Return some samples of the batch of `step`; a function of the config's seed, `step` and the samples."""

    def losses(self, network: nn.Module, batch: Batch, step: int) -> StepLosses:
        """Return the losses of `batch`, wherever its tensors are."""

    def judge(self, network: nn.Module) -> float | None:
        """Return the loss on held-out images, which the best checkpoint has least of; None without such images."""

    def may_be_best(self, step: int) -> bool:
        """Return whether a network of this step is trained for all that devices run, and can be the best one."""

    def previews(self, count: int) -> Iterable[NDArray[np.float32]]:
        """Return up to `count` noisy images (H, W, 3) in [0, 1] for previews, the same ones each time."""


class CBSNObjective:
    """C-BSN from noisy images alone: L_blind + s (L_self + lambda L_inv); see `losses.py`."""

    parts: ClassVar[tuple[str, ...]] = ("blind", "self", "inv")

    def __init__(self, config: CBSNConfig, *, progress: Progress = silent) -> None:
        self.config = config
        self.photos, self._held_out = open_noisy_images(config, progress)
        self.judges = self._held_out is not None

    def batch(self, step: int, samples: Iterable[int]) -> Batch:
        """Return patches (N, 3, P, P), the sub-sampler's mask (N, P / k, P / k) and, if wanted, permutations."""
        config = self.config
        samples = list(samples)
        cells = config.patch // config.sub_stride
        masks = [
            draw(config.seed, Stream.SUBSAMPLE, step, sample).integers(config.sub_stride**2, size=(cells, cells))
            for sample in samples
        ]
        batch = (
            torch.from_numpy(self.photos.batch(config.seed, step, samples)),
            torch.from_numpy(np.stack(masks)),
        )
        return (*batch, draw_permutations(config, step, samples)) if config.blind_sampler == "permuted" else batch

    def losses(self, network: nn.Module, batch: Batch, step: int) -> StepLosses:
        """Return the three losses and their weighted sum at `step`."""
        config = self.config
        patches, mask, *permutation = batch
        losses = cbsn_losses(
            network, patches, mask, blind_stride=config.stride, permutation=permutation[0] if permutation else None
        )
        total = losses.total(ramp_at(config, step), lambda_inv=config.lambda_inv)
        return StepLosses(total, {"blind": losses.blind, "self": losses.self_, "inv": losses.inv})

    def judge(self, network: nn.Module) -> float | None:
        """Return L_blind on the held-out images."""
        return held_out_loss(network, self._held_out, self.config)

    def may_be_best(self, step: int) -> bool:
        """Return whether the ramp is over: before, the path that devices run is not fully trained."""
        return ramp_at(self.config, step) >= 1

    def previews(self, count: int) -> Iterable[NDArray[np.float32]]:
        """Return the first images."""
        return first_images(self.photos, count)


class SDAPObjective:
    """SDAP: each of the random sub-images teaches the next one, through the blind network; see `losses.py`."""

    parts: ClassVar[tuple[str, ...]] = ("cyclic",)

    def __init__(self, config: SDAPConfig, *, progress: Progress = silent) -> None:
        self.config = config
        self.photos, self._held_out = open_noisy_images(config, progress)
        self.judges = self._held_out is not None

    def batch(self, step: int, samples: Iterable[int]) -> Batch:
        """Return patches (N, 3, P, P) and permutations (N, P / k, P / k, k²)."""
        samples = list(samples)
        patches = torch.from_numpy(self.photos.batch(self.config.seed, step, samples))
        return patches, draw_permutations(self.config, step, samples)

    def losses(self, network: nn.Module, batch: Batch, step: int) -> StepLosses:  # noqa: ARG002 - no schedule
        """Return the cyclic sample-difference loss."""
        cyclic = sdap_loss(network, *batch)
        return StepLosses(cyclic, {"cyclic": cyclic})

    def judge(self, network: nn.Module) -> float | None:
        """Return L_blind on the held-out images."""
        return held_out_loss(network, self._held_out, self.config)

    def may_be_best(self, step: int) -> bool:  # noqa: ARG002 - the loss is the same at every step
        """Return True: the loss is the same at every step."""
        return True

    def previews(self, count: int) -> Iterable[NDArray[np.float32]]:
        """Return the first images."""
        return first_images(self.photos, count)


OBJECTIVES: Final = {
    "cbsn": "edgedenoise.training.objectives.objective:CBSNObjective",
    "sdap": "edgedenoise.training.objectives.objective:SDAPObjective",
    "distill": "edgedenoise.training.objectives.distill:DistillObjective",
    "supervised": "edgedenoise.training.objectives.supervised:SupervisedObjective",
    "qat": "edgedenoise.training.objectives.qat:SupervisedQAT",
    "qat-self": "edgedenoise.training.objectives.qat:SelfDistilledQAT",
}
"""Every objective: its name in configs, and `module:callable`."""


def open_objective(config: TrainConfig, *, progress: Progress = silent) -> Objective:
    """Open the objective of `config` and its data.

    Raises:
        DatasetError: its data cannot be trained on.
    """
    module, _, name = OBJECTIVES[config.objective].partition(":")
    objective: Objective = getattr(importlib.import_module(module), name)(config, progress=progress)
    return objective


def open_images(
    config: TrainConfig,
    folder: str,
    *,
    statistics: Literal["patch", "photo"],
    normalization: Normalization,
    margin: int = 0,
    progress: Progress,
) -> tuple[ImageFolder, ImageFolder | None]:
    """Open the images to train on and the held-out ones (None when there are none).

    Args:
        config: settings of the run.
        folder: folder of the images.
        statistics: what crops are normalized by.
        normalization: how crops are normalized.
        margin: pixels that the sides of an image must have beyond the patch.
        progress: called for every image.

    Raises:
        DatasetError: they cannot be trained on.
    """
    trained, held_out = split_held_out(list_training_images(folder), config.held_out)

    def opened(paths: list[Path]) -> ImageFolder:
        return ImageFolder(
            folder,
            paths=paths,
            patch=config.patch + margin,
            statistics=statistics,
            normalization=normalization,
            cache_mb=config.cache_mb,
            progress=progress,
        )

    return opened(trained), opened(held_out) if held_out else None


def open_noisy_images(
    config: CBSNConfig | SDAPConfig | SelfQATConfig, progress: Progress
) -> tuple[ImageFolder, ImageFolder | None]:
    """Open the noisy images of a run, normalized as its network needs them; see `open_images`."""
    return open_images(
        config,
        config.data,
        statistics=config.statistics,
        normalization=config.spec.normalization,
        progress=progress,
    )


def first_images(photos: ImageFolder, count: int) -> list[NDArray[np.float32]]:
    """Return up to `count` images of a folder, (H, W, 3) in [0, 1]."""
    return [to_unit(photos.pixels(index)) for index in range(min(count, len(photos)))]


def draw_permutations(config: BlindConfig | DistillConfig, step: int, samples: Iterable[int]) -> torch.Tensor:
    """Return a random order of the pixels of every cell: (samples, P / k, P / k, k²)."""
    k, cells = config.stride, config.patch // config.stride
    in_order = np.broadcast_to(np.arange(k * k), (cells, cells, k * k))
    drawn = [draw(config.seed, Stream.PERMUTATION, step, sample).permuted(in_order, axis=-1) for sample in samples]
    return torch.from_numpy(np.stack(drawn))


def held_out_loss(network: nn.Module, held_out: ImageFolder | None, config: BlindConfig) -> float | None:
    """Return the mean L_blind on the lattice over fixed crops of held-out images, for every sampler."""
    if held_out is None:
        return None

    def loss_of(samples: range, device: torch.device) -> torch.Tensor:
        crops = torch.from_numpy(held_out.batch(config.seed, 0, samples, stream=Stream.HELD_OUT)).to(device)
        return blind_loss(network, crops, stride=config.stride)

    return mean_over_held_out(network, config.batch, loss_of)


@torch.no_grad()
def mean_over_held_out(network: nn.Module, batch: int, loss_of: Callable[[range, torch.device], torch.Tensor]) -> float:
    """Return the mean of a loss over the fixed crops of held-out images.

    Args:
        network: the network, on its device.
        batch: crops per call of `loss_of`.
        loss_of: returns the mean loss of some of the crops, by their numbers, on a device.
    """
    device = next(network.parameters()).device
    total = 0.0
    for first in range(0, HELD_OUT_CROPS, batch):
        samples = range(first, min(first + batch, HELD_OUT_CROPS))
        total += loss_of(samples, device).item() * len(samples)
    return total / HELD_OUT_CROPS
