"""Colours under transparent pixels stay where they are, and are seen nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from edgedenoise.denoiser import denoise
from edgedenoise.imaging.hidden import fill_hidden
from edgedenoise.imaging.image import Image

Y, X = np.mgrid[:128, :128]
RADIUS = np.hypot(Y - 64, X - 64)


def cut_out(colour: tuple[int, int, int]) -> Image:
    """A gray disc with noise; the pixels around it are transparent and of a colour."""
    noise = np.random.default_rng(0).normal(0, 10, (128, 128, 3))
    pixels = np.clip(120 + noise, 0, 255).astype(np.uint8)
    pixels[RADIUS >= 40] = colour
    return Image(pixels, np.where(RADIUS < 40, 255, 0).astype(np.uint8))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 5), (64, 33)])
def test_hidden_pixels_continue_the_visible_ones(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    visible = rng.random(shape) < 0.3
    visible[0, 0] = True
    unit = np.where(visible[..., None], np.float32(0.25), rng.random((*shape, 3), np.float32))
    assert np.array_equal(fill_hidden(unit, visible), np.full((*shape, 3), 0.25, np.float32))


def test_each_side_continues_its_own_colour() -> None:
    unit = np.zeros((64, 64, 3), np.float32)
    unit[:, 56:] = 1
    unit[:, 8:56] = 0.77
    visible = np.ones((64, 64), bool)
    visible[:, 8:56] = False
    filled = fill_hidden(unit, visible)
    assert filled[:, :16].max() == 0
    assert filled[:, 48:].min() == 1


@pytest.mark.parametrize("visible", [np.ones((4, 4), bool), np.zeros((4, 4), bool)], ids=["all", "none"])
def test_an_image_without_hidden_or_visible_pixels_is_left_alone(visible: np.ndarray) -> None:
    unit = np.random.default_rng(0).random((4, 4, 3), np.float32)
    assert fill_hidden(unit, visible) is unit


def test_the_network_does_not_mix_hidden_colours_into_visible_pixels() -> None:
    lime, gray = (denoise(cut_out(colour), "edge") for colour in ((0, 255, 0), (120, 120, 120)))
    inside = (RADIUS >= 35) & (RADIUS < 40)
    assert abs(lime.pixels[inside].mean(axis=0) - 120).max() < 1.5
    assert np.array_equal(lime.pixels[RADIUS < 40], gray.pixels[RADIUS < 40])


def test_hidden_colours_and_alpha_come_back_as_they_were() -> None:
    given = cut_out((0, 255, 0))
    clean = denoise(given, "edge-tiny")
    assert np.array_equal(clean.alpha, given.alpha)  # type: ignore[arg-type]
    assert np.array_equal(clean.pixels[RADIUS >= 40], given.pixels[RADIUS >= 40])
    assert not np.array_equal(clean.pixels[RADIUS < 40], given.pixels[RADIUS < 40])
