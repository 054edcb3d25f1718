"""Networks that train as their INT8 form computes: every convolution sees rounded activations and rounded weights.

The arithmetic is that of the QDQ graph (`export/quantize.py`) for whatever a convolution reads, by the same scheme:
activations per tensor, weights per output channel, rounded half to even by torch's own fake-quantize functions, whose
gradient is one inside the range and zero where values are clipped. What sums and joins read is not rounded here, and
biases stay float: the grid they are rounded to is far finer than the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from edgedenoise.calibration.histograms import Range
from edgedenoise.errors import UsageError
from edgedenoise.training.students import fold

if TYPE_CHECKING:
    from edgedenoise.calibration.schemes import Scheme

_MOMENTUM = 0.01
"""Of the running mean of a batch's least and greatest value."""


class QuantizedConv2d(nn.Module):
    """A convolution with fake-quantized input and weight."""

    low: torch.Tensor
    high: torch.Tensor
    """Ends of the input's range, scalars."""
    seen: torch.Tensor
    """0 while the range is unknown, 1 when it was observed, 2 when it is given and does not move."""

    def __init__(self, plain: nn.Conv2d, scheme: Scheme) -> None:
        """Wrap a plain convolution."""
        super().__init__()
        self.weight, self.bias = plain.weight, plain.bias
        self._plain = {name: getattr(plain, name) for name in ("stride", "padding", "dilation", "groups")}
        self._scheme = scheme
        self.observing = True
        for name in ("low", "high", "seen"):
            self.register_buffer(name, torch.zeros(()))

    def forward(self, x: torch.Tensor, blind: bool = False) -> torch.Tensor:
        """Convolve (N, C, H, W).

        Raises:
            UsageError: `blind` is asked for, which no device runs.
        """
        if blind:
            raise UsageError("a network with fake quantization has no blind path any more; devices do not run it")
        if self.training and self.observing:
            self._observe(x.detach())
        return functional.conv2d(self._rounded(x), self._rounded_weight(), self.bias, **self._plain)

    @torch.no_grad()
    def folded(self) -> nn.Conv2d:
        """Return the plain convolution, its weight not rounded."""
        outputs, inputs, height, width = self.weight.shape
        groups = self._plain["groups"]
        plain = nn.Conv2d(inputs * groups, outputs, (height, width), **self._plain).to(self.weight)
        plain.load_state_dict({"weight": self.weight, "bias": self.bias})
        return plain

    @torch.no_grad()
    def give_range(self, low: float, high: float) -> None:
        """Set the range of the input for good; it must hold zero."""
        self.low.fill_(low)
        self.high.fill_(high)
        self.seen.fill_(2)

    @torch.no_grad()
    def _observe(self, x: torch.Tensor) -> None:
        """Move the range towards that of a batch; it always holds zero, which padding needs."""
        low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
        share = torch.where(self.seen > 1, 0.0, torch.where(self.seen > 0, _MOMENTUM, 1.0))
        self.low.lerp_(low.to(self.low), share)
        self.high.lerp_(high.to(self.high), share)
        self.seen.clamp_(min=1)

    def _rounded(self, x: torch.Tensor) -> torch.Tensor:
        """Round activations as QuantizeLinear does, per tensor; see `schemes.encode_range`."""
        if self._scheme.activations == "s8":
            least, most = -127, 127
            scale = torch.maximum(-self.low, self.high) / 127
            zero = torch.zeros_like(scale, dtype=torch.int32)
        else:
            least, most = 0, 255
            scale = (self.high - self.low) / 255
            zero = (-self.low / scale.clamp(min=1e-30)).round().clamp(0, 255).to(torch.int32)
        scale = torch.where(scale > 0, scale, 1.0)
        return torch.fake_quantize_per_tensor_affine(x.float(), scale, zero, least, most)

    def _rounded_weight(self) -> torch.Tensor:
        """Round weights per output channel; see `schemes.encode_weight`."""
        limit = 2 ** (self._scheme.weight_bits - 1) - 1
        scale = self.weight.detach().abs().amax(dim=(1, 2, 3)) / limit
        scale = torch.where(scale > 0, scale, 1.0)
        zero = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(self.weight, scale, zero, 0, -limit, limit)


def fake_quantized(network: nn.Module, scheme: Scheme) -> nn.Module:
    """Return a copy of a network, folded, with every convolution fake-quantized."""
    network = fold(network)  # a copy
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Conv2d):
                setattr(module, name, QuantizedConv2d(child, scheme).train(child.training))
    return network


def observe(network: nn.Module, observing: bool) -> None:
    """Let ranges move in training, or stay as they are."""
    for module in network.modules():
        if isinstance(module, QuantizedConv2d):
            module.observing = observing


def input_ranges(network: nn.Module) -> dict[str, Range]:
    """Return the range of every quantized convolution's input, by the convolution's name."""
    return {
        name: Range(module.low.item(), module.high.item())
        for name, module in network.named_modules()
        if isinstance(module, QuantizedConv2d)
    }
