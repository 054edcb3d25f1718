"""Evaluate a network on images with ground truth: PSNR and SSIM, before and after."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgedenoise.imaging.files import Image, from_unit, read_image, write_image
from edgedenoise.imaging.metrics import Quality, mean_quality, quality_of
from edgedenoise.imaging.pairs import check_pair, list_pairs
from edgedenoise.progress import Progress, silent
from edgedenoise.training.checkpoint import load_network
from edgedenoise.training.inference import Mode, denoise_unit
from edgedenoise.training.torch_device import resolve_device

if TYPE_CHECKING:
    from torch import nn

    from edgedenoise.training.checkpoint import Which
    from edgedenoise.training.networks.families import NetworkSpec


@dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation: means over the images, on clipped and rounded 8-bit sRGB."""

    network: str
    """Name of the network."""
    mode: Mode
    """How the images were denoised."""
    images: int
    """Number of images."""
    noisy: Quality
    """Quality of the input."""
    denoised: Quality
    """Quality of the output."""


def evaluate(
    checkpoint: Path | str,
    noisy: Path | str,
    clean: Path | str,
    *,
    mode: Mode = "direct",
    which: Which = "last",
    device: str = "auto",
    keep: Path | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Measure a trained network on a folder of noisy images with ground truth.

    Args:
        checkpoint: folder made by `edgedenoise train`.
        noisy: folder of noisy images.
        clean: folder with their ground truth under the same names (suffixes may differ).
        mode: how an image is denoised; see `inference.MODES`. Devices run `direct`.
        which: the `last` state of the run, or its `best` on held-out images.
        device: device to run on, as for training.
        keep: folder to write the denoised images to, as `keep/NAME.png`, or None.
        progress: called for every image.

    Returns:
        Quality of the input and of the output.

    Raises:
        TrainingError: the run cannot be read.
        DatasetError: no images, an image without its ground truth, or of another size.
        DeviceNotFoundError: the named device is not on this machine.

    Example:
        >>> import edgedenoise
        >>> found = edgedenoise.evaluate("runs/mine", "photos", "clean")
        >>> 20 < found.noisy.psnr_db < 24
        True
    """
    network, spec = load_network(checkpoint, which)
    pairs = open_pairs(noisy, clean)
    network = network.to(resolve_device(device))
    denoised = score_pairs(network, spec, pairs, mode=mode, keep=keep, progress=progress)
    return Evaluation(spec.name, mode, len(pairs), noisy_quality(pairs), denoised)


def open_pairs(noisy: Path | str, clean: Path | str) -> list[tuple[Path, Path]]:
    """Return the pairs of images of two folders, after checking that each can be compared.

    Raises:
        DatasetError: no images, an image without its ground truth, or of another size.
    """
    pairs = list_pairs(Path(noisy), Path(clean))
    for pair in pairs:
        check_pair(*pair)
    return pairs


def score_pairs(
    network: nn.Module,
    spec: NetworkSpec,
    pairs: list[tuple[Path, Path]],
    *,
    mode: Mode,
    keep: Path | None = None,
    progress: Progress = silent,
) -> Quality:
    """Return the quality of the denoised images of some pairs; see `evaluate`."""
    found = []
    for index, (noisy, clean) in enumerate(pairs):
        progress("evaluate", index, len(pairs), noisy.name)
        answer = np.asarray(
            from_unit(denoise_unit(network, spec, read_image(noisy).unit(), mode=mode), np.uint8), np.uint8
        )
        found.append(quality_of(answer, read_image(clean).unit()))
        if keep is not None:
            write_image(Image(answer), keep / f"{noisy.stem}.png")
    progress("evaluate", len(pairs), len(pairs))
    return mean_quality(found)


def noisy_quality(pairs: list[tuple[Path, Path]]) -> Quality:
    """Return the quality of the noisy images."""
    return mean_quality([quality_of(read_image(noisy).unit(), read_image(clean).unit()) for noisy, clean in pairs])
