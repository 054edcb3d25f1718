"""Fake quantization: convolutions and Add nodes that compute in training as their INT8 form does.

The arithmetic is that of the QDQ graph (`export/quantization/qdq.py`) in the same scheme: activations per tensor,
weights per output channel, rounded half to even by torch's fake-quantize functions, whose gradient is one inside the
range and zero where values are clipped. The inputs of a Concat are rounded by the convolution that reads it, with one
range. The Add of image and residual stays float, as in the graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from edgedenoise.calibration.histograms import Range
from edgedenoise.errors import UsageError
from edgedenoise.training.networks.layers import Sum
from edgedenoise.training.networks.students import fold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedenoise.calibration.schemes import Scheme

_MOMENTUM = 0.01
"""Momentum of the running mean of the smallest and the largest value of a batch."""
_NAMED = 4
"""Number of layers that the error for an unknown one names."""


class Rounding(nn.Module):
    """Fake quantization of one activation tensor, with a range that follows the batches until it is frozen."""

    low: torch.Tensor
    """Lower end of the range, a scalar."""
    high: torch.Tensor
    """Upper end of the range, a scalar."""
    seen: torch.Tensor
    """State of the range, a scalar: 0 unknown, 1 observed, 2 set and fixed."""

    def __init__(self, scheme: Scheme) -> None:
        super().__init__()
        self._scheme = scheme
        self.observing = True
        for name in ("low", "high", "seen"):
            self.register_buffer(name, torch.zeros(()))

    @property
    def range(self) -> Range:
        """Current range."""
        return Range(self.low.item(), self.high.item())

    @torch.no_grad()
    def give_range(self, low: float, high: float) -> None:
        """Set a fixed range, which must contain zero."""
        self.low.fill_(low)
        self.high.fill_(high)
        self.seen.fill_(2)

    def rounded(self, x: torch.Tensor) -> torch.Tensor:
        """Return activations rounded as by QuantizeLinear, per tensor, after observing their range."""
        if self.training and self.observing:
            self._observe(x.detach())
        scale, zero = self.encoding()
        least, most = (-127, 127) if self._scheme.activations == "s8" else (0, 255)
        return torch.fake_quantize_per_tensor_affine(x.float(), scale, zero, least, most)

    def encoding(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (scale, zero point) of the current range; see `schemes.encode_range`."""
        if self._scheme.activations == "s8":
            scale = torch.maximum(-self.low, self.high) / 127
            zero = torch.zeros_like(scale, dtype=torch.int32)
        else:
            scale = (self.high - self.low) / 255
            zero = (-self.low / scale.clamp(min=1e-30)).round().clamp(0, 255).to(torch.int32)
        return torch.where(scale > 0, scale, 1.0), zero

    @torch.no_grad()
    def _observe(self, x: torch.Tensor) -> None:
        """Move the range towards that of a batch; it always contains zero, which padding needs."""
        low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
        share = torch.where(self.seen > 1, 0.0, torch.where(self.seen > 0, _MOMENTUM, 1.0))
        self.low.lerp_(low.to(self.low), share)
        self.high.lerp_(high.to(self.high), share)
        self.seen.clamp_(min=1)


