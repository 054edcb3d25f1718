"""C-BSN computes what its authors' code computes, and is blind where it says so."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgedenoise.errors import UsageError
from edgedenoise.training.networks.cbsn import CBSN, ConditionalMaskedConv2d
from edgedenoise.training.networks.families import build_network, network_spec


def network_of(reference) -> CBSN:
    network = CBSN(width=8, modules=2)
    weights = {k.removeprefix("weight/"): torch.from_numpy(v) for k, v in reference.items() if k.startswith("weight/")}
    network.load_state_dict(weights)
    return network


@pytest.mark.parametrize("mode", ["blind", "nonblind"])
def test_outputs_are_those_of_the_authors_code(reference, mode):
    with torch.no_grad():
        output = network_of(reference)(torch.from_numpy(reference["image"]), blind=mode == "blind").numpy()
    assert np.abs(output - reference[mode]).max() <= 2e-5


def test_the_layout_in_memory_does_not_change_the_numbers(reference):
    """The trainer works channels last, the exported form does not."""
    network = network_of(reference)
    image = torch.from_numpy(reference["image"])
    with torch.no_grad():
        plain = network(image, blind=True)
        last = network.to(memory_format=torch.channels_last)(image, blind=True)
    assert (plain - last).abs().max() <= 1e-5


@pytest.mark.parametrize("blind", [True, False])
@pytest.mark.parametrize(("height", "width"), [(24, 30), (23, 31)])
def test_what_trains_fast_computes_what_the_plain_form_does(blind, height, width):
    plain = build_network(network_spec("cbsn-8x2"), seed=0).eval()
    fast = build_network(network_spec("cbsn-8x2"), seed=0).to(memory_format=torch.channels_last)
    assert fast.training
    assert list(fast.state_dict()) == list(plain.state_dict())
    image = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    outputs = [network(image, blind=blind) for network in (plain, fast)]
    assert (outputs[0] - outputs[1]).abs().max() <= 1e-5
    for output in outputs:
        output.square().mean().backward()
    for wanted, found in zip(plain.parameters(), fast.parameters(), strict=True):
        assert (wanted.grad - found.grad).abs().max() <= 1e-4 * wanted.grad.abs().max()


@pytest.mark.parametrize("name", ["cbsn-1x1", "cbsn-16x4", "cbsn-32x5"])
def test_the_receptive_field_is_exactly_the_halo(name):
    spec = network_spec(name)
    network = build_network(spec, seed=0).double()
    for parameter in network.parameters():  # positive weights: no ReLU is dead, no two paths cancel
        parameter.data.abs_()
    side = 2 * spec.halo_px + 7
    image = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    centre = side // 2
    network(image, blind=False)[0, :, centre, centre].sum().backward()
    rows = image.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    columns = image.grad.abs().sum(dim=(0, 1, 2)).nonzero().flatten()
    for reached in (rows, columns):
        assert (centre - int(reached.min()), int(reached.max()) - centre) == (spec.halo_px, spec.halo_px)


def test_blind_output_does_not_depend_on_the_pixel_below_it():
    network = CBSN(width=6, modules=3).double()
    image = torch.randn(1, 3, 41, 41, dtype=torch.float64, requires_grad=True)
    for blind, sees in ((True, False), (False, True)):
        image.grad = None
        network(image, blind=blind)[0, :, 20, 20].abs().sum().backward()
        assert bool(image.grad[0, :, 20, 20].any()) is sees
        assert image.grad.any()


def test_one_set_of_weights_serves_both_modes():
    layer = ConditionalMaskedConv2d(2, 3)
    x = torch.randn(1, 2, 5, 5)
    with torch.no_grad():
        difference = layer(x) - layer(x, blind=True)
        centre = torch.einsum("oi,nihw->nohw", layer.weight[:, :, 1, 1], x)
    assert torch.allclose(difference, centre, atol=1e-6)
    assert list(dict(layer.named_parameters())) == ["weight", "bias"]
    assert list(layer.state_dict()) == ["weight", "bias"], "the mask is no part of a checkpoint"


def test_what_devices_run_is_made_of_plain_operators_for_any_size():
    network = build_network(network_spec("cbsn-4x2"), seed=0).eval()
    sides = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    program = torch.export.export(network, (torch.zeros(1, 3, 20, 24),), dynamic_shapes={"x": sides})
    operators = {node.target.__name__ for node in program.graph.nodes if node.op == "call_function"}
    assert operators <= {"conv2d.default", "relu.default", "add.Tensor", "cat.default"}, "no mask, no shapes"
    x = torch.randn(1, 3, 33, 17)
    with torch.no_grad():
        assert torch.allclose(program.module()(x), network(x), atol=1e-6)


def test_a_network_without_channels_is_refused():
    with pytest.raises(UsageError, match="at least 1"):
        CBSN(width=0, modules=4)


@pytest.mark.parametrize("blind", [True, False])
def test_a_network_can_begin_as_a_local_mean(blind):
    network = build_network(network_spec("cbsn-16x4"), seed=0)
    network.start_as_local_mean()
    noise = torch.randn(1, 3, 60, 60, generator=torch.Generator().manual_seed(0))
    picture = torch.tensor([1.0, -1.0, 0.5])[None, :, None, None] + 0 * noise
    with torch.no_grad():
        flat, denoised = network(picture, blind=blind), network(picture + 0.5 * noise, blind=blind)
    inside = (..., slice(20, 40), slice(20, 40))
    assert (flat - picture)[inside].abs().max() < 0.3, "colours pass"
    assert (denoised - flat)[inside].std() < 0.5 / 2, "and noise does not"


def test_a_narrow_network_has_no_room_for_a_local_mean():
    with pytest.raises(UsageError, match="cannot start as a local mean: expected at least 6"):
        CBSN(5, 1).start_as_local_mean()
