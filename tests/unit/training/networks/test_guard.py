"""The guard keeps of a residual what the noise level explains, and reaches as far as it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from guard_reference import guarded
from torch.nn import functional

from edgedenoise.training.networks.guard import Guarded, GuardParameters, guarded_halo_px
from edgedenoise.training.networks.students import EdgeNetwork

HALO_PX = 7


def network(seed: int = 0, amplitude: float = 0.05) -> EdgeNetwork:
    """A small network whose residual has some amplitude; its halo is `HALO_PX`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        result = EdgeNetwork(8, 1, level_planes=1).eval()
        torch.nn.init.normal_(result.tail.weight, std=amplitude / 8)
    return result


def picture(height: int, width: int, level: float | None = None, seed: int = 1) -> torch.Tensor:
    """A random image, and a level that rises from 0 to 1 or is the same everywhere."""
    image = torch.rand(1, 4, height, width, generator=torch.Generator().manual_seed(seed))
    image[:, 3] = torch.linspace(0, 1, width) if level is None else level
    return image


@torch.no_grad()
@pytest.mark.parametrize("size", [(2, 2), (2, 40), (34, 6), (32, 48)])
@pytest.mark.parametrize("level", [None, 0.0, 0.004, 0.1, 0.95, 1.0])
def test_the_guard_is_the_formula_in_numpy(size: tuple[int, int], level: float | None) -> None:
    plain, image = network(), picture(*size, level)
    image[:, :3] = 0.5 + 0.1 * image[:, :3]
    for parameters in (GuardParameters(), GuardParameters(noise=0.3, texture=0.2, opens_at=0.8)):
        found = Guarded(plain, parameters)(image)[0].numpy()
        residual = functional.pixel_shuffle(plain.residual(image), 2)[0].numpy()
        assert np.abs(found - guarded(image[0].numpy(), residual, parameters)).max() < 1e-5


@torch.no_grad()
def test_without_noise_the_answer_is_the_image_itself() -> None:
    image = picture(30, 40, level=0.0)
    assert torch.equal(Guarded(network())(image), image[:, :3])
    image[:, :3] = 0
    image[:, :3, 10:20] = 1
    assert torch.equal(Guarded(network(amplitude=3))(image), image[:, :3])


@torch.no_grad()
def test_where_the_level_is_not_known_the_guard_changes_next_to_nothing() -> None:
    plain, image = network(amplitude=0.4), picture(30, 40, level=1.0)
    free = plain(image)
    assert (free - image[:, :3]).abs().mean() > 0.03
    assert (Guarded(plain)(image) - free).abs().max() < 0.5 / 255


@torch.no_grad()
def test_more_noise_lets_more_of_the_residual_through_and_texture_less() -> None:
    plain = network()
    levels = [Guarded(plain).factor(x, plain.residual(picture(24, 24, 0.2))).mean().item()
              for x in (picture(24, 24, level) for level in (0.0, 0.02, 0.1, 0.3, 0.8, 0.95, 1.0))]  # fmt: skip
    assert levels == sorted(levels)
    assert levels[0] == 0
    assert 0 < levels[1] < 0.1 < 0.99 < levels[-1] <= 1
    smooth = picture(24, 24, 0.1)
    smooth[:, :3] = 0.5
    rich = picture(24, 24, 0.1)
    residual = 0.01 * torch.randn(1, 12, 12, 12, generator=torch.Generator().manual_seed(0))
    guard = Guarded(plain)
    assert guard.factor(smooth, residual).min() > 0.9
    assert guard.factor(rich, residual).max() < 0.3


def test_the_answer_depends_on_pixels_within_the_halo_and_on_no_others() -> None:
    module = Guarded(network().double()).double()
    side = 48
    image = picture(side, side, 0.1).double().requires_grad_()
    reach = 0
    for y, x in ((24, 24), (25, 25)):
        (gradient,) = torch.autograd.grad(module(image)[0, :, y, x].sum(), image)
        rows, columns = torch.nonzero(gradient.abs().sum(dim=(0, 1)), as_tuple=True)
        reach = max(reach, *(int((places - at).abs().max()) for places, at in ((rows, y), (columns, x))))
    assert reach == guarded_halo_px(HALO_PX) == HALO_PX + 4
    assert guarded_halo_px(1) == 7, "texture reaches farther than a small network"
