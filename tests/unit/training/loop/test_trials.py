"""The precision that `auto` becomes is measured, explained and kept."""

from __future__ import annotations

import logging
import subprocess
import sys

import numpy as np
import pytest
import torch

import edgedenoise
from edgedenoise.imaging.files import Image, write_image
from edgedenoise.training.config.config import QATConfig, TrainConfig
from edgedenoise.training.config.presets import PRESETS
from edgedenoise.training.loop import trials
from edgedenoise.training.loop.distributed import World
from edgedenoise.training.torch_device import memory_layout

CPU = torch.device("cpu")


@pytest.fixture
def machine(monkeypatch):
    """Replace what is detected and timed: bfloat16 of the CPU, and the seconds of a step in each precision."""

    def pretend(*, native, fp32=1.0, bf16=1.0):
        timed = []

        def seconds(config, precision, *_):
            timed.append(precision)
            return {"fp32": fp32, "bf16": bf16}[precision]

        monkeypatch.setattr(trials, "computes_bf16", lambda device: native)
        monkeypatch.setattr(trials, "_step_seconds", seconds)
        return timed

    return pretend


@pytest.mark.parametrize(
    ("pretence", "precision", "reason"),
    [
        ({"native": False}, "fp32", "does not compute bfloat16 natively"),
        ({"native": True, "fp32": 0.3, "bf16": 0.2}, "bf16", "0.200 s in bf16 and 0.300 s in fp32"),
        ({"native": True, "fp32": 0.2, "bf16": 0.3}, "fp32", "0.300 s in bf16 and 0.200 s in fp32"),
    ],
)
def test_auto_takes_bf16_where_it_is_native_and_faster_and_logs_the_reason(
    config, machine, caplog, pretence, precision, reason
):
    timed = machine(**pretence)
    caplog.set_level(logging.INFO)
    result = edgedenoise.train(config.with_overrides(["precision=auto"]))
    assert result.precision == precision
    assert f"precision = {precision}: cpu" in caplog.text
    assert reason in caplog.text
    assert TrainConfig.from_toml(result.run / "config.toml").precision == precision
    assert bool(timed) == pretence["native"], "an emulated bfloat16 is not worth the seconds of a trial"


def test_a_resumed_run_keeps_the_precision_that_auto_became(config, machine):
    machine(native=True, fp32=0.3, bf16=0.2)
    config = config.with_overrides(["precision=auto"])
    edgedenoise.train(config)
    timed = machine(native=False)
    again = edgedenoise.train(config.with_overrides(["steps=12"]), resume=True)
    assert (again.precision, timed) == ("bf16", [])


def test_8_bits_are_trained_in_fp32(machine):
    """Bfloat16 has 8 bits of precision: it rounds products of an 8-bit value and its scale once more."""
    timed = machine(native=True, fp32=0.3, bf16=0.2)
    qat = QATConfig(network="edge-tiny", precision="auto")
    assert trials.settled_precision(qat, None, torch.nn.Linear(1, 1), World()) == "fp32"
    assert timed == []


def test_bf16_that_was_asked_for_is_kept_with_a_warning_where_it_is_emulated(config, machine, caplog):
    machine(native=False, fp32=0.35, bf16=3.5)
    assert edgedenoise.train(config.with_overrides(["precision=bf16"])).precision == "bf16"
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "takes 10.0 times as long as fp32" in warning
    assert "--set precision=auto" in warning


@pytest.mark.parametrize(("precision", "native"), [("bf16", True), ("fp32", True), ("fp32", False)])
def test_a_precision_that_fits_the_device_is_neither_timed_nor_warned_about(config, machine, caplog, precision, native):
    timed = machine(native=native)
    assert edgedenoise.train(config.with_overrides([f"precision={precision}"])).precision == precision
    assert timed == []
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_two_steps_of_each_precision_are_timed_on_a_copy(config, monkeypatch):
    steps = []
    original = trials.Stepper.step

    def step(self, number, batch):
        weight = self.network.branch1.masked.weight
        assert weight.is_contiguous(memory_format=memory_layout(CPU, self.config.precision))
        steps.append((self.config.precision, self.network))
        return original(self, number, batch)

    monkeypatch.setattr(trials.Stepper, "step", step)
    monkeypatch.setattr(trials, "computes_bf16", lambda device: True)
    edgedenoise.train(config.with_overrides(["precision=auto", "steps=1"]))
    trial, (_, trained) = steps[:-1], steps[-1]
    assert [precision for precision, _ in trial] == 3 * ["fp32"] + 3 * ["bf16"], "one to warm up, and two"
    assert all(network is not trained for _, network in trial)


def test_convolutions_are_channels_last_but_in_bf16_on_a_cpu():
    """There oneDNN crashes for widths that are no multiple of 16."""
    gpu = torch.device("cuda")
    assert memory_layout(CPU, "fp32") == memory_layout(gpu, "fp32") == memory_layout(gpu, "bf16") == torch.channels_last
    assert memory_layout(CPU, "bf16") == torch.contiguous_format


def test_a_network_of_24_channels_trains_in_bf16(config, tmp_path):
    """The width and the patch at which channels last crashed the process on a CPU with native bfloat16."""
    noise = np.random.default_rng(0).integers(0, 255, (170, 170, 3), np.uint8)
    write_image(Image(noise), tmp_path / "large" / "noise.png")
    more = ["network=cbsn-24x4", "patch=160", "steps=2", "precision=bf16", f"data={tmp_path / 'large'}"]
    path = tmp_path / "config.toml"
    path.write_text(config.with_overrides(more).to_toml())
    command = [sys.executable, "-m", "edgedenoise", "train", "-q", "--config", str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("flags", "torch_says", "native"),
    [
        ({"avx2", "avx512f"}, False, False),
        ({"avx2", "avx512_bf16"}, False, True),
        ({"amx_bf16"}, False, True),
        ({"asimd", "bf16"}, False, True),
        (set(), True, True),
        (set(), False, False),
    ],
)
def test_a_cpu_is_known_by_its_flags_or_by_torch(monkeypatch, flags, torch_says, native):
    monkeypatch.setattr(trials, "cpu_features", lambda: frozenset(flags))
    for check in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, check, lambda: torch_says, raising=False)
    assert trials.computes_bf16(CPU) is native


def test_a_gpu_that_only_emulates_bf16_does_not_count(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert not trials.computes_bf16(torch.device("cuda"))
    assert not trials.computes_bf16(torch.device("mps")), "nobody can tell"


@pytest.mark.parametrize("name", ["edge-shipped", "edge-tiny-shipped"])
def test_the_shipped_presets_leave_the_precision_to_the_machine(name):
    assert "precision" not in PRESETS[name]
    assert TrainConfig.named(name).precision == "auto"