class QuantizedConv2d(Rounding):
    """A convolution with fake-quantized input and weight."""

    def __init__(self, plain: nn.Conv2d, scheme: Scheme) -> None:
        """Wrap a plain convolution."""
        super().__init__(scheme)
        self.weight, self.bias = plain.weight, plain.bias
        self._plain = {name: getattr(plain, name) for name in ("stride", "padding", "dilation", "groups")}

    def forward(self, x: torch.Tensor, blind: bool = False) -> torch.Tensor:
        """Convolve (N, C, H, W).

        Raises:
            UsageError: `blind` is set: no device runs that path.
        """
        if blind:
            raise UsageError("a network with fake quantization has no blind path any more: no device runs it")
        seen = self.rounded(x)
        scale = self._weight_scale()
        return functional.conv2d(seen, self._rounded_weight(scale), self._rounded_bias(scale), **self._plain)

    @torch.no_grad()
    def folded(self) -> nn.Conv2d:
        """Return the plain convolution, with its weight not rounded."""
        outputs, inputs, height, width = self.weight.shape
        groups = self._plain["groups"]
        plain = nn.Conv2d(inputs * groups, outputs, (height, width), **self._plain).to(self.weight)
        plain.load_state_dict({"weight": self.weight, "bias": self.bias})
        return plain

    def _weight_scale(self) -> torch.Tensor:
        """Return the scale of every output channel; see `schemes.encode_weight`."""
        scale = self.weight.detach().abs().amax(dim=(1, 2, 3)) / self._limit
        return torch.where(scale > 0, scale, 1.0)

    @property
    def _limit(self) -> int:
        return int(2 ** (self._scheme.weight_bits - 1)) - 1

    def _rounded_weight(self, scale: torch.Tensor) -> torch.Tensor:
        zero = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(self.weight, scale, zero, 0, -self._limit, self._limit)

    def _rounded_bias(self, weight_scale: torch.Tensor) -> torch.Tensor | None:
        """Return biases rounded to the grid of integer kernels, in schemes that do so: errors of all layers add up."""
        if self.bias is None or self._scheme.bias == "float":
            return self.bias
        grid = self.encoding()[0] * weight_scale
        return self.bias + (torch.round(self.bias / grid) * grid - self.bias).detach()


class QuantizedSum(nn.Module):
    """An Add whose inputs are fake-quantized: both, or only the skip input, as the scheme says."""

    def __init__(self, scheme: Scheme) -> None:
        super().__init__()
        self.skip = Rounding(scheme)
        self.branch = Rounding(scheme) if scheme.sums == "both" else None

    def forward(self, skip: torch.Tensor, branch: torch.Tensor) -> torch.Tensor:
        """Add two tensors of one shape."""
        return self.skip.rounded(skip) + (branch if self.branch is None else self.branch.rounded(branch))

    def folded(self) -> Sum:
        """Return the plain Add."""
        return Sum()


def fake_quantized(network: nn.Module, scheme: Scheme, float_layers: Sequence[str] = ()) -> nn.Module:
    """Return a folded copy of a network in which every convolution and every inner Add is fake-quantized.

    Args:
        network: the float network.
        scheme: the integer encoding.
        float_layers: names of layers that stay in float, or of modules, all of whose layers do.

    Raises:
        UsageError: the network has no layer of such a name.
    """
    network = fold(network)  # a copy
    quantized = {
        path: QuantizedSum(scheme) if isinstance(module, Sum) else QuantizedConv2d(module, scheme)
        for path, module in network.named_modules()
        if isinstance(module, (nn.Conv2d, Sum))
    }
    for name in float_layers:
        below = [path for path in quantized if path == name or path.startswith(f"{name}.")]
        if not below:
            raise UsageError(
                f"float_layers has {name!r}, which is no layer of the network: expected names such as "
                f"{', '.join(list(quantized)[:_NAMED])}",
                hint="Separate several names by commas, or leave float_layers out to train all layers in 8 bits.",
            )
        for path in below:
            del quantized[path]
    for path, module in quantized.items():
        parent, _, name = path.rpartition(".")
        plain = network.get_submodule(path)
        setattr(network.get_submodule(parent), name, module.train(plain.training))
    return network


def float_layers_of(network: nn.Module) -> list[str]:
    """Return the paths of the convolutions and Adds that a fake-quantized network keeps in float."""
    return [path for path, module in network.named_modules() if isinstance(module, (nn.Conv2d, Sum))]


def observe(network: nn.Module, observing: bool) -> None:
    """Set whether ranges follow the batches in training, or are frozen."""
    for module in network.modules():
        if isinstance(module, Rounding):
            module.observing = observing


def input_ranges(network: nn.Module) -> dict[str, Range]:
    """Return the range of every quantized convolution's input, by the convolution's name."""
    return {name: module.range for name, module in network.named_modules() if isinstance(module, QuantizedConv2d)}


def sum_ranges(network: nn.Module) -> dict[str, tuple[Range, Range | None]]:
    """Return the ranges of every quantized Add's inputs (skip, branch), by the sum's name."""
    sums = {name: module for name, module in network.named_modules() if isinstance(module, QuantizedSum)}
    return {name: (one.skip.range, None if one.branch is None else one.branch.range) for name, one in sums.items()}
