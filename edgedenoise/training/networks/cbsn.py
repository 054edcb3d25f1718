"""C-BSN: one set of weights for a blind-spot network and for an ordinary one.

Jang et al., "Self-supervised Image Denoising with Downsampled Invariance Loss and Conditional Blind-Spot
Network", ICCV 2023; layer for layer what the authors' TensorFlow code computes.

    image -> 1x1 -+-> masked 3x3 -> 1x1 -> 1x1 -> N modules, dilation 2 -> 1x1 -+-> 1x1 -> 1x1 -> 1x1 -> 1x1
                  +-> masked 5x5 -> 1x1 -> 1x1 -> N modules, dilation 3 -> 1x1 -+

In the blind mode the centre tap of both masked kernels is zero, and the dilations keep every later layer off the
centre: no output sees the pixel below it. In the non-blind mode, which devices run, they are plain convolutions.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from edgedenoise.errors import UsageError
from edgedenoise.training.networks.layers import Sum, relu

LOCAL_MEAN_CHANNELS = 6
"""Channels that `CBSN.start_as_local_mean` needs: red, green and blue, above and below their mean."""

_OTHERS = 0.03  # of the He weights; at 0.1 the other channels drown the mean, at 0 they would never learn


class ConditionalMaskedConv2d(nn.Conv2d):
    """A convolution, zero-padded to the same size, with a mode that does not see the centre pixel."""

    mask: torch.Tensor

    def __init__(self, channels: int, kernel_size: int) -> None:
        """Build a `channels` to `channels` convolution with an odd `kernel_size`."""
        super().__init__(channels, channels, kernel_size, padding=kernel_size // 2)
        mask = torch.ones(1, 1, kernel_size, kernel_size)
        mask[..., kernel_size // 2, kernel_size // 2] = 0
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: torch.Tensor, blind: bool = False) -> torch.Tensor:
        """Return the convolution of (N, C, H, W), in the same shape; `blind` leaves the centre tap out."""
        weight = self.weight * self.mask if blind else self.weight
        return functional.conv2d(x, weight, self.bias, padding=self.padding)


class DilatedModule(nn.Module):
    """Residual module x + relu(1x1(relu(dilated 3x3(x)))), with the second ReLU inside as in the authors' code."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.dilated = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.pointwise = nn.Conv2d(channels, channels, 1)
        self.sum = Sum()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output for (N, C, H, W), in the same shape."""
        hidden = relu(self.dilated(x), self.training)
        return self.sum(x, relu(self.pointwise(hidden), self.training))  # type: ignore[no-any-return]


class Branch(nn.Module):
    """A masked convolution and a trunk whose dilation keeps off the masked centre."""

    def __init__(self, channels: int, kernel_size: int, dilation: int, modules: int) -> None:
        super().__init__()
        self.masked = ConditionalMaskedConv2d(channels, kernel_size)
        self.mix1 = nn.Conv2d(channels, channels, 1)
        self.mix2 = nn.Conv2d(channels, channels, 1)
        self.trunk = nn.ModuleList(DilatedModule(channels, dilation) for _ in range(modules))
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor, *, blind: bool) -> torch.Tensor:
        """Return the output for (N, C, H, W), in the same shape."""
        x = relu(self.masked(x, blind) if blind else self.masked(x), self.training)
        x = relu(self.mix1(x), self.training)
        x = relu(self.mix2(x), self.training)
        for module in self.trunk:
            x = module(x)
        return relu(self.out(x), self.training)


class CBSN(nn.Module):
    """The conditional blind-spot network."""

    def __init__(self, width: int = 128, modules: int = 9) -> None:
        """Build a network with He fan-in weights and zero biases.

        Args:
            width: channels; officially 128.
            modules: dilated modules per branch; officially 9. The receptive field's radius is 2 + 3 modules.

        Raises:
            UsageError: either is less than one.
        """
        if width < 1 or modules < 1:
            raise UsageError(f"a C-BSN of {width} channels and {modules} modules; expected at least 1 of both")
        super().__init__()
        self.width, self.modules_per_branch = width, modules
        self.head = nn.Conv2d(3, width, 1)
        self.branch1 = Branch(width, kernel_size=3, dilation=2, modules=modules)
        self.branch2 = Branch(width, kernel_size=5, dilation=3, modules=modules)
        self.tail1 = nn.Conv2d(2 * width, width, 1)
        self.tail2 = nn.Conv2d(width, 64, 1)
        self.tail3 = nn.Conv2d(64, 64, 1)
        self.tail4 = nn.Conv2d(64, 3, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    @torch.no_grad()
    def start_as_local_mean(self) -> None:
        """Set fresh weights so that the network starts near the mean of a pixel's neighbours, blind or not.

        This is not in the paper: with He weights, a short training is spent on learning to pass colours at all. Six
        channels carry relu(x) and relu(-x) through every layer, the masked kernels average them over the neighbours,
        and the last layer subtracts them. The other channels keep their He weights, scaled down where they feed the
        six.

        Raises:
            UsageError: the network has fewer than six channels.
        """
        if self.width < LOCAL_MEAN_CHANNELS:
            raise UsageError(
                f"a C-BSN of {self.width} channels cannot start as a local mean: expected at least "
                f"{LOCAL_MEAN_CHANNELS}"
            )
        carried = torch.eye(LOCAL_MEAN_CHANNELS)[:, :, None, None]
        self.head.weight[:LOCAL_MEAN_CHANNELS] = torch.cat([carried[:3, :3], -carried[:3, :3]])
        for branch in (self.branch1, self.branch2):
            _carry(branch.masked, carried * branch.masked.mask / branch.masked.mask.sum())
            for layer in (branch.mix1, branch.mix2, branch.out):
                _carry(layer, carried)
            for module in branch.trunk:
                module.pointwise.weight.mul_(_OTHERS)  # type: ignore[operator, union-attr]
        _carry(self.tail1, carried / 2)
        self.tail1.weight[:LOCAL_MEAN_CHANNELS, self.width : self.width + LOCAL_MEAN_CHANNELS] += carried / 2
        _carry(self.tail2, carried)
        _carry(self.tail3, carried)
        _carry(self.tail4, torch.cat([carried[:3, :3], -carried[:3, :3]], dim=1))

    def forward(self, x: torch.Tensor, blind: bool = False) -> torch.Tensor:
        """Denoise normalised images.

        Args:
            x: (N, 3, H, W), float, zero mean and unit deviation per channel; any H and W.
            blind: leave the centre pixel out (f_M in the paper), or see all pixels (f).

        Returns:
            (N, 3, H, W) in the same units; the last layer is linear and there is no global residual.
        """
        x = relu(self.head(x), self.training)
        near = self.branch1(x, blind=blind)
        far = self.branch2(x, blind=blind)
        x = relu(self.tail1(torch.cat([near, far], dim=1)), self.training)
        x = relu(self.tail2(x), self.training)
        x = relu(self.tail3(x), self.training)
        return self.tail4(x)  # type: ignore[no-any-return]


def _carry(layer: nn.Conv2d, kernel: torch.Tensor) -> None:
    """Set the first outputs of `layer` close to those of `kernel` (outputs, inputs, ...) on its first inputs."""
    outputs, inputs = kernel.shape[:2]
    layer.weight[:outputs] *= _OTHERS
    layer.weight[:outputs, :inputs] += kernel
