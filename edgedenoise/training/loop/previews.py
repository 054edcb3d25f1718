"""Write preview images: noisy (left) and denoised (right)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgedenoise.imaging.files import Image, from_unit, write_image
from edgedenoise.imaging.normalize import statistics
from edgedenoise.runtimes.noise_plane import noise_of
from edgedenoise.training.data.patches import PREVIEW_PX, middle
from edgedenoise.training.inference import denoise_unit

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import nn

    from edgedenoise.training.networks.families import NetworkSpec

SHOWN = 2
"""Number of images in a preview."""


def write_preview(path: Path, network: nn.Module, spec: NetworkSpec, images: Iterable[NDArray[np.float32]]) -> None:
    """Write a PNG with a row for each image (H, W, 3): the input, and the output of a device."""
    rows = []
    for whole in images:
        numbers = statistics(whole.transpose(2, 0, 1), spec.normalization)
        before = middle(whole, PREVIEW_PX)
        level = middle(noise_of(whole).plane()[..., None], PREVIEW_PX)[..., 0] if spec.level_planes else None
        rows.append(np.concatenate([before, denoise_unit(network, spec, before, numbers=numbers, level=level)], axis=1))
    width = max(row.shape[1] for row in rows)
    rows = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
    write_image(Image(from_unit(np.concatenate(rows), np.uint8)), path)
