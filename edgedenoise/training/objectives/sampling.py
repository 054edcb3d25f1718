"""Split images into sub-images: on a lattice, at random, or keeping one pixel of every cell; and join them again.

These functions only move pixels. Neighbouring pixels share their noise, which demosaicing spreads, so sub-images of
pixels that were five apart have nearly independent noise, as blind-spot training needs.
"""

from __future__ import annotations

import math

import torch

from edgedenoise.errors import UsageError


def space_to_batch(x: torch.Tensor, block: int) -> torch.Tensor:
    """Split every image into block² sub-images of the pixels that lie `block` apart.

    Args:
        x: (N, C, H, W); H and W divisible by `block`.
        block: distance between the pixels of a sub-image, 1 or more.

    Returns:
        (block² N, C, H / block, W / block). The offset within the block is the slowest part of the batch axis
        (TensorFlow's order): sub-image (row, column) of image n is number (row * block + column) * N + n.

    Raises:
        UsageError: H or W is not divisible by `block`.
    """
    n, c, h, w = x.shape
    if h % block or w % block:
        raise UsageError(f"a {h}x{w} image cannot be split by {block}: both sides must be divisible by it")
    cells = x.reshape(n, c, h // block, block, w // block, block)
    return cells.permute(3, 5, 0, 1, 2, 4).reshape(block * block * n, c, h // block, w // block)


def batch_to_space(x: torch.Tensor, block: int) -> torch.Tensor:
    """Join sub-images: the exact inverse of `space_to_batch`.

    Args:
        x: (block² N, C, H, W) in the order of `space_to_batch`.
        block: as given there.

    Returns:
        (N, C, block H, block W).

    Raises:
        UsageError: the batch is not divisible by block².
    """
    m, c, h, w = x.shape
    if m % (block * block):
        raise UsageError(f"{m} sub-images are no whole number of images split by {block}")
    cells = x.reshape(block, block, m // (block * block), c, h, w)
    return cells.permute(2, 3, 4, 0, 5, 1).reshape(m // (block * block), c, h * block, w * block)


def permuted_subsamples(x: torch.Tensor, permutation: torch.Tensor) -> torch.Tensor:
    """Split every image into k² sub-images, the pixels of each k x k cell going to them at random.

    The random sub-samples generation of SDAP (Pan et al., ICCV 2023, section 3.3): space-to-batch with another
    order in every cell.

    Args:
        x: (N, C, H, W).
        permutation: (N, H / k, W / k, k²), integers: the first sub-image takes pixel `permutation[..., 0]` of each
            cell, and so on; index i is row i // k and column i % k, and every index stands once in a cell.

    Returns:
        (k² N, C, H / k, W / k), in the order of `space_to_batch`. Gradients reach every pixel.

    Raises:
        UsageError: the shapes do not fit each other.
    """
    k = _cell_of(x, permutation)
    n, c, h, w = x.shape
    cells = _cells(x, k).gather(-1, _over_channels(permutation, c))
    return cells.permute(4, 0, 1, 2, 3).reshape(k * k * n, c, h // k, w // k)


def from_permuted(sub_images: torch.Tensor, permutation: torch.Tensor) -> torch.Tensor:
    """Join sub-images: the exact inverse of `permuted_subsamples`.

    Args:
        sub_images: (k² N, C, H / k, W / k).
        permutation: as given there.

    Returns:
        (N, C, H, W).
    """
    n, rows, columns, count = permutation.shape
    k, c = math.isqrt(count), sub_images.shape[1]
    cells = sub_images.reshape(count, n, c, rows, columns).permute(1, 2, 3, 4, 0)
    placed = torch.empty_like(cells).scatter(-1, _over_channels(permutation, c), cells)
    return placed.reshape(n, c, rows, columns, k, k).permute(0, 1, 2, 4, 3, 5).reshape(n, c, rows * k, columns * k)


def random_subsample(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Keep one pixel of every cell: the random sub-sampler RS of C-BSN (Jang et al., ICCV 2023, section 3.3).

    Args:
        x: (N, C, H, W).
        mask: (N, H / k, W / k), integers in [0, k²): which pixel of its k x k cell is kept; the shapes
            give k, and index i is row i // k and column i % k.

    Returns:
        (N, C, H / k, W / k). Gradients reach the kept pixels.

    Raises:
        UsageError: the shapes do not fit each other.
    """
    n, c, h, w = x.shape
    rows, columns = int(mask.shape[-2]), int(mask.shape[-1])
    k = h // rows if rows else 0
    if mask.shape != (n, rows, columns) or (rows * k, columns * k) != (h, w):
        raise UsageError(
            f"the mask does not fit images of shape {tuple(x.shape)}: expected (N, H / k, W / k), "
            f"got {tuple(mask.shape)}"
        )
    index = _over_channels(mask[..., None], c)
    return _cells(x, k).gather(-1, index).squeeze(-1)


def _cells(x: torch.Tensor, k: int) -> torch.Tensor:
    """Return (N, C, H / k, W / k, k²): the pixels of every cell, row by row."""
    n, c, h, w = x.shape
    return x.reshape(n, c, h // k, k, w // k, k).permute(0, 1, 2, 4, 3, 5).reshape(n, c, h // k, w // k, k * k)


def _over_channels(index: torch.Tensor, channels: int) -> torch.Tensor:
    """Return (N, H, W, K) indices as (N, C, H, W, K): a pixel's channels move together."""
    n, h, w, k = index.shape
    return index.to(torch.int64)[:, None].expand(n, channels, h, w, k)


def _cell_of(x: torch.Tensor, permutation: torch.Tensor) -> int:
    """Return the side k of the cells that `permutation` is for."""
    k = math.isqrt(permutation.shape[-1])
    wanted = (x.shape[0], x.shape[2] // k, x.shape[3] // k, k * k) if k else ()
    if permutation.shape != wanted or x.shape[2] % k or x.shape[3] % k:
        raise UsageError(
            f"the permutation does not fit images of shape {tuple(x.shape)}: expected (N, H / k, W / k, k²), "
            f"got {tuple(permutation.shape)}"
        )
    return k
