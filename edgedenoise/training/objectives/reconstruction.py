"""Distances between an answer and its target, for students: one number per image of a batch.

`l1` is the mean absolute error. `charbonnier` is the same, smooth at zero (Charbonnier et al., ICIP 1994). `psnr`
is the error in decibels (Chen et al., 'HINet', CVPRW 2021): every image counts alike, however noisy, so that
a network does not learn from strong noise to over-smooth weak noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

CHARBONNIER_EPSILON = 1e-3
"""Below a quarter of an 8-bit level the loss is a parabola."""
PSNR_FLOOR = 1e-5
"""Floor of the mean square error, 50 dB: a better image does not improve the loss."""
PSNR_FIRST_FLOOR = 1e-3
"""Addition to that floor at the first step, 30 dB, where it falls; see `psnr_floor_at`."""


def l1(answer: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean of |answer - target| of each image of (N, 3, H, W): (N,)."""
    return (answer - target).abs().mean(dim=(1, 2, 3))


def charbonnier(answer: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean of sqrt((answer - target)² + epsilon²) of each image of (N, 3, H, W): (N,)."""
    return ((answer - target).square() + CHARBONNIER_EPSILON**2).sqrt().mean(dim=(1, 2, 3))


def negative_psnr(answer: torch.Tensor, target: torch.Tensor, floor: float = PSNR_FLOOR) -> torch.Tensor:
    """Return minus the PSNR in dB, peak 1, of each image of (N, 3, H, W): (N,)."""
    return 10 * torch.log10((answer - target).square().mean(dim=(1, 2, 3)) + floor)


def psnr_floor_at(step: int, steps: int) -> float:
    """Return the floor of `psnr` at a step: it falls from `PSNR_FIRST_FLOOR` to `PSNR_FLOOR` over the first `steps`.

    The gradient of an image is inversely proportional to its root mean square error. Without the higher floor, nearly
    clean images teach a new network to change nothing before it has learnt what noise is.
    """
    return PSNR_FLOOR + (PSNR_FIRST_FLOOR * max(0.0, 1 - step / steps) ** 2 if steps else 0.0)


LOSSES: Final[dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]] = {
    "l1": l1,
    "charbonnier": charbonnier,
    "psnr": negative_psnr,
}
"""Every loss by its name in configs."""


def laplacian(answer: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute difference of the Laplacians of each image of (N, 3, H, W), the edge left out: (N,).

    It weighs fine detail, to which the mean error is insensitive.
    """
    d = answer - target
    middle = d[..., 1:-1, 1:-1]
    edges = d[..., :-2, 1:-1] + d[..., 2:, 1:-1] + d[..., 1:-1, :-2] + d[..., 1:-1, 2:] - 4 * middle
    return edges.abs().mean(dim=(1, 2, 3))
