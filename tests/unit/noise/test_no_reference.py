"""Without ground truth, residual noise is that of flat blocks, and kept detail is that of a known filter."""

from __future__ import annotations

import numpy as np
import pytest

from edgedenoise.errors import ImageError
from edgedenoise.noise.no_reference import Places

SIDE = 256
SIGMA = 12.0


def scene(seed: int = 0) -> np.ndarray:
    """Return (H, W, 3) in 8-bit levels: a flat half, and a half with texture of all sizes."""
    rng = np.random.default_rng(seed)
    texture = sum(np.kron(rng.normal(0, 14, (SIDE // size, SIDE // size)), np.ones((size, size))) for size in (1, 2, 8))
    gray = np.where(np.arange(SIDE) < SIDE // 2, 120.0, 128 + texture)
    return np.repeat(gray[..., None], 3, axis=2)


def stored(levels: np.ndarray) -> np.ndarray:
    return np.clip(levels, 0, 255).round().astype(np.uint8)


def with_noise(levels: np.ndarray) -> np.ndarray:
    return levels + np.random.default_rng(9).normal(0, SIGMA, levels.shape)


def blurred(levels: np.ndarray, weight: float) -> np.ndarray:
    """Return a mixture of an image and its mean over 3 x 3 pixels."""
    mean = np.mean([np.roll(levels, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)], axis=0)
    return (1 - weight) * levels + weight * mean


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_residual_noise_is_what_is_left_of_the_noise(share: float) -> None:
    clean = scene()
    noisy = with_noise(clean)
    found = Places(stored(noisy)).measure(stored(clean + share * (noisy - clean)))
    assert found.residual_noise_lsb == pytest.approx(share * SIGMA, rel=0.05, abs=0.35)


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.7, 1.0])
def test_kept_detail_of_a_blur_is_that_of_the_noise_free_scene(weight: float) -> None:
    clean = scene()
    noisy = with_noise(clean)
    estimate = Places(stored(noisy)).measure(stored(blurred(noisy, weight))).detail_kept
    truth = Places(stored(clean)).measure(stored(blurred(clean, weight))).detail_kept
    assert estimate is not None
    assert truth is not None
    assert estimate == pytest.approx(truth, abs=0.03)
    known = Places(stored(noisy)).true_detail_kept(stored(blurred(clean, weight)), stored(clean))
    # Texture in the flattest blocks counts as noise, which rates a full blur 0.04 too low, with and without noise.
    assert known == pytest.approx(truth, abs=0.03 if weight < 1 else 0.05)
    assert (truth < 0.99) == (weight > 0)


def test_a_denoiser_that_invents_its_own_texture_keeps_none() -> None:
    noisy = with_noise(scene())
    found = Places(stored(noisy)).measure(stored(scene(seed=5)))
    assert found.detail_kept == pytest.approx(0, abs=0.1)


def test_an_image_without_detail_has_no_share_of_it() -> None:
    flat = stored(with_noise(np.full((SIDE, SIDE, 3), 100.0)))
    found = Places(flat).measure(flat)
    assert found.detail_kept is None
    assert found.residual_noise_lsb == pytest.approx(SIGMA, rel=0.05)


def test_depth_and_channels_do_not_matter() -> None:
    noisy = stored(with_noise(scene()))
    eight = Places(noisy).measure(noisy)
    sixteen = Places(noisy.astype(np.uint16) * 257).measure(noisy / 255)
    assert sixteen.residual_noise_lsb == pytest.approx(eight.residual_noise_lsb, rel=1e-3)
    assert Places(noisy[..., 0]).measure(noisy[..., 0]).detail_kept == pytest.approx(1)


def test_images_of_another_size_or_too_small_are_refused() -> None:
    noisy = stored(scene())
    with pytest.raises(ImageError, match=r"expected \(256, 256\) as the noisy one, got \(256, 240\)"):
        Places(noisy).measure(noisy[:, :240])
    with pytest.raises(ImageError, match="expected at least 16 x 16 pixels, got 15 x 40"):
        Places(noisy[:15, :40])
