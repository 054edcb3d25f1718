"""A checkpoint gives back exactly what was saved, and anything else is refused by name."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgedenoise.errors import TrainingError
from edgedenoise.imaging.normalize import Normalization
from edgedenoise.training.checkpoint import (
    LAST,
    load_network,
    read_checkpoint,
    restore_network,
    restore_optimizer,
    save_checkpoint,
)
from edgedenoise.training.config.config import CBSNConfig
from edgedenoise.training.networks.families import build_network, network_spec


def trained(layout=torch.contiguous_format):
    """A network and its optimiser after one step."""
    network = build_network(network_spec("cbsn-6x1"), seed=0).to(memory_format=layout)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    network(torch.ones(1, 3, 9, 9)).square().sum().backward()
    optimizer.step()
    return network, optimizer


@pytest.fixture
def run(tmp_path):
    network, optimizer = trained()
    config = CBSNConfig(network="cbsn-6x1", steps=7)
    save_checkpoint(tmp_path / LAST, config=config, step=5, network=network, optimizer=optimizer)
    return tmp_path


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_weights_optimiser_step_and_config_come_back(tmp_path, layout):
    network, optimizer = trained(layout)
    config = CBSNConfig(network="cbsn-6x1", steps=7)
    save_checkpoint(tmp_path / LAST, config=config, step=5, network=network, optimizer=optimizer)
    checkpoint = read_checkpoint(tmp_path / LAST)
    assert (checkpoint.step, checkpoint.config) == (5, config)

    other = build_network(network_spec("cbsn-6x1"), seed=1).to(memory_format=layout)
    other_optimizer = torch.optim.Adam(other.parameters(), lr=1e-3)
    restore_network(checkpoint.network, other, source=tmp_path / LAST)
    restore_optimizer(checkpoint, other, other_optimizer)
    for before, after in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(before, after)
        for key, value in optimizer.state[before].items():
            assert torch.equal(value, other_optimizer.state[after][key]), key
            assert value.stride() == other_optimizer.state[after][key].stride()


def test_a_network_is_loaded_ready_to_run(run):
    network, spec = load_network(run)
    assert spec.name == "cbsn-6x1"
    assert spec.normalization == Normalization("whole-image-bounded", 4.0), "as the config says"
    assert not network.training
    assert torch.equal(network.head.weight, trained()[0].head.weight)


def test_a_failed_write_leaves_the_old_checkpoint_whole(run, monkeypatch):
    def half(data):
        yield b"half"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edgedenoise.training.checkpoint._in_fixed_order", half)
    network, optimizer = trained()
    with pytest.raises(TrainingError, match="No space left"):
        save_checkpoint(run / LAST, config=CBSNConfig(), step=6, network=network, optimizer=optimizer)
    assert read_checkpoint(run / LAST).step == 5
    assert [path.name for path in run.iterdir()] == [LAST]


@pytest.mark.parametrize("what", ["no folder", "a file", "an empty folder"])
def test_a_folder_that_is_no_run_is_refused(tmp_path, what):
    run = tmp_path / "run"
    if what == "a file":
        run.write_text("x")
    elif what == "an empty folder":
        run.mkdir()
    with pytest.raises(TrainingError, match="is no training run") as caught:
        load_network(run)
    assert "edgedenoise train" in caught.value.hint


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_truncated_checkpoint_is_refused_by_name(run, kept):
    (run / LAST).write_bytes((run / LAST).read_bytes()[:kept])
    with pytest.raises(TrainingError, match=rf"{LAST} is damaged"):
        load_network(run)


def test_a_safetensors_file_of_another_kind_is_refused(run):
    save_file({"x": torch.zeros(3)}, run / LAST)
    with pytest.raises(TrainingError, match="of another kind"):
        load_network(run)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("config", "{}x"),
        ("config", '{"network": "unet"}'),
        ("config", '{"new": 1}'),
        ("step", "five"),
        ("step", None),
    ],
)
def test_a_header_that_cannot_be_used_is_refused(run, key, value):
    content = (run / LAST).read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])["__metadata__"]
    header = {k: v for k, v in (header | {key: value}).items() if v is not None}
    save_file(load_file(run / LAST), run / LAST, header)
    with pytest.raises(TrainingError, match="header"):
        load_network(run)


def test_the_weights_of_another_network_are_refused(tmp_path):
    network, optimizer = trained()
    config = CBSNConfig(network="cbsn-7x1")
    save_checkpoint(tmp_path / LAST, config=config, step=5, network=network, optimizer=optimizer)
    with pytest.raises(TrainingError, match="not those of this network"):
        load_network(tmp_path)


def test_the_kept_weights_are_the_running_means_where_there_are_some(tmp_path):
    network, optimizer = trained()
    mean = {name: torch.full_like(value, 0.5) for name, value in network.named_parameters()}
    config = CBSNConfig(network="cbsn-6x1")
    save_checkpoint(
        tmp_path / LAST, config=config, step=5, network=network, optimizer=optimizer, mean=mean, best=0.1 + 0.2
    )
    checkpoint = read_checkpoint(tmp_path / LAST)
    assert checkpoint.best == 0.1 + 0.2, "to the bit"
    assert torch.equal(checkpoint.network["head.weight"], network.head.weight)
    assert all((parameter == 0.5).all() for parameter in load_network(tmp_path)[0].parameters())


def test_a_best_checkpoint_that_was_not_kept_says_how_to_get_one(run):
    with pytest.raises(TrainingError, match="no best checkpoint") as caught:
        load_network(run, "best")
    assert "last checkpoint" in caught.value.hint
