"""How a picture is taken apart: space-to-batch, its inverse, and the random sub-sampler.

All three only move pixels. Neighbouring pixels share their noise (a camera's demosaicing spreads it), so
sub-images whose pixels were five apart have nearly independent noise: what blind-spot training needs.
"""

from __future__ import annotations

import torch

from edgedenoise.errors import UsageError


def space_to_batch(x: torch.Tensor, block: int) -> torch.Tensor:
    """Split every picture into block² sub-images of the pixels that lie `block` apart.

    Args:
        x: (N, C, H, W); H and W divisible by `block`.
        block: distance between the pixels of a sub-image, 1 or more.

    Returns:
        (block² N, C, H / block, W / block). The offset within the block is the slowest part of the batch axis
        (TensorFlow's order): sub-image (row, column) of picture n is number (row * block + column) * N + n.

    Raises:
        UsageError: H or W is not divisible by `block`.
    """
    n, c, h, w = x.shape
    if h % block or w % block:
        raise UsageError(f"a {h}x{w} picture cannot be split by {block}: both sides must be divisible by it")
    cells = x.reshape(n, c, h // block, block, w // block, block)
    return cells.permute(3, 5, 0, 1, 2, 4).reshape(block * block * n, c, h // block, w // block)


def batch_to_space(x: torch.Tensor, block: int) -> torch.Tensor:
    """Put sub-images together again: the exact inverse of `space_to_batch`.

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
        raise UsageError(f"{m} sub-images are no whole number of pictures split by {block}")
    cells = x.reshape(block, block, m // (block * block), c, h, w)
    return cells.permute(2, 3, 4, 0, 5, 1).reshape(m // (block * block), c, h * block, w * block)


def random_subsample(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Keep one pixel of every cell: the random sub-sampler RS of C-BSN (Jang et al., ICCV 2023, section 3.3).

    Args:
        x: (N, C, H, W).
        mask: (N, H / k, W / k), integers in [0, k²): which pixel of its k x k cell is kept; the shapes tell
            k, and index i is row i // k and column i % k.

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
            f"a mask of shape {tuple(mask.shape)} does not fit pictures of shape {tuple(x.shape)}; "
            "accepted: (N, H / k, W / k)"
        )
    cells = x.reshape(n, c, rows, k, columns, k).permute(0, 1, 2, 4, 3, 5).reshape(n, c, rows, columns, k * k)
    index = mask.to(torch.int64)[:, None, :, :, None].expand(n, c, rows, columns, 1)
    return cells.gather(-1, index).squeeze(-1)
