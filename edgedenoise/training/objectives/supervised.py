"""Train on clean images with synthetic camera noise, as the shipped networks were trained.

The range and the mix of noise levels decide what a network learns: with much strong noise it learns to over-smooth weak
noise. So all levels are drawn, and the loss `psnr` weighs every image alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from edgedenoise.imaging.files import to_unit
from edgedenoise.noise.level_estimator import LevelEstimator
from edgedenoise.noise.synthesis import add_camera_noise, sample_noise
from edgedenoise.progress import Progress, silent
from edgedenoise.training.data.draws import Stream, draw
from edgedenoise.training.data.patches import PREVIEW_PX, middle
from edgedenoise.training.objectives.noisy_patches import OFFSETS, NoisyTile, cut_pair, draw_pair, draw_tile
from edgedenoise.training.objectives.objective import Batch, StepLosses, mean_over_held_out, open_images
from edgedenoise.training.objectives.reconstruction import (
    LOSSES,
    PSNR_FLOOR,
    laplacian,
    negative_psnr,
    psnr_floor_at,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray
    from torch import nn

    from edgedenoise.training.config.config import StudentConfig, SupervisedConfig

_PREVIEW_LEVEL = 0.7


class SupervisedObjective:
    """A student from clean images, with new noise at every step."""

    parts: ClassVar[tuple[str, ...]] = ("reconstruction", "laplacian")

    def __init__(self, config: SupervisedConfig, *, progress: Progress = silent) -> None:
        self.config = config
        margin = max(OFFSETS, config.tile - config.patch)
        self.photos, self._held_out = open_images(
            config,
            config.clean,
            statistics="patch",
            normalization=config.spec.normalization,
            margin=margin,
            progress=progress,
        )
        self.judges = self._held_out is not None
        self._has_level = config.spec.level_planes > 0
        self._estimator = LevelEstimator.shipped() if self._has_level and config.estimated_level_share else None
        self._tiles: dict[int, tuple[int, NoisyTile]] = {}

    def batch(self, step: int, samples: Iterable[int]) -> Batch:
        """Return noisy patches (N, 3 + level planes, P, P) and clean ones (N, 3, P, P), each in [0, 1]."""
        pair_of = self._pair_of_tile if self.config.tile else self._pair
        return _stacked(pair_of(step, sample) for sample in samples)

    def losses(self, network: nn.Module, batch: Batch, step: int) -> StepLosses:
        """Return the distance to the clean patches."""
        noisy, clean = batch
        floor = psnr_floor_at(step, self.config.psnr_floor_steps)
        return student_losses(self.config, network(noisy), clean, psnr_floor=floor)

    def judge(self, network: nn.Module) -> float | None:
        """Return the loss on fixed crops of held-out images with fixed noise."""
        if self._held_out is None:
            return None

        def loss_of(samples: range, device: torch.device) -> torch.Tensor:
            noisy, clean = (t.to(device) for t in self.held_out_batch(samples))
            return student_losses(self.config, network(noisy), clean).total

        return mean_over_held_out(network, self.config.batch, loss_of)

    def held_out_batch(self, samples: Iterable[int]) -> Batch:
        """Return some of the fixed crops of held-out images, as `batch` returns those to train on.

        Where no images are held out, the crops are of those to train on. Levels are the true ones, with `level_jitter`.
        """
        photos = self.photos if self._held_out is None else self._held_out
        return _stacked(
            draw_pair(
                photos, self.config, draw(self.config.seed, Stream.HELD_OUT, 0, sample), has_level=self._has_level
            )
            for sample in samples
        )

    def may_be_best(self, step: int) -> bool:  # noqa: ARG002 - the loss is the same at every step
        """Return True: the loss is the same at every step."""
        return True

    def previews(self, count: int) -> Iterator[NDArray[np.float32]]:
        """Return the first held-out images, or else the first training images, with fairly strong noise."""
        photos = self.photos if self._held_out is None else self._held_out
        for index in range(min(count, len(photos))):
            random = draw(self.config.seed, Stream.HELD_OUT, 1, index)
            clean = middle(to_unit(photos.pixels(index)), PREVIEW_PX)
            yield add_camera_noise(clean, sample_noise(random, level=_PREVIEW_LEVEL), random)

    def _pair(self, step: int, sample: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return a patch with noise of its own."""
        random = draw(self.config.seed, Stream.CROP, step, sample)
        return draw_pair(self.photos, self.config, random, has_level=self._has_level)

    def _pair_of_tile(self, step: int, sample: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return a patch of the tile that a sample has at a step; samples renew their tiles in turns."""
        config = self.config
        number = (step + sample * config.tile_uses // config.batch) // config.tile_uses
        kept = self._tiles.get(sample)
        if kept is None or kept[0] != number:
            random = draw(config.seed, Stream.TILE, number, sample)
            tile = draw_tile(
                self.photos,
                config,
                random,
                side=config.tile,
                has_level=self._has_level,
                estimator=self._estimator,
            )
            kept = self._tiles[sample] = (number, tile)
        random = draw(config.seed, Stream.CROP, step, sample)
        return cut_pair(kept[1], config.patch, random, positions=config.tile - config.patch + 1)


def student_losses(
    config: StudentConfig, answer: torch.Tensor, target: torch.Tensor, *, psnr_floor: float = PSNR_FLOOR
) -> StepLosses:
    """Return the losses of a config between an answer and its target, (N, 3, H, W) each."""
    if config.loss == "psnr":
        reconstruction = negative_psnr(answer, target, psnr_floor).mean()
    else:
        reconstruction = LOSSES[config.loss](answer, target).mean()
    edges = laplacian(answer, target).mean()
    total = reconstruction + config.laplacian * edges
    return StepLosses(total, {"reconstruction": reconstruction, "laplacian": edges})


def _stacked(pairs: Iterable[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> Batch:
    """Return pairs of patches as two batches."""
    noisy, clean = (torch.from_numpy(np.stack(images)) for images in zip(*pairs, strict=True))
    return noisy, clean
