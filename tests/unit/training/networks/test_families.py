"""Networks have names, and a name tells everything about its network."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from edgedenoise.errors import UsageError
from edgedenoise.imaging.normalize import UNIT, WHOLE_IMAGE
from edgedenoise.training.networks.families import FAMILIES, build_network, network_spec


@pytest.mark.parametrize(
    ("name", "parameters", "macs_per_px", "halo_px"),
    [
        ("cbsn-128x9", 3_656_131, 3_650_112, 29),  # the official one
        ("cbsn-64x9", 920_963, 917_888, 29),
        ("cbsn-64x5", 592_259, 590_208, 17),
        ("cbsn-32x5", 152_931, 151_840, 17),
        ("cbsn-16x4", 37_139, 36_592, 14),
    ],
)
def test_published_and_slim_sizes(name, parameters, macs_per_px, halo_px):
    spec = network_spec(name)
    assert (spec.parameters, spec.macs_per_px, spec.halo_px) == (parameters, macs_per_px, halo_px)
    assert (spec.multiple_of, spec.normalization) == (1, WHOLE_IMAGE)


@pytest.mark.parametrize(
    ("name", "parameters", "macs_per_px", "halo_px", "multiple_of"),
    [
        ("edge-tiny", 62_444, 15_552, 17, 2),
        ("edge", 176_700, 44_064, 21, 2),
        ("edge-level", 178_428, 44_496, 21, 2),
        ("edge-plus", 601_212, 55_008, 37, 4),
    ],
)
def test_students_sizes(name, parameters, macs_per_px, halo_px, multiple_of):
    spec = network_spec(name)
    assert (spec.parameters, spec.macs_per_px, spec.halo_px) == (parameters, macs_per_px, halo_px)
    assert (spec.multiple_of, spec.normalization, spec.has_blind_path) == (multiple_of, UNIT, False)
    assert spec.arguments["width"] in (32, 48)
    assert spec.level_planes == (name == "edge-level")


@pytest.mark.parametrize("name", ["cbsn-128x9", "cbsn-1x1", "cbsn-24x4"])
def test_a_network_has_as_many_parameters_as_its_spec_says(name):
    spec = network_spec(name)
    assert sum(p.numel() for p in build_network(spec, seed=0).parameters()) == spec.parameters


def test_weights_are_a_function_of_the_seed_and_leave_torchs_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (build_network(network_spec("cbsn-4x1"), seed=seed).head.weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_first_weights_are_he_fan_in():
    network = build_network(network_spec("cbsn-64x1"), seed=0)
    weight = network.branch2.masked.weight
    assert weight.std().item() == pytest.approx((2 / (64 * 25)) ** 0.5, rel=0.02)
    assert not network.branch2.masked.bias.any()


@pytest.mark.parametrize("name", ["cbsn-24", "cbsn24x4", "cbsn-0x4", "cbsn-24x0", "cbsn-24x4 ", "unet", ""])
def test_an_unknown_name_is_told_what_is_accepted(name):
    with pytest.raises(UsageError, match="cbsn-WxN") as caught:
        network_spec(name)
    assert "Did you mean cbsn-" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("edge-tny", "edge-tiny"),
        ("edgeplus", "edge-plus"),
        ("edge-levels", "edge-level"),
        ("Edge", "edge"),
        ("edge-tiny-2", "edge-tiny"),
    ],
)
def test_a_mistyped_student_is_answered_with_the_nearest(name, meant):
    with pytest.raises(UsageError, match=r"expected .*edge-tiny .*; edge .*; edge-plus") as caught:
        network_spec(name)
    assert caught.value.hint == f"Did you mean {meant}?"


def test_every_family_has_an_example_that_it_answers_to():
    for family in FAMILIES:
        spec = network_spec(family.example)
        assert spec.name == family.example
        assert build_network(spec, seed=0).training


@pytest.mark.parametrize("name", ["edge-tiny", "edge-plus"])
def test_students_weights_are_a_function_of_the_seed(name):
    weights = [build_network(network_spec(name), seed=seed).state_dict() for seed in (1, 1, 2)]
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())
    assert not torch.equal(weights[0]["head.weight"], weights[2]["head.weight"])


def test_describing_networks_and_configs_imports_no_torch():
    code = (
        "import sys, edgedenoise.training as t; t.CBSNConfig(); t.network_spec('cbsn-24x4'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_public_name_is_an_attribute_error():
    import edgedenoise.training

    with pytest.raises(AttributeError, match="public names"):
        edgedenoise.training.no_such_thing  # noqa: B018
    for name in dir(edgedenoise.training):
        assert getattr(edgedenoise.training, name) is not None
