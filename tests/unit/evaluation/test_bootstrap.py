"""The interval of a mean contains the true mean as often as promised."""

from __future__ import annotations

import numpy as np
import pytest

from edgedenoise.evaluation.bootstrap import mean_interval, median_interval


def test_the_interval_contains_the_true_mean_in_about_95_of_100_samples() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for number in range(200):
        low, high = mean_interval(rng.normal(1.0, 0.5, 40).tolist(), seed=number)  # type: ignore[misc]
        inside += low <= 1.0 <= high
    assert 0.90 <= inside / 200 <= 0.99


def test_the_interval_shrinks_with_the_square_root_of_the_number() -> None:
    rng = np.random.default_rng(1)
    few, many = (mean_interval(rng.normal(0, 1, count).tolist()) for count in (50, 800))
    assert few is not None
    assert many is not None
    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(4, rel=0.25)


def test_the_interval_is_the_same_each_time_and_none_for_four_values() -> None:
    values = [0.1, 0.4, 0.2, 0.3, 0.9]
    assert mean_interval(values) == mean_interval(values)
    assert mean_interval(values[:4]) is None
    assert mean_interval([0.5] * 5) == (0.5, 0.5)


def test_the_interval_of_a_median_is_not_moved_by_an_outlier() -> None:
    values = [10.0, 10.1, 9.9, 10.2, 9.8, 10.0, 10.1]
    low, high = median_interval([*values, 90.0])  # type: ignore[misc]
    assert 9.8 <= low <= 10.05 <= high <= 10.2
    assert median_interval(values[:4]) is None
