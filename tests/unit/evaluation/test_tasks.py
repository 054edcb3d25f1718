"""A task is done better on a less noisy image, perfectly on the ground truth, and worse on a blurred one."""

from __future__ import annotations

import numpy as np
import pytest

from edgedenoise.errors import UsageError

pytest.importorskip("skimage.feature", reason='needs scikit-image: pip install "edgedenoise[task]"')

from edgedenoise.evaluation.tasks import TASKS, Task, check_task, task_score


def scene() -> np.ndarray:
    """Return rectangles of many sizes and brightnesses, (160, 200, 3) in 8-bit levels."""
    rng = np.random.default_rng(3)
    image = np.full((160, 200, 3), 128.0)
    for _ in range(40):
        y, x = rng.integers(0, 150), rng.integers(0, 190)
        image[y : y + rng.integers(6, 40), x : x + rng.integers(6, 40)] = rng.uniform(20, 235)
    return image


def noisy(sigma: float) -> np.ndarray:
    levels = scene() + np.random.default_rng(4).normal(0, sigma, scene().shape)
    return np.clip(levels, 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("task", TASKS)
def test_the_score_falls_with_noise_and_is_1_without(task: Task) -> None:
    truth = noisy(0)
    scores = [task_score(task, noisy(sigma), truth) for sigma in (0, 10, 40, 90)]
    assert scores[0] == 1
    assert scores == sorted(scores, reverse=True)
    assert scores[0] - scores[-1] > 0.2


@pytest.mark.parametrize("task", TASKS)
def test_a_blur_without_noise_is_not_perfect(task: Task) -> None:
    blurred = np.mean([np.roll(scene(), (y, x), (0, 1)) for y in range(-6, 7) for x in range(-6, 7)], axis=0)
    assert task_score(task, blurred.round().astype(np.uint8), noisy(0)) < 0.8


@pytest.mark.parametrize("task", TASKS)
def test_images_without_anything_to_find_are_compared_too(task: Task) -> None:
    flat = np.full((64, 64, 1), 90, np.uint8)
    assert task_score(task, flat, flat) == 1
    found = task_score(task, noisy(0)[:64, :64, :1], flat)
    assert found == 0


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(UsageError, match="expected edges or keypoints, got 'faces'"):
        check_task("faces")
    assert [check_task(task) for task in TASKS] == list(TASKS)
