"""A training can begin with the weights of a run or of a bundle."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import edgedenoise
from edgedenoise.errors import BundleError, ExportError, UsageError
from edgedenoise.imaging.files import Image, write_image
from edgedenoise.training.checkpoint import load_network
from edgedenoise.training.config.config import SupervisedConfig
from edgedenoise.training.initial_weights import initial_network
from edgedenoise.training.networks.students import FoldableConv2d
from edgedenoise.training.settings import settings


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("kind", ["run", "bundle"])
def test_a_training_begins_with_the_weights_that_a_run_is_known_by(config, tmp_path, kind):
    run = edgedenoise.train(config).run
    init = run
    if kind == "bundle":
        init = tmp_path / "first.edge"
        edgedenoise.export(run, init)
    begun = initial_network(config.with_overrides([f"init={init}"]))
    assert same(begun, load_network(run)[0])
    assert not same(begun, initial_network(config))
    # One flag is enough: the network comes with the weights.
    assert settings(None, [f"init={init}"]).network == "cbsn-6x1"
    adapted = edgedenoise.train(config.with_overrides([f"init={init}", "seed=1", f"out={tmp_path / 'adapted'}"]))
    assert not same(load_network(adapted.run)[0], load_network(run)[0])
    # It is resumed without them, wherever they went.
    edgedenoise.train(config.with_overrides(["seed=1", f"out={adapted.run}", "steps=12"]), resume=True)


@pytest.mark.parametrize("name", ["edge-tiny", "edge-plus"])
def test_a_student_goes_on_with_the_folded_weights_of_its_bundle(tmp_path, name):
    random = np.random.default_rng(0)
    write_image(Image(random.integers(0, 256, (48, 48, 3), np.uint8)), tmp_path / "clean" / "0.png")
    config = SupervisedConfig(
        network=name, clean=str(tmp_path / "clean"), out=str(tmp_path / "run"), device="cpu",
        steps=3, patch=32, batch=1, learning_rate=1e-2,
    )  # fmt: skip
    run = edgedenoise.train(config).run
    edgedenoise.export(run, tmp_path / "student.edge")
    trained, _ = load_network(run)
    begun = initial_network(config.with_overrides([f"init={tmp_path / 'student.edge'}"])).eval()
    image = torch.rand(1, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = trained(image)
        assert (wanted - image).abs().max() > 1e-3
        assert (begun(image) - wanted).abs().max() <= 1e-5
    for layer in begun.modules():
        if isinstance(layer, FoldableConv2d):
            assert not layer.point.any()
            assert not layer.identity.any(), "all of it is in the 3x3 kernel"
    # One flag is enough for the network, and a run begins with the very weights.
    given = [f"init={tmp_path / 'student.edge'}", "objective=supervised"]
    assert settings(None, given).network == name
    more = [f"init={tmp_path / 'student.edge'}", "learning_rate=1e-12", "steps=1", f"out={tmp_path / 'more'}"]
    again = load_network(edgedenoise.train(config.with_overrides(more)).run)[0]
    with torch.no_grad():
        assert (again(image) - wanted).abs().max() <= 1e-5


def test_weights_of_another_network_are_refused_by_both_names(config, tmp_path):
    run = edgedenoise.train(config).run
    with pytest.raises(UsageError, match="is a cbsn-6x1, and network = 'cbsn-7x1'") as caught:
        edgedenoise.train(config.with_overrides([f"init={run}", "network=cbsn-7x1", f"out={tmp_path / 'other'}"]))
    assert "network = 'cbsn-6x1'" in caught.value.hint
    assert not (tmp_path / "other").exists()


def test_what_is_no_run_and_no_bundle_is_refused(config, tmp_path):
    with pytest.raises(BundleError, match=r"there is no bundle at .*nowhere") as caught:
        initial_network(config.with_overrides([f"init={tmp_path / 'nowhere'}"]))
    assert "the folder of a training run, or a bundle" in caught.value.hint
    (tmp_path / "text").write_text("x")
    with pytest.raises(BundleError) as caught:
        initial_network(config.with_overrides([f"init={tmp_path / 'text'}"]))
    assert caught.value.hint


def test_a_run_that_only_taught_the_blind_network_is_not_exported(config, tmp_path):
    run = edgedenoise.train(config.with_overrides(["objective=sdap"])).run
    with pytest.raises(ExportError, match="teaches only the blind network") as caught:
        edgedenoise.export(run, tmp_path / "blind.edge")
    assert "--objective cbsn --init" in caught.value.hint
    assert not (tmp_path / "blind.edge").exists()
