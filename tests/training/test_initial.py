"""A training can begin with the weights of a run or of a bundle."""

from __future__ import annotations

import pytest
import torch

from edgedenoise.errors import BundleError, ExportError, TrainingError, UsageError
from edgedenoise.export.to_onnx import export_model
from edgedenoise.training.checkpoint import load_network
from edgedenoise.training.config import settings
from edgedenoise.training.initial import initial_network
from edgedenoise.training.trainer import train_model


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("kind", ["run", "bundle"])
def test_a_training_begins_with_the_weights_that_a_run_is_known_by(config, tmp_path, kind):
    run = train_model(config).run
    init = run
    if kind == "bundle":
        init = tmp_path / "first.edge"
        export_model(run, init)
    begun = initial_network(config.with_overrides([f"init={init}"]))
    assert same(begun, load_network(run)[0])
    assert not same(begun, initial_network(config))
    # One flag is enough: the network comes with the weights.
    assert settings(None, [f"init={init}"]).network == "cbsn-6x1"
    adapted = train_model(config.with_overrides([f"init={init}", "seed=1", f"out={tmp_path / 'adapted'}"]))
    assert not same(load_network(adapted.run)[0], load_network(run)[0])
    # It is resumed without them, wherever they went.
    train_model(config.with_overrides(["seed=1", f"out={adapted.run}", "steps=12"]), resume=True)


def test_weights_of_another_network_are_refused_by_both_names(config, tmp_path):
    run = train_model(config).run
    with pytest.raises(UsageError, match="is a cbsn-6x1, and network = 'cbsn-7x1'") as caught:
        train_model(config.with_overrides([f"init={run}", "network=cbsn-7x1", f"out={tmp_path / 'other'}"]))
    assert "network = 'cbsn-6x1'" in caught.value.hint
    assert not (tmp_path / "other").exists()


def test_what_is_no_run_and_no_bundle_is_refused(config, tmp_path):
    with pytest.raises(TrainingError, match="does not exist"):
        initial_network(config.with_overrides([f"init={tmp_path / 'nowhere'}"]))
    (tmp_path / "text").write_text("x")
    with pytest.raises(BundleError) as caught:
        initial_network(config.with_overrides([f"init={tmp_path / 'text'}"]))
    assert caught.value.hint


def test_a_run_that_only_taught_the_blind_network_is_not_exported(config, tmp_path):
    run = train_model(config.with_overrides(["objective=sdap"])).run
    with pytest.raises(ExportError, match="only teaches the blind network") as caught:
        export_model(run, tmp_path / "blind.edge")
    assert "--objective cbsn --init" in caught.value.hint
    assert not (tmp_path / "blind.edge").exists()
