"""The losses and their gradients are those of the authors' code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgedenoise.training.networks.cbsn import CBSN
from edgedenoise.training.objectives.losses import CBSNLosses, blind_loss, cbsn_losses, invariance_loss, sdap_loss
from edgedenoise.training.objectives.sampling import batch_to_space, permuted_subsamples, space_to_batch


@pytest.fixture(params=[torch.contiguous_format, torch.channels_last], ids=["plain", "channels-last"])
def computed(reference, request):
    """The network after one backward pass, and its losses: in the plain form, and as the trainer runs it."""
    network = CBSN(width=8, modules=2)
    network.load_state_dict({k[7:]: torch.from_numpy(v) for k, v in reference.items() if k.startswith("weight/")})
    network = network.to(memory_format=request.param)
    losses = cbsn_losses(network, torch.from_numpy(reference["image"]), torch.from_numpy(reference["mask"]))
    total = losses.total(float(reference["schedule"]))
    total.backward()
    return network, losses, total


def test_losses_are_those_of_the_authors_code(reference, computed):
    _, losses, total = computed
    found = {"l_blind": losses.blind, "l_self": losses.self_, "l_inv": losses.inv, "total": total}
    for name, value in found.items():
        assert abs(value.item() - float(reference[name])) <= 1e-6, name


def test_gradients_are_those_of_the_authors_code(reference, computed):
    for name, parameter in computed[0].named_parameters():
        wanted = reference[f"gradient/{name}"]
        error = np.abs(parameter.grad.numpy() - wanted).max() / np.abs(wanted).max()
        assert error <= 1e-4, f"{name}: {error:.2e} of the largest entry"


def test_the_blind_loss_is_its_equation():
    network, x = CBSN(4, 1), torch.randn(2, 3, 20, 20)
    with torch.no_grad():
        whole = (batch_to_space(network(space_to_batch(x, 5), blind=True), 5) - x).abs().mean()
        assert float(blind_loss(network, x)) == pytest.approx(float(whole), abs=1e-6)


def test_the_invariance_loss_teaches_the_network_and_not_its_blind_target():
    network = CBSN(4, 1)
    x, mask = torch.randn(1, 3, 20, 20), torch.zeros(1, 10, 10, dtype=torch.int64)
    denoised = network(x).detach().requires_grad_()
    invariance_loss(network, denoised, x, mask).backward()
    assert all(parameter.grad is None for parameter in network.parameters()), "no gradient through f_M"
    assert denoised.grad[..., ::2, ::2].all(), "the gradient flows through RS(f(x))"
    assert not denoised.grad[..., 1::2, :].any()


def test_the_total_weighs_the_losses():
    losses = CBSNLosses(torch.tensor(1.0), torch.tensor(10.0), torch.tensor(100.0))
    assert float(losses.total(0.0)) == 1
    assert float(losses.total(0.5)) == 1 + 0.5 * (10 + 2 * 100)
    assert float(losses.total(1.0, lambda_inv=0)) == 11


def order_of(n, cells, k):
    return torch.rand(n, cells, cells, k * k, generator=torch.Generator().manual_seed(0)).argsort(dim=-1)


def test_the_blind_loss_can_take_pictures_apart_at_random():
    network, x, order = CBSN(4, 1), torch.randn(2, 3, 20, 20), order_of(2, 4, 5)
    with torch.no_grad():
        split = permuted_subsamples(x, order)
        expected = (network(split, blind=True) - split).abs().mean()
        assert float(blind_loss(network, x, permutation=order)) == pytest.approx(float(expected), abs=1e-6)
        assert float(blind_loss(network, x)) != pytest.approx(float(expected), abs=1e-6)


def test_sdaps_loss_is_the_authors_loop():
    """The published code loops over the sub-images and adds up; ours is the mean over them."""
    network, x, order = CBSN(4, 1), torch.randn(2, 3, 15, 15), order_of(2, 5, 3)
    sub_images = permuted_subsamples(x, order).reshape(9, 2, 3, 5, 5)
    with torch.no_grad():
        answers = [network(sub_image, blind=True) for sub_image in sub_images]
        total = sum((answers[j] - sub_images[(j + 1) % 9]).abs().mean() for j in range(9))
        assert float(sdap_loss(network, x, order)) == pytest.approx(float(total) / 9, abs=1e-6)
