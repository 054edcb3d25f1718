"""Edge students: small networks for INT8, which compute y = clip(x + r(x)) from pixels x in [0, 1].

Plain convolutions and ReLU, a residual in the image and a final clip lose least in 8 bits (docs/guides/students.md).
Everything but that Add runs at half resolution or less. The downscaling is a 6x6 convolution of stride 2, which equals
a 3x3 convolution after a pixel unshuffle; the upscaling is depth-to-space.

    EdgeNetwork      image -> 6x6 /2 -> N x [3x3 relu] -> 3x3 -> depth-to-space -> + image -> clip
    EdgePlusNetwork  image -> 6x6 /2 -> 2 x [3x3 relu] -+-> 4x4 /2 -> N x [3x3 relu] -> 1x1 -> depth-to-space -+
                                                        +------------------------------------------------- + -+
                     -> relu -> 2 x [3x3 relu] -> 3x3 -> depth-to-space -> + image -> clip

An `EdgeNetwork` can take a fourth input plane, the noise level at every pixel (`noise/level.py`); the residual is added
to red, green and blue.

While training, a 3x3 convolution is the sum of a 3x3 kernel, a 1x1 kernel and a scaled identity, as in RepVGG
(Ding et al., CVPR 2021), added in the kernel and not in the activations, as in SESR (Bhardwaj et al., MLSys 2022): it
costs no more than one convolution. `folded` returns that convolution, exactly.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from edgedenoise.training.networks.layers import Sum, relu

if TYPE_CHECKING:
    from collections.abc import Callable

_HEAD_GAIN = 0.5  # of the balanced first kernels, against He fan-in
_HEAD_BIAS = 0.02
_BODY_GAIN = 0.3  # of the 3x3 kernels at the beginning, beside an identity of 1: signals neither fade nor grow


class FoldableConv2d(nn.Conv2d):
    """A 3x3 convolution, zero-padded to the same size, that trains as three branches and folds into one."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """Build a convolution that starts near the identity on the channels that inputs and outputs share."""
        super().__init__(inputs, outputs, 3, padding=1)
        nn.init.kaiming_normal_(self.weight, mode="fan_in", nonlinearity="relu")
        with torch.no_grad():
            self.weight *= _BODY_GAIN
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]
        self.point = nn.Parameter(torch.zeros(outputs, inputs))
        """The 1x1 kernel."""
        self.identity = nn.Parameter(torch.ones(min(inputs, outputs)))
        """Weight of input i in output i."""

    def kernel(self) -> torch.Tensor:
        """Return the kernel that equals the sum of the three branches: (outputs, inputs, 3, 3)."""
        outputs, inputs = self.point.shape
        shared = len(self.identity)
        straight = functional.pad(torch.diag(self.identity), (0, inputs - shared, 0, outputs - shared))
        return self.weight + functional.pad((self.point + straight)[:, :, None, None], (1, 1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H, W)."""
        kernel = self.kernel().contiguous(memory_format=torch.channels_last)
        return functional.conv2d(x, kernel, self.bias, padding=1)

    @torch.no_grad()
    def folded(self) -> nn.Conv2d:
        """Return the plain convolution that computes the same."""
        plain = nn.Conv2d(self.in_channels, self.out_channels, 3, padding=1).to(self.weight)  # its device and precision
        plain.load_state_dict({"weight": self.kernel(), "bias": self.bias})
        return plain

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Load the weights of a folded convolution too, which bundles hold: the other branches are then zero."""
        if prefix + "point" not in state_dict and prefix + "identity" not in state_dict:
            others = {prefix + name: torch.zeros_like(getattr(self, name)) for name in ("point", "identity")}
            state_dict = {**state_dict, **others}
        super()._load_from_state_dict(state_dict, prefix, *args)


def fold(network: nn.Module) -> nn.Module:
    """Return a copy of a network in which every module with `folded()` is replaced by it: what devices run."""
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        for name, child in module.named_children():
            folded: Callable[[], nn.Conv2d] | None = getattr(child, "folded", None)
            if folded is not None:
                setattr(module, name, folded().train(child.training))
    return network


class EdgeNetwork(nn.Module):
    """A stack of 3x3 convolutions at half resolution, with a receptive-field radius of 5 + 2 `convolutions`."""

    def __init__(self, width: int, convolutions: int, level_planes: int = 0) -> None:
        """Build a network that starts as the identity.

        Args:
            width: channels.
            convolutions: 3x3 convolutions between head and tail.
            level_planes: input planes for the noise level, 0 or 1.
        """
        super().__init__()
        self.head = _balanced_head(width, level_planes)
        self.body = nn.ModuleList(FoldableConv2d(width, width) for _ in range(convolutions))
        self.tail = _silent_tail(width)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Denoise (N, 3 + level planes, H, W) in [0, 1], H and W divisible by 2; (N, 3, H, W) in the same range."""
        return _added(image[:, :3], self.residual(image))

    def residual(self, image: torch.Tensor) -> torch.Tensor:
        """Return what is added to (N, 3 + level planes, H, W), before the pixel shuffle: (N, 12, H/2, W/2)."""
        x = relu(self.head(image), self.training)
        for convolution in self.body:
            x = relu(convolution(x), self.training)
        result: torch.Tensor = self.tail(x)
        return result


