"""Train a student from a C-BSN teacher, on noisy images alone.

Its targets are answers of the teacher to the same patch: non-blind ones, which see each pixel but keep some of its
noise, and blind ones of random sub-samples, which see only the neighbours (Pan et al., ICCV 2023). Each is of another
flip or turn, which averages out what depends on the direction. In one of them, drawn at random at every step, some
pixels are replaced by those of the noisy image: blind targets have lost what only the pixel itself showed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from edgedenoise.errors import UsageError
from edgedenoise.imaging.normalize import UNIT
from edgedenoise.imaging.pairs import check_pair, list_pairs
from edgedenoise.progress import Progress, silent
from edgedenoise.shell import command_line
from edgedenoise.training.checkpoint import kept_network, read_run
from edgedenoise.training.data.draws import Stream, draw
from edgedenoise.training.data.patches import ImageFolder, unit_planes
from edgedenoise.training.objectives.objective import (
    Batch,
    StepLosses,
    draw_permutations,
    first_images,
    mean_over_held_out,
    open_images,
)
from edgedenoise.training.objectives.sampling import from_permuted, permuted_subsamples
from edgedenoise.training.objectives.supervised import student_losses

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from torch import nn

    from edgedenoise.training.config.config import DistillConfig


class DistillObjective:
    """A student from the answers of a teacher, and from the ground truth where there is some."""

    parts: ClassVar[tuple[str, ...]] = ("reconstruction", "laplacian")

    def __init__(self, config: DistillConfig, *, progress: Progress = silent) -> None:
        self.config = config
        checkpoint = read_run(config.teacher)
        if not checkpoint.config.trains_direct:
            words = ("train", "--objective", "cbsn", "--init", config.teacher, "--data", config.data)
            again = command_line(*words, "--out", f"{config.teacher}-2")
            raise UsageError(
                f"teacher = {config.teacher!r} was trained with objective = {checkpoint.config.objective!r}, which "
                "trains only the blind path; a student learns from non-blind answers too",
                hint=f"Train it first on noisy images: {again}",
            )
        if checkpoint.config.quantization_aware:
            raise UsageError(
                f"teacher = {config.teacher!r} was trained with objective = {checkpoint.config.objective!r}, and has "
                "no blind path any more: expected a C-BSN in float",
                hint=f"Take the run it began with: --teacher {checkpoint.config.init}",
            )
        self._teacher, spec = kept_network(checkpoint, source=Path(config.teacher))
        if not spec.has_blind_path:
            raise UsageError(
                f"teacher = {config.teacher!r} has no blind path: expected a C-BSN, got {spec.name}",
                hint="Train one first on noisy images: edgedenoise train --out teacher --data noisy",
            )
        self._teacher.requires_grad_(False)
        self.photos, self._held_out = open_images(
            config, config.data, statistics="photo", normalization=spec.normalization, progress=progress
        )
        truth = _truth(config) if config.clean else {}
        self._clean = _opened(self.photos, truth, config, progress)
        self._held_out_clean = _opened(self._held_out, truth, config, progress)
        self.judges = self._held_out is not None

    def batch(self, step: int, samples: Iterable[int]) -> Batch:
        """Return patches (N, 3, P, P) in [0, 1], their statistics, the random numbers of the views, and the truth."""
        config, samples = self.config, list(samples)
        patches, numbers, clean = _patches(self.photos, self._clean, config, step, samples, Stream.CROP)
        changes = [draw(config.seed, Stream.CHANGE, step, sample) for sample in samples]
        # (gain, scale of the noise) of every sample, and which pixels of a target are recharged
        scales = np.array([[one.uniform(config.darken, 1), one.uniform(-1, 1)] for one in changes], np.float32)
        scales[:, 1] = 1 + config.noise_jitter * scales[:, 1]
        shape = (1, config.patch, config.patch)
        recharged = np.stack([one.random(shape, np.float32) < config.recharge for one in changes])
        return (
            patches,
            numbers,
            torch.from_numpy(scales),
            torch.from_numpy(recharged),
            draw_permutations(config, step, samples),
            *clean,
        )

    def losses(self, network: nn.Module, batch: Batch, step: int) -> StepLosses:
        """Return the mean distance to the answers of the teacher and to the truth."""
        patches, numbers, scales, recharged, permutation, *clean = batch
        random = draw(self.config.seed, Stream.VIEWS, step, 0)
        targets = self._views(patches, numbers, permutation, random)
        denoised = torch.stack(targets[: self.config.views]).mean(dim=0)
        chosen = int(random.integers(len(targets)))
        targets[chosen] = torch.where(recharged, patches, targets[chosen])
        gain, scale = (scales[:, i, None, None, None] for i in (0, 1))
        # The noise is what the teacher removes: the student sees more or less of it, in a darker image.
        noisy = (gain * (denoised + scale * (patches - denoised))).clamp(0, 1)
        answer = network(noisy)
        found = [student_losses(self.config, answer, gain * target) for target in (*targets, *clean)]
        parts = {name: torch.stack([one.parts[name] for one in found]).mean() for name in self.parts}
        return StepLosses(torch.stack([one.total for one in found]).mean(), parts)

    def judge(self, network: nn.Module) -> float | None:
        """Return the loss on fixed crops of held-out images, against the truth, or else against the teacher."""
        held_out, config = self._held_out, self.config
        if held_out is None:
            return None

        def loss_of(samples: range, device: torch.device) -> torch.Tensor:
            patches, numbers, clean = _patches(held_out, self._held_out_clean, config, 0, samples, Stream.HELD_OUT)
            patches, numbers = patches.to(device), numbers.to(device)
            target = clean[0].to(device) if clean else self._answer(patches, numbers, None)
            return student_losses(config, network(patches), target).total

        return mean_over_held_out(network, config.batch, loss_of)

    def may_be_best(self, step: int) -> bool:  # noqa: ARG002 - the loss is the same at every step
        """Return True: the loss is the same at every step."""
        return True

    def previews(self, count: int) -> Iterable[NDArray[np.float32]]:
        """Return the first images."""
        return first_images(self.photos, count)

    @torch.no_grad()
    def _views(
        self, patches: torch.Tensor, numbers: torch.Tensor, permutation: torch.Tensor, random: np.random.Generator
    ) -> list[torch.Tensor]:
        """Return answers of the teacher, the non-blind ones first, each for another flip or turn of the patches."""
        answers = []
        for view, turn in enumerate(random.permutation(8)[: self.config.views + self.config.blind_views]):
            blind = permutation if view >= self.config.views else None
            answers.append(_unturned(self._answer(_turned(patches, turn), numbers, blind), turn))
        return answers

    def _answer(self, patches: torch.Tensor, numbers: torch.Tensor, permutation: torch.Tensor | None) -> torch.Tensor:
        """Return the teacher's answer to unit patches: non-blind, or blind sub-image by sub-image."""
        teacher = self._teacher.to(patches.device)
        mean, std = (numbers[:, i, :, None, None] for i in (0, 1))
        x = (patches - mean) / std
        if permutation is None:
            answer: torch.Tensor = teacher(x)
        else:
            answer = from_permuted(teacher(permuted_subsamples(x, permutation), blind=True), permutation)
        return torch.clamp(answer.float() * std + mean, 0, 1)


