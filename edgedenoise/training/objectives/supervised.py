"""Train on clean images with synthetic camera noise, as the shipped networks were trained.

The range and the mix of noise levels decide what a network learns: with much strong noise it learns to over-smooth weak
noise. So all levels are drawn, and the loss `psnr` weighs every image alike.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import torch
from PIL import Image

from edgedenoise.imaging.files import to_unit
from edgedenoise.noise.synthesis import add_camera_noise, sample_noise
from edgedenoise.progress import Progress, silent
from edgedenoise.training.data.draws import Stream, draw
from edgedenoise.training.data.patches import PREVIEW_PX, middle, turned
from edgedenoise.training.objectives.objective import Batch, StepLosses, mean_over_held_out, open_images
from edgedenoise.training.objectives.reconstruction import LOSSES, laplacian

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray
    from torch import nn

    from edgedenoise.training.config.config import StudentConfig, SupervisedConfig
    from edgedenoise.training.data.patches import ImageFolder

OFFSETS = 8
"""Positions per axis at which a patch can begin in the blocks of JPEG and in the mosaic."""

DEVELOPMENTS: Final = {"matrix": (0.0, 1.0), "malvar": (0.0, 1.2), "contrast": (0.0, 1.0)}
"""Range of each step of raw development, wider than that of the cameras in `noise.synthesis`: a network that knows only
those fails on others, for example on one with gamma in place of a tone curve."""

_PREVIEW_LEVEL = 0.7


class SupervisedObjective:
    """A student from clean images, with new noise at every step."""

    parts: ClassVar[tuple[str, ...]] = ("reconstruction", "laplacian")

    def __init__(self, config: SupervisedConfig, *, progress: Progress = silent) -> None:
        self.config = config
        self.photos, self._held_out = open_images(
            config,
            config.clean,
            statistics="patch",
            normalization=config.spec.normalization,
            margin=OFFSETS,
            progress=progress,
        )
        self.judges = self._held_out is not None

    def batch(self, step: int, samples: Iterable[int]) -> Batch:
        """Return noisy and clean patches, (N, 3, P, P) each in [0, 1]."""
        return self._pairs(self.photos, step, samples, Stream.CROP)

    def losses(self, network: nn.Module, batch: Batch, step: int) -> StepLosses:  # noqa: ARG002 - no schedule
        """Return the distance to the clean patches."""
        noisy, clean = batch
        return student_losses(self.config, network(noisy), clean)

    def judge(self, network: nn.Module) -> float | None:
        """Return the loss on fixed crops of held-out images with fixed noise."""
        held_out = self._held_out
        if held_out is None:
            return None

        def loss_of(samples: range, device: torch.device) -> torch.Tensor:
            noisy, clean = (t.to(device) for t in self._pairs(held_out, 0, samples, Stream.HELD_OUT))
            return student_losses(self.config, network(noisy), clean).total

        return mean_over_held_out(network, self.config.batch, loss_of)

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

    def _pairs(self, photos: ImageFolder, step: int, samples: Iterable[int], stream: Stream) -> Batch:
        pairs = [noisy_pair(photos, self.config, draw(self.config.seed, stream, step, sample)) for sample in samples]
        noisy, clean = (torch.from_numpy(np.stack(images)) for images in zip(*pairs, strict=True))
        return noisy, clean


def noisy_pair(
    photos: ImageFolder, config: SupervisedConfig, random: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a random patch with noise: (noisy, clean), (3, P, P) each in [0, 1].

    Downscaled images are sharper than what a camera records; magnified by up to `magnify`, they have every sharpness.
    Half of the patches are darkened, down to `darken`, because noise depends on the light. The patch is cropped and
    turned after the noise was added: a mosaic and the blocks of JPEG can begin anywhere, and a network that halves the
    image would otherwise memorise one position (5 dB on real noise).
    """
    whole = config.patch + OFFSETS
    _, crop = photos.cut(random, max(1, round(whole / random.uniform(1, config.magnify))))
    clean = _resized(to_unit(crop), whole)
    darker, how_much = random.random(2)
    if darker < 0.5:
        clean = clean * np.float32(config.darken + how_much * (1 - config.darken))
    level = config.noise_low + random.random() ** config.noise_power * (config.noise_high - config.noise_low)
    parameters = sample_noise(random, level=level, jpeg=bool(random.random() < config.jpeg_share))
    matrix, malvar, contrast = (float(random.uniform(*DEVELOPMENTS[key])) for key in ("matrix", "malvar", "contrast"))
    parameters = replace(parameters, matrix=matrix, malvar=malvar, contrast=contrast)
    noisy = add_camera_noise(clean, parameters, random)
    top, left = random.integers(OFFSETS, size=2)
    turn = int(random.integers(8))
    window = (slice(top, top + config.patch), slice(left, left + config.patch))
    return _planes(turned(noisy[window], turn)), _planes(turned(clean[window], turn))


def student_losses(config: StudentConfig, answer: torch.Tensor, target: torch.Tensor) -> StepLosses:
    """Return the losses of a config between an answer and its target, (N, 3, H, W) each."""
    reconstruction, edges = LOSSES[config.loss](answer, target).mean(), laplacian(answer, target).mean()
    total = reconstruction + config.laplacian * edges
    return StepLosses(total, {"reconstruction": reconstruction, "laplacian": edges})


def _planes(unit: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (P, P, 3) as (3, P, P)."""
    return np.ascontiguousarray(unit.transpose(2, 0, 1))


def _resized(unit: NDArray[Any], side: int) -> NDArray[np.float32]:
    """Return (h, h, 3) magnified to (side, side, 3), bicubic."""
    if unit.shape[0] == side:
        return np.ascontiguousarray(unit, np.float32)
    planes = [
        np.asarray(Image.fromarray(np.ascontiguousarray(unit[..., c])).resize((side, side), Image.Resampling.BICUBIC))
        for c in range(3)
    ]
    return np.asarray(np.clip(np.stack(planes, axis=-1), 0, 1), np.float32)