class EdgePlusNetwork(nn.Module):
    """A U-Net of two scales, with a receptive-field radius of 17 + 4 `convolutions`."""

    def __init__(self, width: int, inner_width: int, convolutions: int) -> None:
        """Build a network that starts as the identity.

        Args:
            width: channels at half resolution.
            inner_width: channels at quarter resolution.
            convolutions: 3x3 convolutions there.
        """
        super().__init__()
        self.head = _balanced_head(width)
        self.encoder = nn.ModuleList(FoldableConv2d(width, width) for _ in range(2))
        self.down = nn.Conv2d(width, inner_width, 4, stride=2, padding=1)
        self.body = nn.ModuleList(FoldableConv2d(inner_width, inner_width) for _ in range(convolutions))
        self.up = nn.Conv2d(inner_width, 4 * width, 1)
        self.sum = Sum()
        self.decoder = nn.ModuleList(FoldableConv2d(width, width) for _ in range(2))
        self.tail = _silent_tail(width)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Denoise (N, 3, H, W) in [0, 1], H and W divisible by 4; the same shape and range."""
        x = relu(self.head(image), self.training)
        for convolution in self.encoder:
            x = relu(convolution(x), self.training)
        inner = relu(self.down(x), self.training)
        for convolution in self.body:
            inner = relu(convolution(inner), self.training)
        x = relu(self.sum(x, functional.pixel_shuffle(self.up(inner), 2)), self.training)
        for convolution in self.decoder:
            x = relu(convolution(x), self.training)
        return _added(image, self.tail(x))


def _balanced_head(width: int, level_planes: int = 0) -> nn.Conv2d:
    """Return the first convolution, with kernels whose mean over the image is zero.

    Pixels are positive. A kernel with a negative mean has negative outputs on every smooth image, and the ReLU removes
    them: a third to a half of the channels would start dead, and training took about eight times as many steps.
    """
    head = nn.Conv2d(3 + level_planes, width, 6, stride=2, padding=2)
    nn.init.kaiming_normal_(head.weight, nonlinearity="relu")
    nn.init.constant_(head.bias, _HEAD_BIAS)  # type: ignore[arg-type]
    with torch.no_grad():
        head.weight[:, :3] -= head.weight[:, :3].mean(dim=(1, 2, 3), keepdim=True)
        head.weight *= _HEAD_GAIN
    return head


def _silent_tail(width: int) -> nn.Conv2d:
    """Return the last convolution, all zero, so that the network starts as the identity."""
    tail = nn.Conv2d(width, 12, 3, padding=1)
    nn.init.zeros_(tail.weight)
    nn.init.zeros_(tail.bias)  # type: ignore[arg-type]
    return tail


def _added(image: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    """Return clip(x + r), added in the precision of the image, also where the network computes in bfloat16."""
    return torch.clamp(image + functional.pixel_shuffle(residual, 2).to(image.dtype), 0, 1)
