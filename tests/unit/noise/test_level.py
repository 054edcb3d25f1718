"""Noise levels by brightness, and how an image's level is found at every pixel."""

from __future__ import annotations

import numpy as np
import pytest

from edgedenoise.noise.level import (
    CELL_PX,
    CONTEXT_PX,
    KNOTS,
    Brightness,
    NoiseCurve,
    cell_means,
    level_plane,
    local_brightness,
    spread,
    true_curve,
)


def image(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width, 3), np.float32)


def test_a_curve_finds_noise_that_grows_with_brightness():
    random = np.random.default_rng(1)
    clean = np.repeat(np.repeat(random.uniform(0.1, 0.9, (16, 16, 1)), 32, 0), 32, 1).astype(np.float32)
    clean = np.repeat(clean, 3, axis=2)
    noisy = clean + random.standard_normal(clean.shape).astype(np.float32) * (0.01 + 0.05 * clean)
    found = true_curve(noisy, clean)
    assert np.allclose(found.at(np.array([0.3, 0.5, 0.7])), [0.025, 0.035, 0.045], rtol=0.12)
    assert np.allclose(found.scaled(2).sigma, 2 * found.sigma)


def test_a_brightness_that_no_pixel_has_gets_the_mean_level():
    curve = NoiseCurve.fitted(np.full(10_000, 0.5), np.full(10_000, 0.04**2))
    assert np.allclose(curve.sigma, 0.04)


def test_weights_are_numbers_of_pixels():
    brightness, variance = np.array([0.5, 0.5]), np.array([0.02**2, 0.06**2])
    once = NoiseCurve.fitted(np.repeat(brightness, (30_000, 10_000)), np.repeat(variance, (30_000, 10_000)))
    weighted = NoiseCurve.fitted(brightness, variance, np.array([30_000, 10_000]))
    assert np.allclose(once.sigma, weighted.sigma)


def test_the_plane_is_ten_times_sigma_up_to_one():
    plane = level_plane(np.array([0, 0.03, 0.2]))
    assert np.allclose(plane, [0, 0.3, 1])
    assert plane.dtype == np.float32


def test_cells_are_means_and_spread_keeps_ramps():
    values = np.arange(48, dtype=np.float32).reshape(6, 8)
    assert cell_means(values)[0, 0] == values[:4, :4].mean()
    ramp = np.repeat(np.arange(64, dtype=np.float32)[None], 64, 0)
    assert np.allclose(spread(cell_means(ramp), (64, 64))[:, CELL_PX:-CELL_PX], ramp[:, CELL_PX:-CELL_PX], atol=1e-4)


def test_a_tile_with_its_context_has_the_levels_of_the_whole_image():
    noisy, curve = image(160, 176), NoiseCurve(np.linspace(0.02, 0.1, KNOTS))
    rows, columns = slice(40 - CONTEXT_PX, 120 + CONTEXT_PX), slice(48 - CONTEXT_PX, 128 + CONTEXT_PX)
    tile = curve.map(noisy[rows, columns])[CONTEXT_PX:-CONTEXT_PX, CONTEXT_PX:-CONTEXT_PX]
    assert np.array_equal(tile, curve.map(noisy)[40:120, 48:128])
    less = curve.map(noisy[44 - CONTEXT_PX : 124, 48 - CONTEXT_PX : 128])[CONTEXT_PX - 4 :, CONTEXT_PX:]
    assert not np.array_equal(less[:80], curve.map(noisy)[40:120, 48:128]), "and needs that much"


@pytest.mark.parametrize("height", [1, 3, 4, 63, 64, 130])
def test_the_brightness_of_rows_is_that_of_the_whole_image(height: int):
    noisy = image(height, 41)
    brightness = Brightness(height, 41)
    for top in range(0, height, 64):
        brightness.add(noisy[top : top + 64])
    whole = local_brightness(noisy)
    for start in range(0, height, 5):
        stop = min(start + 17, height)
        assert np.array_equal(brightness.rows(start, stop), whole[start:stop])
