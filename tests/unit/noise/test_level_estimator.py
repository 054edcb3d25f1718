"""The estimator of noise levels: its file, its weights, and its answers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgedenoise.errors import ImageError
from edgedenoise.noise.level import KNOTS
from edgedenoise.noise.level_estimator import (
    BLOCK_PX,
    FEATURES,
    IMAGE_FEATURES,
    MOST_BLOCKS,
    BlockMosaic,
    LevelEstimator,
    Perceptron,
    features,
    spread_blocks,
)
from edgedenoise.noise.synthesis import add_camera_noise, parameters_for_psnr


def image(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width, 3), np.float32)


def scene(side: int, *, seed: int) -> np.ndarray:
    """Fields of colour with edges between them, and a ramp."""
    random = np.random.default_rng(seed)
    fields = random.random((side // 32, side // 32, 3)).repeat(32, 0).repeat(32, 1)
    return (0.1 + 0.6 * fields + 0.2 * np.linspace(0, 1, side)[:, None, None]).astype(np.float32)


def small_estimator() -> LevelEstimator:
    random = np.random.default_rng(3)

    def network(*sizes: int) -> Perceptron:
        layers = [
            (random.normal(0, a**-0.5, (b, a)).astype(np.float32), random.normal(0, 0.1, b).astype(np.float32))
            for a, b in itertools.pairwise(sizes)
        ]
        return Perceptron(np.full(sizes[0], 0.3, np.float32), np.full(sizes[0], 2.0, np.float32), layers)

    return LevelEstimator(network(FEATURES, 8, 2), network(IMAGE_FEATURES, 4, 1))


def test_weights_survive_their_file(tmp_path):
    one, noisy = small_estimator(), image(64, 80)
    one.save(tmp_path / "level.npz")
    again = LevelEstimator.read(tmp_path / "level.npz")
    assert np.array_equal(again.curve(noisy).sigma, one.curve(noisy).sigma)
    assert one.curve(noisy).sigma.shape == (KNOTS,)
    blocks_only = LevelEstimator(one.block)
    blocks_only.save(tmp_path / "blocks.npz")
    assert LevelEstimator.read(tmp_path / "blocks.npz").image is None


def test_a_large_image_is_judged_by_blocks_that_are_spread_over_it():
    noisy = image(1040, 1056)
    chosen = spread_blocks(noisy)
    assert chosen.shape[0] * chosen.shape[1] <= MOST_BLOCKS * BLOCK_PX**2
    assert np.array_equal(chosen[16:32, 16:32], noisy[32:48, 32:48]), "every second row and column of blocks"
    assert np.array_equal(spread_blocks(noisy[:512, :512]), noisy[:512, :512])
    one = small_estimator()
    assert len(one.blocks(noisy).log_sigma) == (chosen.shape[0] // 16) * (chosen.shape[1] // 16)


def test_features_are_of_whole_blocks():
    noisy = image(70, 85)
    assert features(noisy).shape == (4, 5, FEATURES)
    assert np.array_equal(features(noisy), features(noisy[:64, :80]))
    assert np.allclose(features(noisy)[1, 2, -4:-1], noisy[16:32, 32:48].mean(axis=(0, 1)), atol=1e-6)


def test_clipped_samples_are_a_feature():
    noisy = np.full((16, 16, 3), 0.5, np.float32)
    noisy[:4], noisy[4:8] = 0, 1
    assert features(noisy)[0, 0, -1] == pytest.approx(0.5)


def test_the_shipped_weights_are_read_once():
    assert LevelEstimator.shipped() is LevelEstimator.shipped()


@pytest.mark.parametrize("target_db", [20, 26, 32])
def test_the_shipped_estimator_finds_camera_noise(target_db):
    ratios = []
    for seed in range(6):
        clean, random = scene(256, seed=seed), np.random.default_rng(seed)
        noisy = add_camera_noise(clean, parameters_for_psnr(clean, target_db, random, jpeg=bool(seed % 2)), random)
        estimated = np.sqrt(np.square(LevelEstimator.shipped().curve(noisy).map(noisy)).mean())
        ratios.append(estimated / np.sqrt(np.square(noisy - clean).mean()))
    assert 0.75 < np.median(ratios) < 1.25


@pytest.mark.parametrize("lsb", [5, 12, 25])
def test_gray_images_have_the_noise_of_one_channel(lsb: float) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:256, 0:256] / 256
    clean = 0.3 + 0.3 * x + 0.05 * np.sin(20 * y)
    noisy = np.clip(clean + rng.normal(0, lsb / 255, clean.shape), 0, 1)
    gray = np.round(noisy * 255)[..., None].repeat(3, axis=2) / 255
    found = LevelEstimator.shipped().curve(gray).map(gray) * 255
    assert float(np.sqrt(np.mean(np.square(found)))) == pytest.approx(lsb, rel=0.25)


@pytest.mark.parametrize("shape", [(1, 1, 3), (15, 200, 3), (40, 9, 3)], ids=str)
def test_an_image_smaller_than_a_block_is_mirrored(shape: tuple[int, ...]) -> None:
    noisy = np.clip(0.5 + 0.05 * np.random.default_rng(0).standard_normal(shape), 0, 1)
    rows = np.pad(noisy, [(0, max(0, 16 - shape[0])), (0, max(0, 16 - shape[1])), (0, 0)], mode="reflect")
    curve = LevelEstimator.shipped().curve(noisy)
    np.testing.assert_array_equal(curve.sigma, LevelEstimator.shipped().curve(rows).sigma)
    assert np.isfinite(curve.sigma).all()


@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 1), (64, 64, 4), (1, 64, 64, 3), (0, 64, 3)], ids=str)
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match=r"expected an array \(H, W, 3\), got "):
        LevelEstimator.shipped().curve(np.zeros(shape, np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(ImageError, match="expected finite pixels, got NaN or infinity"):
        LevelEstimator.shipped().curve(np.full((64, 64, 3), value, np.float32))


@pytest.mark.parametrize("size", [(40, 50), (700, 1000), (1610, 1333)], ids=str)
def test_blocks_that_are_gathered_by_rows_are_those_of_the_whole_image(size):
    noisy = image(*size)
    mosaic = BlockMosaic(*size)
    for top in range(0, size[0], 64):
        mosaic.add(noisy[top : top + 64])
    assert np.array_equal(mosaic.unit, spread_blocks(noisy))