def _patches(
    photos: ImageFolder,
    clean: ImageFolder | None,
    config: DistillConfig,
    step: int,
    samples: Iterable[int],
    stream: Stream,
) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """Return patches in [0, 1], the mean and deviation (N, 2, 3) of their images, and their truth, if known."""
    patches, numbers, truth = [], [], []
    for sample in samples:
        index, crop = photos.cut(draw(config.seed, stream, step, sample), config.patch)
        patches.append(unit_planes(crop))
        numbers.append(np.stack([photos.statistics[index].mean, photos.statistics[index].std]))
        if clean is not None:
            truth.append(unit_planes(clean.cut(draw(config.seed, stream, step, sample), config.patch)[1]))
    stacked = (torch.from_numpy(np.stack(arrays)) for arrays in (patches, numbers))
    return next(stacked), next(stacked), [torch.from_numpy(np.stack(truth))] if truth else []


def _truth(config: DistillConfig) -> dict[Path, Path]:
    """Return the ground truth of every image.

    Raises:
        DatasetError: an image has no ground truth, or one of another size.
    """
    pairs = list_pairs(Path(config.data), Path(config.clean))
    for pair in pairs:
        check_pair(*pair)
    return dict(pairs)


def _opened(
    photos: ImageFolder | None, truth: dict[Path, Path], config: DistillConfig, progress: Progress
) -> ImageFolder | None:
    """Open the ground truth of images, in the order of the images."""
    if photos is None or not truth:
        return None
    paths = [truth[path] for path in photos.paths]
    return ImageFolder(
        config.clean,
        paths=paths,
        patch=config.patch,
        normalization=UNIT,
        cache_mb=config.cache_mb,
        progress=progress,
    )


def _turned(x: torch.Tensor, turn: int) -> torch.Tensor:
    """Return one of the 8 flips and turns of (N, 3, P, P)."""
    x = torch.rot90(x, turn % 4, (2, 3))
    return x.flip(3) if turn >= 4 else x


def _unturned(x: torch.Tensor, turn: int) -> torch.Tensor:
    """Return (N, 3, P, P) with `_turned` undone."""
    x = x.flip(3) if turn >= 4 else x
    return torch.rot90(x, -(turn % 4), (2, 3))
