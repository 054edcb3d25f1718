"""Schedules scale with the step budget."""

from __future__ import annotations

import pytest

from edgedenoise.training.config.config import CBSNConfig, SupervisedConfig
from edgedenoise.training.config.schedules import learning_rate_at, ramp_at


def test_the_official_schedule():
    config = CBSNConfig(steps=500_000, learning_rate=1e-4, schedule="halving", ramp_fraction=0.4)
    rates = [learning_rate_at(config, step) for step in (0, 99_999, 100_000, 250_000, 499_999)]
    assert rates == pytest.approx([1e-4, 1e-4, 5e-5, 2.5e-5, 6.25e-6])
    assert [ramp_at(config, step) for step in (0, 100_000, 200_000, 400_000)] == [0, 0.5, 1, 1]


def test_a_short_run_is_a_small_picture_of_a_long_one():
    for schedule in ("halving", "cosine", "hold"):
        long = CBSNConfig(steps=10_000, schedule=schedule)
        short = CBSNConfig(steps=100, schedule=schedule)
        for step in range(100):
            assert learning_rate_at(short, step) == pytest.approx(learning_rate_at(long, 100 * step))
            assert ramp_at(short, step) == pytest.approx(ramp_at(long, 100 * step))


def test_the_cosine_falls_from_the_learning_rate_to_nothing():
    config = CBSNConfig(steps=50, learning_rate=1e-3, schedule="cosine")
    rates = [learning_rate_at(config, step) for step in range(50)]
    assert rates[0] == 1e-3
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] < 1e-5


def test_without_a_ramp_all_losses_count_from_the_first_step():
    assert ramp_at(CBSNConfig(ramp_fraction=0), 0) == 1


def test_a_constant_rate_stays():
    config = CBSNConfig(steps=50, schedule="constant")
    assert {learning_rate_at(config, step) for step in range(50)} == {config.learning_rate}


def test_the_learning_rate_rises_holds_and_falls():
    config = SupervisedConfig(network="edge", schedule="hold", steps=1000, warmup=100, learning_rate=1e-3)
    assert learning_rate_at(config, 0) == pytest.approx(1e-5)
    assert learning_rate_at(config, 49) == pytest.approx(5e-4)
    assert learning_rate_at(config, 100) == learning_rate_at(config, 699) == 1e-3
    assert learning_rate_at(config, 850) == pytest.approx(5e-4)
    assert 0 < learning_rate_at(config, 999) < 1e-7


@pytest.mark.parametrize("schedule", ["halving", "cosine", "constant"])
def test_every_schedule_can_warm_up(schedule):
    cold, warm = (CBSNConfig(steps=100, schedule=schedule, warmup=steps) for steps in (0, 10))
    assert learning_rate_at(warm, 4) == pytest.approx(learning_rate_at(cold, 4) / 2)
    assert learning_rate_at(warm, 50) == learning_rate_at(cold, 50)
