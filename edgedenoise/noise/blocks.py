"""Blocks of an image, and which of them are flat: estimates of noise and of detail are made in such blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float = NDArray[np.float32]

BLOCK_PX = 16
"""Side of a block in pixels, and the smallest side of an image that can be estimated."""
BINS = 16
"""Number of brightness bins."""
FEWEST_FLAT = 6
"""Smallest number of blocks that is called flat in a brightness bin."""
COARSE_PX = 4
"""Side in pixels of the cells whose means measure flatness."""
_FLAT_SHARE = 0.05  # the flattest twentieth: more blocks include texture, as measured on images


def as_blocks(plane: Float) -> Float:
    """Return the blocks of (H, W) as (N, 16, 16), without incomplete ones at the end."""
    rows, columns = plane.shape[0] // BLOCK_PX, plane.shape[1] // BLOCK_PX
    cut = plane[: rows * BLOCK_PX, : columns * BLOCK_PX].reshape(rows, BLOCK_PX, columns, BLOCK_PX)
    return cut.swapaxes(1, 2).reshape(-1, BLOCK_PX, BLOCK_PX)


def without_plane(blocks: Float) -> Float:
    """Return (N, S, S) blocks, each without the plane that fits it best."""
    side = blocks.shape[1]
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    ramp /= np.sqrt((ramp**2).sum() * side)  # of length 1 over a block
    down = np.einsum("nyx,y->n", blocks, ramp)[:, None, None] * ramp[:, None]
    across = np.einsum("nyx,x->n", blocks, ramp)[:, None, None] * ramp
    return np.asarray(blocks - blocks.mean(axis=(1, 2), keepdims=True) - down - across, np.float32)


def coarse_activity(blocks: Float) -> Float:
    """Return the energy of each block's coarse structure, (N,): its means of 4 x 4 pixels without their plane."""
    cells = BLOCK_PX // COARSE_PX
    coarse = blocks.reshape(-1, cells, COARSE_PX, cells, COARSE_PX).mean(axis=(2, 4))
    return np.asarray((without_plane(coarse) ** 2).sum(axis=(1, 2)), np.float32)


def find_flat(activity: Float, brightness: Float) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Return which blocks are the flattest of their brightness bin, and the bin of each block."""
    bins = np.clip(brightness * BINS / 256, 0, BINS - 1).astype(np.intp)
    flat = np.zeros(len(activity), bool)
    for bin_ in np.unique(bins):
        members = np.flatnonzero(bins == bin_)
        count = max(FEWEST_FLAT, round(_FLAT_SHARE * len(members)))
        if len(members) >= FEWEST_FLAT:
            flat[members[np.argsort(activity[members], kind="stable")[:count]]] = True
    if not flat.any():  # a small image: use the flattest of all
        flat[np.argsort(activity, kind="stable")[:FEWEST_FLAT]] = True
    return flat, bins
