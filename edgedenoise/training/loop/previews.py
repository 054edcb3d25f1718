"""Write preview images: noisy (left) and denoised (right)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgedenoise.imaging.files import Image, from_unit, write_image
from edgedenoise.imaging.normalize import statistics
from edgedenoise.training.inference import denoise_unit

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import nn

    from edgedenoise.training.networks.families import NetworkSpec

SHOWN = 2
"""Number of images in a preview."""
SHOWN_PX = 1_500_000
"""Largest number of pixels shown; of a larger image the middle is denoised, with the statistics of the whole."""


def write_preview(path: Path, network: nn.Module, spec: NetworkSpec, images: Iterable[NDArray[np.float32]]) -> None:
    """Write a PNG with a row for each image (H, W, 3): the input, and the output of a device."""
    rows = []
    for whole in images:
        numbers = statistics(whole.transpose(2, 0, 1), spec.normalization)
        before = middle(whole, SHOWN_PX)
        rows.append(np.concatenate([before, denoise_unit(network, spec, before, numbers=numbers)], axis=1))
    width = max(row.shape[1] for row in rows)
    rows = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
    write_image(Image(from_unit(np.concatenate(rows), np.uint8)), path)


def middle(unit: NDArray[np.float32], most_px: int) -> NDArray[np.float32]:
    """Return (H, W, 3), or the middle of it in the same proportions with at most `most_px` pixels."""
    height, width = unit.shape[:2]
    share = min(1.0, math.sqrt(most_px / (height * width)))
    rows, columns = max(1, round(height * share)), max(1, round(width * share))
    top, left = (height - rows) // 2, (width - columns) // 2
    return unit[top : top + rows, left : left + columns]
