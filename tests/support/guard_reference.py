"""The guard of `training/networks/guard.py` in numpy, in float64, pixel by pixel as its docstring describes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgedenoise.training.networks.guard import GuardParameters

SMALLEST_AMPLITUDE = 3e-4


def guarded(image: NDArray[np.float32], residual: NDArray[np.float32], p: GuardParameters) -> NDArray[np.float64]:
    """Return the guarded answer (3, H, W) to an image (4, H, W) and the residual (3, H, W) of a network."""
    x, r = image.astype(np.float64), residual.astype(np.float64)
    level, grey = cells(x[3]), cells(x[:3].mean(axis=0))
    texture = np.abs(grey - window_mean(grey, 3))
    found = window_mean(cells(np.abs(r).mean(axis=0)) + p.texture * texture, 5)
    explained = p.noise * level + np.maximum(level - p.opens_at, 0) / (1 - p.opens_at)
    share = (explained / (np.maximum(explained, found) + SMALLEST_AMPLITUDE)) ** 2
    return np.clip(x[:3] + np.kron(share, np.ones((2, 2))) * r, 0, 1)


def cells(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the means of (H, W) over 2x2 pixels."""
    height, width = values.shape
    return values.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))


def window_mean(values: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Return the mean over the window around each cell, of the cells that there are."""
    reach, out = side // 2, np.empty_like(values)
    for y, x in np.ndindex(*values.shape):
        out[y, x] = values[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1].mean()
    return out
