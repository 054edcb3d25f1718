"""Losses of students are what their formulas say, image by image."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch

from edgedenoise.imaging.metrics import psnr_unit
from edgedenoise.training.config.config import StudentConfig, SupervisedConfig
from edgedenoise.training.objectives.reconstruction import (
    CHARBONNIER_EPSILON,
    LOSSES,
    PSNR_FIRST_FLOOR,
    PSNR_FLOOR,
    charbonnier,
    l1,
    laplacian,
    negative_psnr,
    psnr_floor_at,
)
from edgedenoise.training.objectives.supervised import student_losses


def images(count: int = 2, side: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def one_pixel_off(by: float) -> tuple[torch.Tensor, torch.Tensor]:
    """An image of 3 x 4 x 4 numbers, one of which is `by` too large, and the right one."""
    target = torch.full((1, 3, 4, 4), 0.5)
    answer = target.clone()
    answer[0, 1, 1, 2] += by
    return answer, target


def test_l1_is_the_mean_absolute_error():
    assert l1(*one_pixel_off(0.24)).tolist() == pytest.approx([0.24 / 48])
    assert l1(*one_pixel_off(-0.24)).tolist() == pytest.approx([0.24 / 48])


def test_charbonnier_is_the_absolute_error_rounded_off_at_zero():
    answer, target = one_pixel_off(0.24)
    wanted = ((0.24**2 + 1e-6) ** 0.5 + 47 * 1e-3) / 48
    assert charbonnier(answer, target).tolist() == pytest.approx([wanted])
    assert charbonnier(target, target).tolist() == pytest.approx([CHARBONNIER_EPSILON])


def test_the_psnr_loss_is_the_squared_error_in_decibel_down_to_a_floor():
    answer, target = one_pixel_off(0.48)
    # A squared error of 0.2304 / 48 = 0.0048, and the floor.
    assert negative_psnr(answer, target).tolist() == pytest.approx([10 * np.log10(0.00481)], rel=1e-5)
    assert negative_psnr(target, target).tolist() == pytest.approx([10 * np.log10(PSNR_FLOOR)])
    assert negative_psnr(target, target).tolist() == pytest.approx([-50])


def test_the_floor_falls_to_its_value():
    floors = [psnr_floor_at(step, 100) for step in (0, 50, 99, 100, 1000)]
    assert floors == sorted(floors, reverse=True)
    assert floors[0] == PSNR_FLOOR + PSNR_FIRST_FLOOR
    assert floors[3:] == [PSNR_FLOOR, PSNR_FLOOR]
    assert psnr_floor_at(0, 0) == PSNR_FLOOR, "without it the loss is what it always was"


def test_a_higher_floor_makes_small_errors_count_less():
    answer, target = one_pixel_off(0.1)
    low, high = (negative_psnr(answer, target, floor=floor) - negative_psnr(target, target, floor=floor)
                 for floor in (PSNR_FLOOR, PSNR_FIRST_FLOOR))  # fmt: skip
    assert 0 < high < low / 4


@pytest.mark.parametrize("deviation", [0.3, 0.1, 0.05])
def test_the_psnr_loss_is_the_psnr_that_is_reported(deviation):
    target = images(3, 32)
    answer = target + deviation * torch.randn(target.shape, generator=torch.Generator().manual_seed(1))
    reported = [-psnr_unit(a.numpy(), t.numpy()) for a, t in zip(answer, target, strict=True)]
    assert negative_psnr(answer, target).tolist() == pytest.approx(reported, abs=0.02)


def test_the_laplacian_of_one_wrong_pixel_by_hand():
    # Of the 2 x 2 inner pixels, row 1 column 2 is the wrong one: -4 there, +1 beside it, +1 below it, 0 across.
    assert laplacian(*one_pixel_off(0.1)).tolist() == pytest.approx([0.1 * (4 + 1 + 1) / (3 * 4)])


def test_the_laplacian_does_not_count_what_changes_evenly():
    y, x = torch.meshgrid(torch.arange(9.0), torch.arange(7.0), indexing="ij")
    ramp = (0.02 * x - 0.03 * y + 0.1).expand(2, 3, 9, 7)
    target = torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    assert laplacian(target + ramp, target).abs().max() <= 1e-6
    bent = 0.01 * (x * x + y * y)
    assert laplacian(target + bent, target).tolist() == pytest.approx([0.04, 0.04], rel=1e-3)


@pytest.mark.parametrize("loss", [*LOSSES.values(), laplacian])
def test_every_picture_has_a_loss_of_its_own(loss):
    answer, target = images(3, seed=0), images(3, seed=1)
    together = loss(answer, target)
    assert together.shape == (3,)
    assert together.tolist() == pytest.approx([loss(answer[i : i + 1], target[i : i + 1]).item() for i in range(3)])
    answer[1] += 0.5
    changed = loss(answer, target) != together
    # A laplacian does not see a constant.
    assert changed[[0, 2]].logical_not().all()
    assert loss is laplacian or changed[1]


@pytest.mark.parametrize("loss", [*LOSSES.values(), laplacian])
def test_gradients_reach_the_answer_and_lead_to_the_target(loss):
    target, answer = images(seed=1), images(seed=0).requires_grad_()
    loss(answer, target).sum().backward()
    inner = answer.grad[..., 2:-2, 2:-2]
    assert torch.isfinite(answer.grad).all()
    assert (inner != 0).float().mean() > 0.5
    with torch.no_grad():
        assert (loss(answer - 1e-3 * answer.grad, target) < loss(answer, target)).all()


@pytest.mark.parametrize("loss", LOSSES.values())
def test_a_perfect_answer_has_the_least_loss_and_finite_gradients(loss):
    target = images()
    answer = target.clone().requires_grad_()
    least = loss(answer, target)
    least.sum().backward()
    assert torch.isfinite(answer.grad).all()
    assert (least < loss(target + 0.01, target)).all()


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_minimised_is_the_loss_of_the_config_and_its_share_of_detail(name):
    config = SupervisedConfig(network="edge-tiny", loss=name, laplacian=0.25, patch=32)
    answer, target = images(seed=0), images(seed=1)
    found = student_losses(config, answer, target)
    wanted = LOSSES[name](answer, target).mean(), laplacian(answer, target).mean()
    assert (found.parts["reconstruction"], found.parts["laplacian"]) == wanted
    assert found.total.item() == pytest.approx((wanted[0] + 0.25 * wanted[1]).item())


def test_every_loss_that_can_be_named_exists():
    field = next(field for field in msgspec.structs.fields(StudentConfig) if field.name == "loss")
    assert set(field.type.__args__) == set(LOSSES)
