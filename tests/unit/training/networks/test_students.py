"""Students begin as the identity, fold into what devices run, see exactly their halo, and answer pixels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from edgedenoise.imaging.normalize import UNIT
from edgedenoise.training import inference
from edgedenoise.training.inference import denoise_unit
from edgedenoise.training.networks.families import build_network, network_spec
from edgedenoise.training.networks.students import FoldableConv2d, fold

STUDENTS = ("edge-tiny", "edge", "edge-level", "edge-plus")
KMACS = {"edge-tiny": 15.5, "edge": 44, "edge-level": 44.5, "edge-plus": 55}


def trained(name: str, *, seed: int = 0) -> nn.Module:
    """A student whose every branch does something, as after a training; in evaluation mode."""
    network = build_network(network_spec(name), seed=seed).eval()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=random)
    return network


def picture(height: int, width: int, *, count: int = 1, seed: int = 1, name: str = "edge-tiny") -> torch.Tensor:
    """An input of a network: pixels, and its level plane where it has one."""
    planes = 3 + network_spec(name).level_planes
    return torch.rand(count, planes, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=STUDENTS)
def name(request) -> str:
    return request.param


@torch.no_grad()
def test_a_student_begins_as_the_identity(name):
    network, image = build_network(network_spec(name), seed=0), picture(24, 32, name=name)
    assert torch.equal(network(image), image[:, :3])
    assert torch.equal(network(3 * image - 1), (3 * image - 1)[:, :3].clamp(0, 1)), "and it clips"


def test_first_kernels_are_balanced_over_the_image_so_that_no_channel_begins_dead(name):
    """On a smooth image every output is the bias, above zero, which the ReLU keeps."""
    head = build_network(network_spec(name), seed=0).head
    assert head.weight[:, :3].mean(dim=(1, 2, 3)).abs().max() < 1e-7
    assert head.weight.std() > 0.05
    image = picture(24, 32, name=name)
    image[:, :3] = 0.7
    image[:, 3:] = 0
    assert torch.allclose(head(image)[..., 1:-1, 1:-1], head.bias[:, None, None], atol=1e-5)
    assert head.bias.min() > 0


def test_it_learns_although_it_begins_as_the_identity(name):
    network, image = build_network(network_spec(name), seed=0), picture(24, 32, name=name)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-2)
    for _ in range(2):  # first the tail, which is all zero; then what is before it
        optimizer.zero_grad()
        (network(image) - 0.5).square().mean().backward()
        optimizer.step()
    unmoved = [key for key, parameter in network.named_parameters() if not parameter.grad.any()]
    assert not unmoved


def test_the_spec_counts_the_folded_network(name):
    spec = network_spec(name)
    folded = fold(build_network(spec, seed=0)).eval()
    assert sum(parameter.numel() for parameter in folded.parameters()) == spec.parameters
    image, macs = picture(32, 48, name=name), []

    def count(layer: nn.Conv2d, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        macs.append(layer.weight.numel() * output.shape[2] * output.shape[3])

    for layer in folded.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    folded(image)
    assert sum(macs) / (32 * 48) == spec.macs_per_px
    assert spec.macs_per_px / 1000 == pytest.approx(KMACS[name], abs=0.5)
    assert (spec.normalization, spec.has_blind_path) == (UNIT, False)


def test_a_pixel_sees_exactly_as_far_as_the_halo(name):
    spec = network_spec(name)
    network, random = fold(build_network(spec, seed=0)).double(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in network.modules():  # positive weights: no ReLU is dead, no two paths cancel
            if isinstance(layer, nn.Conv2d):
                fan_in = layer.weight[0].numel()
                drawn = torch.rand(layer.weight.shape, generator=random, dtype=torch.float64)
                layer.weight.copy_((0.5 + drawn / 2) / fan_in)
                layer.bias.zero_()
    cell, halo = spec.multiple_of, spec.halo_px
    middle = -(-(halo + 2) // cell) * cell  # first pixel of a cell, with more package around it than the halo
    side = 2 * middle + cell
    image = torch.full((1, 3 + spec.level_planes, side, side), 0.1, dtype=torch.float64, requires_grad=True)
    answer, reaches = network(image), []
    for at in range(middle, middle + cell):
        (gradient,) = torch.autograd.grad(answer[0, :, at, at].sum(), image, retain_graph=True)
        for axes in ((0, 1, 3), (0, 1, 2)):
            seen = gradient.abs().sum(dim=axes).nonzero().flatten()
            reaches += [at - int(seen.min()), int(seen.max()) - at]
    assert max(reaches) == halo, "not one pixel further, and no further than needed"


@torch.no_grad()
def test_folded_answers_what_unfolded_does(name):
    network, image = trained(name), picture(32, 40, count=2, name=name)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    folded = fold(network)
    assert not any(isinstance(layer, FoldableConv2d) for layer in folded.modules())
    assert not folded.training
    difference = (folded(image) - network(image)).abs()
    assert difference.max() <= 1e-5
    assert (network(image) - image[:, :3]).abs().max() > 1e-3, "there is something to compare"
    # The original is as it was, and goes on training.
    assert any(isinstance(layer, FoldableConv2d) for layer in network.modules())
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


@pytest.mark.parametrize(("inputs", "outputs"), [(5, 5), (3, 7), (7, 3)])
@torch.no_grad()
def test_a_convolution_is_the_sum_of_its_branches(inputs, outputs):
    layer = FoldableConv2d(inputs, outputs)
    for parameter in layer.parameters():
        parameter.copy_(torch.randn_like(parameter))
    x, shared = torch.randn(2, inputs, 9, 11), min(inputs, outputs)
    expected = functional.conv2d(x, layer.weight, layer.bias, padding=1)
    expected += functional.conv2d(x, layer.point[:, :, None, None])
    expected[:, :shared] += layer.identity[:, None, None] * x[:, :shared]
    assert (layer(x) - expected).abs().max() <= 1e-5
    assert (layer.folded()(x) - expected).abs().max() <= 1e-5


@torch.no_grad()
def test_weights_of_a_folded_network_are_taken_up_by_one_that_trains(name):
    folded = fold(trained(name))
    network = build_network(network_spec(name), seed=7).eval()
    network.load_state_dict(folded.state_dict())
    image = picture(24, 32, name=name)
    assert (network(image) - folded(image)).abs().max() <= 1e-6
    own = trained(name)
    network.load_state_dict(own.state_dict())
    assert torch.equal(network(image), own(image)), "and its own weights still are"


def test_weights_that_lack_one_branch_only_are_refused():
    weights = build_network(network_spec("edge-tiny"), seed=0).state_dict()
    del weights["body.0.point"]
    with pytest.raises(RuntimeError, match=r"body\.0\.point"):
        build_network(network_spec("edge-tiny"), seed=0).load_state_dict(weights)


@torch.no_grad()
def test_folding_keeps_the_precision():
    network = trained("edge-tiny").double()
    image = picture(16, 16).double()
    assert (fold(network)(image) - network(image)).abs().max() <= 1e-12


@torch.no_grad()
def test_answers_are_pixels(name):
    answer = trained(name)(2 * picture(24, 32, name=name) - 0.5)
    assert (float(answer.min()), float(answer.max())) == (0, 1)


@torch.no_grad()
def test_what_trains_fast_answers_the_same(name):
    """The trainer works channels last and in training mode, and autocast may run the network in bfloat16."""
    network, image = trained(name), picture(24, 32, name=name)
    expected = network(image)
    network = network.train().to(memory_format=torch.channels_last)
    assert (network(image) - expected).abs().max() <= 1e-5
    with torch.autocast("cpu", torch.bfloat16):
        answer = network(image)
    assert answer.dtype == torch.float32, "the sum with the image is not rounded"
    assert (answer - expected).abs().max() <= 0.02


@pytest.mark.parametrize(("height", "width"), [(64, 96), (61, 83)])
def test_tiles_equal_the_whole(name, height, width, monkeypatch):
    network, spec = trained(name), network_spec(name)
    unit = np.random.default_rng(0).random((height, width, 3), np.float32)
    level = np.random.default_rng(1).random((height, width), np.float32) if spec.level_planes else None
    whole = denoise_unit(network, spec, unit, level=level)
    assert whole.shape == unit.shape
    assert np.abs(whole - unit).max() > 1e-3
    monkeypatch.setattr(inference, "TILE_PX", 24)
    assert np.abs(denoise_unit(network, spec, unit, level=level) - whole).max() <= 1e-6


def test_tiles_with_too_little_context_differ(monkeypatch):
    """The test above can fail: with less of a halo than the spec says, tiles differ."""
    network, spec = fold(trained("edge-tiny")), network_spec("edge-tiny")
    unit = np.random.default_rng(0).random((64, 96, 3), np.float32)
    whole = denoise_unit(network, spec, unit)
    monkeypatch.setattr(inference, "TILE_PX", 24)
    short = dataclasses.replace(spec, halo_px=spec.halo_px - 8)
    assert np.abs(denoise_unit(network, short, unit) - whole).max() > 1e-6
