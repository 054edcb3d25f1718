"""Guard: limit what a network removes to what the noise level explains.

A network with a noise-level plane computes y = x + r. Where r is larger than the noise, it also removes detail of the
image. The guarded network computes

    y = clip(x + a r),   a = t^2,   t = min(1, n / m)

for cells of 2x2 pixels. n is the amplitude that the noise level explains; m is the mean over 5x5 cells of |r| and of
the texture of the image, which is the difference between the mean of a cell and the mean of 3x3 cells. Texture counts
because a network that finds as much texture as noise takes one for the other.

The plane holds min(1, 10 sigma). At 1 the level is not known, so n grows there until the guard changes nothing.

The guard is part of the exported graph and has no weights. It consists of operators that every runtime computes in
float16 as well: amplitudes instead of energies keep all numbers within its range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from edgedenoise.training.networks.students import EdgeNetwork

_CELL_PX = 2
_WINDOW = 5
_TEXTURE_WINDOW = 3
_WINDOW_REACH_PX = _CELL_PX * (_WINDOW // 2)
_TEXTURE_REACH_PX = _CELL_PX - 1 + _WINDOW_REACH_PX + _CELL_PX * (_TEXTURE_WINDOW // 2)
_SMALLEST_AMPLITUDE = 3e-4  # 0.08 levels of 8 bits, a normal number in float16: no division by 0


@dataclass(frozen=True)
class GuardParameters:
    """Amplitudes that the guard compares.

    The defaults were chosen on images that no reported number is measured on. Smaller `noise` or larger `texture` keeps
    more of weak noise and of texture, and costs up to 3 dB where noise is strong.
    """

    noise: float = 0.125
    """Amplitude of the residual that a plane of 1 explains, with white as 1."""
    texture: float = 1.0
    """Weight of the texture of the image against the amplitude of the residual."""
    opens_at: float = 0.9
    """Value of the plane from which on the guard opens; at 1 it changes nothing."""


def guarded_halo_px(halo_px: int) -> int:
    """Return the receptive-field radius of a guarded network whose own radius is `halo_px`.

    Example:
        >>> guarded_halo_px(21)
        25
    """
    return max(halo_px + _WINDOW_REACH_PX, _TEXTURE_REACH_PX)


class Guarded(nn.Module):
    """A network with a noise-level plane, followed by the guard."""

    def __init__(self, network: EdgeNetwork, parameters: GuardParameters | None = None) -> None:
        """Build the guarded network.

        Args:
            network: a network that takes one noise-level plane, with its branches folded.
            parameters: the amplitudes to compare; None for the measured ones.
        """
        super().__init__()
        self.network = network
        self.amplitudes = parameters or GuardParameters()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Denoise (N, 4, H, W) in [0, 1], H and W divisible by 2; (N, 3, H, W) in the same range."""
        residual = self.network.residual(image)
        limited = residual * self.factor(image, residual)
        return torch.clamp(image[:, :3] + functional.pixel_shuffle(limited, _CELL_PX), 0, 1)

    def factor(self, image: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """Return the share of the residual that is kept, between 0 and 1.

        Args:
            image: (N, 4, H, W), colours and the noise-level plane.
            residual: (N, 12, H/2, W/2), before the pixel shuffle.

        Returns:
            (N, 1, H/2, W/2).
        """
        p = self.amplitudes
        cells = functional.avg_pool2d(image, _CELL_PX)
        level, grey = cells[:, 3:], cells[:, :3].mean(dim=1, keepdim=True)
        texture = (grey - _window_mean(grey, _TEXTURE_WINDOW)).abs()
        found = _window_mean(residual.abs().mean(dim=1, keepdim=True) + texture * p.texture, _WINDOW)
        explained = level * p.noise + functional.relu(level - p.opens_at) * (1 / (1 - p.opens_at))
        share = explained / (explained + functional.relu(found - explained) + _SMALLEST_AMPLITUDE)
        return share * share


def _window_mean(cells: torch.Tensor, side: int) -> torch.Tensor:
    """Return the means over windows around each cell, of the cells that the image has."""
    return functional.avg_pool2d(cells, side, stride=1, padding=side // 2, count_include_pad=False)
