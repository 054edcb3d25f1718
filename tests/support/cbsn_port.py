"""C-BSN as the two public versions of its PyTorch port name and compute it, written for the tests; it needs torch."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class _Pointwise(nn.Module):
    """A 1x1 convolution in an attribute `conv`."""

    def __init__(self, inputs: int, outputs: int, *, rectified: bool = True) -> None:
        super().__init__()
        self.conv, self.rectified = nn.Conv2d(inputs, outputs, 1), rectified

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).relu() if self.rectified else self.conv(x)


class _Dilated(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv2d(width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(self.conv1(x).relu()).relu()


class _CentreWeight(nn.Module):
    """A convolution whose centre is hidden, or has a weight of its own."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width, side, side) / side / width**0.5)
        self.center_weight = nn.Parameter(torch.randn(width, width, 1, 1) / width**0.5)
        self.bias = nn.Parameter(torch.randn(width) / 10)

    def forward(self, x: torch.Tensor, blind: bool) -> torch.Tensor:
        weight, middle = self.weight.clone(), self.weight.shape[-1] // 2
        weight[:, :, middle, middle] = 0 if blind else self.center_weight[:, :, 0, 0]
        return functional.conv2d(x, weight, self.bias, padding=middle).relu()


class _CentreBranch(nn.Module):
    def __init__(self, width: int, side: int, dilation: int, modules: int) -> None:
        super().__init__()
        self.masked = _CentreWeight(width, side)
        self.c1, self.c2, self.c3 = (_Pointwise(width, width) for _ in range(3))
        self.dcms = nn.ModuleList(_Dilated(width, dilation) for _ in range(modules))

    def forward(self, x: torch.Tensor, blind: bool) -> torch.Tensor:
        x = self.c2(self.c1(self.masked(x, blind)))
        for module in self.dcms:
            x = module(x)
        return self.c3(x)


class CentrePort(nn.Module):
    """The version with `center_weight`; it takes pixels in [0, 1]."""

    def __init__(self, width: int = 8, modules: int = 2) -> None:
        super().__init__()
        self.head = _Pointwise(3, width)
        self.b1, self.b2 = _CentreBranch(width, 3, 2, modules), _CentreBranch(width, 5, 3, modules)
        self.f1, self.f2 = _Pointwise(2 * width, width), _Pointwise(width, 64)
        self.f3, self.out = _Pointwise(64, 64), _Pointwise(64, 3, rectified=False)

    def forward(self, x: torch.Tensor, blind: bool = False) -> torch.Tensor:
        x = self.head(x)
        joined = torch.cat([self.b1(x, blind), self.b2(x, blind)], dim=1)
        return self.out(self.f3(self.f2(self.f1(joined))))


class _MaskedWeight(nn.Module):
    def __init__(self, width: int, side: int, *, blind: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width, side, side) / side / width**0.5)
        self.bias = nn.Parameter(torch.randn(width) / 10)
        mask = torch.ones(1, 1, side, side)
        mask[..., side // 2, side // 2] = 0 if blind else 1
        self.register_buffer("mask", mask)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(x, self.weight * self.mask, self.bias, padding=self.mask.shape[-1] // 2).relu()


class MaskPort(nn.Module):
    """The version with a stored `mask`, which is blind or not for good; it takes normalized pixels."""

    def __init__(self, width: int = 8, modules: int = 2, *, blind: bool = False) -> None:
        super().__init__()

        def pointwise() -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(width, width, 1), nn.ReLU())

        self.conv0 = nn.Sequential(nn.Conv2d(3, width, 1), nn.ReLU())
        for n, side in ((1, 3), (2, 5)):
            setattr(self, f"branch{n}_conv1", _MaskedWeight(width, side, blind=blind))
            for layer in (2, 3, 4):
                setattr(self, f"branch{n}_conv{layer}", pointwise())
            setattr(self, f"branch{n}_DCMs", nn.ModuleList(_Dilated(width, n + 1) for _ in range(modules)))
        inner = [nn.Conv2d(2 * width, width, 1), nn.ReLU(), nn.Conv2d(width, 64, 1), nn.ReLU()]
        self.fusion = nn.Sequential(*inner, nn.Conv2d(64, 64, 1), nn.ReLU(), nn.Conv2d(64, 3, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, found = self.conv0(x), []
        for n in (1, 2):
            one = x
            for layer in (1, 2, 3):
                one = getattr(self, f"branch{n}_conv{layer}")(one)
            for module in getattr(self, f"branch{n}_DCMs"):
                one = module(one)
            found.append(getattr(self, f"branch{n}_conv4")(one))
        return self.fusion(torch.cat(found, dim=1))
