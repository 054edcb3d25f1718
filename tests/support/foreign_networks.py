"""Small denoisers as other projects write them, and their ONNX files; they need torch."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from pathlib import Path


class DnCNN(nn.Module):
    """The noise is predicted by convolutions with batch normalization, and subtracted. It looks 4 pixels far."""

    def __init__(self) -> None:
        super().__init__()
        inner = [nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
        inner += [nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
        head, tail = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.body = nn.Sequential(head, nn.ReLU(), *inner, tail)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image - self.body(image)


class FFDNet(nn.Module):
    """Works at half resolution; the fourth channel is the standard deviation of the noise. It looks 5 pixels far."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(15, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 12, 3, padding=1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        small = functional.pixel_unshuffle(image[:, :3], 2)
        level = functional.avg_pool2d(image[:, 3:], 2).expand(-1, 3, -1, -1)
        return functional.pixel_shuffle(self.body(torch.cat([small, level], 1)), 2)


class NAFBlock(nn.Module):
    """A block as in NAFNet: normalization over channels, depthwise convolution, gate. It looks 3 pixels far.

    With `attention`, channels are weighted by their mean over the image, as in the published network.
    """

    def __init__(self, *, attention: bool = False) -> None:
        super().__init__()
        width = 8
        self.intro, self.ending = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 3, 3, padding=1)
        self.scale, self.shift = nn.Parameter(torch.rand(width) + 0.5), nn.Parameter(torch.rand(width) - 0.5)
        self.widen = nn.Conv2d(width, 2 * width, 1)
        self.depthwise = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.narrow, self.weigh = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.beta = nn.Parameter(torch.rand(1, width, 1, 1))
        self.attention = attention

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.intro(image)
        centred = x - x.mean(1, keepdim=True)
        normal = centred / (centred.pow(2).mean(1, keepdim=True) + 1e-6).sqrt()
        normal = self.scale.view(1, -1, 1, 1) * normal + self.shift.view(1, -1, 1, 1)
        first, second = self.depthwise(self.widen(normal)).chunk(2, 1)
        gated = first * second
        if self.attention:
            gated = gated * self.weigh(functional.adaptive_avg_pool2d(gated, 1))
        return image + self.ending(x + self.beta * self.narrow(gated))


class UNet(nn.Module):
    """Two halvings, a transposed convolution, nearest-pixel enlarging and mirrored borders. It looks 13 pixels far."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.LeakyReLU(0.1))
        self.second = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU())
        self.third = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.PReLU(16))
        self.up = nn.ConvTranspose2d(16, 16, 2, 2)
        self.join = nn.Sequential(nn.Conv2d(32, 8, 3, padding=1, padding_mode="reflect"), nn.ReLU())
        self.tail = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        full = self.first(image)
        half = self.second(functional.max_pool2d(full, 2))
        quarter = self.third(functional.max_pool2d(half, 2))
        joined = self.join(torch.cat([self.up(quarter), half], 1))
        enlarged = functional.interpolate(joined, scale_factor=2, mode="nearest")
        return image + self.tail(torch.cat([enlarged, full], 1))


def export_foreign(
    network: nn.Module, path: Path, *, channels: int = 3, dynamo: bool = True, symbolic: bool = True
) -> Path:
    """Write a network as an ONNX file as a stranger would, with the exporter's own choices.

    Args:
        network: from (1, C, H, W) to (1, 3, H, W).
        path: the file.
        channels: number of input channels.
        dynamo: whether torch.export traces it (opset 18); otherwise TorchScript does (opset 13).
        symbolic: whether height and width are symbolic; otherwise they are 64 and 72.
    """
    example = torch.rand(1, channels, 64, 72, generator=torch.Generator().manual_seed(0))
    sides = {2: "height", 3: "width"}
    if dynamo:
        dims = ({2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO},) if symbolic else None
        options = {"dynamo": True, "opset_version": 18, "dynamic_shapes": dims, "external_data": False}
    else:
        names = {"input_names": ["input"], "output_names": ["output"]}
        axes = {"dynamic_axes": {"input": {0: "batch", **sides}} if symbolic else None}
        options = {"dynamo": False, "opset_version": 13, **names, **axes}
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(network.eval(), (example,), str(path), verbose=False, **options)
    finally:
        logging.disable(level)
    return path


def save_program(network: nn.Module, path: Path, *, channels: int = 3, symbolic: bool = True) -> Path:
    """Write a network as a torch.export program.

    Args:
        network: from (1, C, H, W) to (1, 3, H, W).
        path: the file.
        channels: number of input channels.
        symbolic: whether height and width are symbolic; otherwise they are 64 and 72.
    """
    example = torch.rand(1, channels, 64, 72, generator=torch.Generator().manual_seed(0))
    sides = {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO} if symbolic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch on its own code
        program = torch.export.export(network.eval(), (example,), dynamic_shapes=(sides,))
        torch.export.save(program, path)
    return path
