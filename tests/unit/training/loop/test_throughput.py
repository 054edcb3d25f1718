"""The speed of a training is counted arithmetic over measured time."""

from __future__ import annotations

import logging
import time

import pytest
import torch

import edgedenoise
from edgedenoise.training.loop.throughput import StepTimer, gflop_of, peak_gflops, step_gflop
from edgedenoise.training.networks.families import build_network, network_spec
from edgedenoise.training.objectives.objective import open_objective


@pytest.mark.parametrize("name", ["cbsn-8x2", "edge-tiny", "edge-plus"])
def test_the_arithmetic_of_a_network_is_that_of_the_table_of_networks(name):
    spec = network_spec(name)
    network, x = build_network(spec, seed=0), torch.rand(2, 3, 32, 48)
    forward = 2 * spec.macs_per_px * x[:, 0].numel() / 1e9
    with torch.no_grad():
        assert gflop_of(lambda: network(x)) == pytest.approx(forward, rel=0.01)
    assert gflop_of(lambda: network(x)) == pytest.approx(3 * forward, rel=0.01), "backward counts twice"
    network(x)  # and nothing counts any more


def test_the_arithmetic_of_a_step_is_that_of_its_losses(config):
    """All pixels split and whole with gradients, and a quarter of them without."""
    network = build_network(network_spec(config.network), seed=0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = step_gflop(open_objective(config), network, range(3))
    pixels = 3 * config.patch**2
    assert found == pytest.approx(2 * network_spec(config.network).macs_per_px * pixels * (3 + 3 + 1 / 4) / 1e9)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_time_between_steps_and_the_first_step_are_not_counted():
    timer = StepTimer()
    assert not timer.has_steps
    time.sleep(0.05)
    timer.stop()
    assert timer.throughput(1.0, 50.0).steps_per_second <= 20
    for _ in range(3):
        time.sleep(0.05)  # a validation
        timer.start()
        time.sleep(0.01)
        timer.stop()
    speed = timer.throughput(0.5, 100.0)
    assert 17 < speed.steps_per_second < 110, "at most 17 if validations counted"
    assert speed.gflops == speed.steps_per_second * 0.5
    assert speed.share_of_peak == speed.gflops / 100


def test_the_peak_is_a_speed():
    assert 0.1 < peak_gflops(torch.device("cpu")) < 100_000


def test_a_run_reports_its_speed_in_its_result_and_in_its_log(config, caplog):
    caplog.set_level(logging.INFO)
    speed = edgedenoise.train(config).throughput
    assert speed.steps_per_second > 0
    assert 0 < speed.share_of_peak < 1.5
    assert speed.share_of_peak == pytest.approx(speed.gflops / speed.peak_gflops)
    assert f"{speed.steps_per_second:.3g} steps a second on cpu" in caplog.text
    assert edgedenoise.train(config, resume=True).throughput is None, "nothing was left to do"
