"""The recipe of the noise estimator: its noise, its training and its table are deterministic and do what they say."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgedenoise.noise.level_estimator import LevelEstimator

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("torch", reason='pip install "edgedenoise[train]"')

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, Any]]:
    sys.path.insert(0, str(FOLDER))
    names = ("level_noise", "level_training", "level_estimator")
    yield {name: importlib.import_module(name) for name in names}
    sys.path.remove(str(FOLDER))


def pair(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    clean = np.full((96, 96, 3), 0.5, np.float32)
    noise = random.standard_normal(clean.shape) * random.uniform(0.01, 0.1)
    return np.asarray(clean + noise, np.float32), clean


def test_filtered_noise_is_smoother_and_not_stronger(modules: dict[str, Any]) -> None:
    noisy, clean = pair()
    found = [modules["level_noise"].filtered(noisy, clean, np.random.default_rng(1)) for _ in range(2)]
    np.testing.assert_array_equal(*found)
    before, after = noisy - clean, found[0] - clean
    assert 0.29 < after.std() / before.std() < 1.01
    steps = [np.diff(noise, axis=1).std() / noise.std() for noise in (before, after)]
    assert steps[1] < 0.8 * steps[0]


def test_a_training_learns_the_level_of_white_noise_and_repeats_itself(modules: dict[str, Any]) -> None:
    training = modules["level_training"]
    pool, other = (training.block_pool(pair(seed) for seed in seeds) for seeds in (range(40), range(40, 50)))
    settings = training.Fit((16,), 2, 300, 128, 0.0, training.laplace, 0)
    block, again = (training.fitted(pool, other, settings) for _ in range(2))
    np.testing.assert_array_equal(block.layers[0][0], again.layers[0][0])
    assert np.abs(block(other.features)[:, 0] - other.target).mean() < 0.15
    found = modules["level_estimator"].ratios("white", LevelEstimator(block), (pair(seed) for seed in range(50, 56)))
    assert found.images == 6
    assert 0.8 < found.low <= found.median <= found.high < 1.25
    assert found.right == 1


def test_the_table_of_a_page_is_replaced_and_nothing_else(modules: dict[str, Any]) -> None:
    script = modules["level_estimator"]
    row = script.Ratios("polyu_test", 20, 4.0, 0.5, 0.75, 1.0, 0.25, 70.0)
    page = f"# Title\n\n{script.BEGIN}old\n{script.END}\n\nafter\n"
    found = script.page_with(page, [row])
    assert found.startswith("# Title\n\n")
    assert found.endswith(f"{script.END}\n\nafter\n")
    assert "| polyu_test | 20 | 4.0 | 0.50 | 0.75 | 1.00 | 25 % | 70 |" in found
    assert "old" not in found
    assert script.page_with(found, [row]) == found
