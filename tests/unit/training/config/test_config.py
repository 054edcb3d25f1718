"""A config is right, or it says which key is wrong, what was received and what is accepted."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

from edgedenoise.errors import UsageError
from edgedenoise.imaging.normalize import DEFAULT_LIMIT, WHOLE_IMAGE, Normalization
from edgedenoise.training.config.config import (
    OBJECTIVE_CONFIGS,
    RUN_CONFIG,
    CBSNConfig,
    SDAPConfig,
    SelfQATConfig,
    SupervisedConfig,
    TrainConfig,
    config_of,
)
from edgedenoise.training.config.presets import PRESETS
from edgedenoise.training.networks.cbsn import LOCAL_MEAN_CHANNELS
from edgedenoise.training.objectives.objective import OBJECTIVES
from edgedenoise.training.settings import settings


def test_a_config_file_reads_back_to_an_equal_config(tmp_path):
    config = CBSNConfig(data='a "b" \\ ü', out="run", steps=7, learning_rate=3e-5, network="cbsn-8x2")
    path = tmp_path / "config.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    assert TrainConfig.from_toml(path) == config


def test_what_a_config_file_leaves_out_has_its_default(tmp_path):
    path = tmp_path / "short.toml"
    path.write_text("steps = 9\nlearning_rate = 1\n")
    assert TrainConfig.from_toml(path) == CBSNConfig(steps=9, learning_rate=1.0)


def test_overrides_are_applied_in_order_as_the_types_of_their_fields():
    config = CBSNConfig(seed=3).with_overrides(["steps=10", "steps = 20", "learning_rate=1e-4", "data=a=b"])
    assert config == CBSNConfig(seed=3, steps=20, learning_rate=1e-4, data="a=b")


def test_overrides_are_checked_together_not_one_by_one():
    config = CBSNConfig().with_overrides(["patch=81", "blind_stride=3", "sub_stride=3"])
    assert (config.patch, config.blind_stride, config.sub_stride) == (81, 3, 3)


def test_a_patch_that_does_not_divide_names_both_strides_and_the_nearest_that_do():
    with pytest.raises(UsageError, match=r"patch = 121 .* blind_stride = 5 .* sub_stride = 2") as caught:
        CBSNConfig(patch=121, blind_stride=5)
    assert "120 and 130" in caught.value.hint


@pytest.mark.parametrize(
    "override",
    [
        "steps=0",
        "steps=ten",
        "steps=1.5",
        "batch=0",
        "patch=-10",
        "learning_rate=0",
        "learning_rate=nan",
        "lambda_inv=-1",
        "ramp_fraction=1.5",
        "ramp_fraction=nan",
        "seed=-1",
        "seed=9223372036854775808",
        "blind_stride=0",
        "log_every=0",
        "cache_mb=-1",
        "objective=nothing",
        "precision=auto32",
        "schedule=linear",
        "device=gpu",
        "network=unet",
        "version=1",
        "version=2",
        "version=4",
        "hours=-1",
        "hours=nan",
        "clip_norm=-1",
        "ema_decay=1",
        "ema_decay=-0.1",
        "held_out=-1",
        "blind_stride=wide",
        "blind_sampler=checkerboard",
        "precision=fp8",
        "workers=-1",
        "val_mode=best",
        "data_check=no",
    ],
)
def test_a_wrong_value_is_named(override):
    assert_named(CBSNConfig(), override)


def test_an_unknown_key_is_refused_with_a_suggestion(tmp_path):
    path = tmp_path / "typo.toml"
    path.write_text("learning_rte = 1e-3\n")
    for attempt in (
        lambda: TrainConfig.from_toml(path),
        lambda: CBSNConfig().with_overrides(["learning_rte=1"]),
    ):
        with pytest.raises(UsageError, match="unknown setting 'learning_rte'") as caught:
            attempt()
        assert caught.value.hint == "Did you mean learning_rate?"
        assert "'cbsn': learning_rate, " in caught.value.message, "the closest setting comes first"
        assert caught.value.message.endswith(" more"), "all settings at once are no answer"


def test_a_key_that_is_like_no_setting_is_refused_with_where_they_are_listed():
    with pytest.raises(UsageError, match="unknown setting 'xyzzy'") as caught:
        CBSNConfig().with_overrides(["xyzzy=1"])
    assert "config.toml" in caught.value.hint


@pytest.mark.parametrize("override", ["steps", "=5", ""])
def test_an_override_without_a_key_and_a_value_is_refused(override):
    with pytest.raises(UsageError, match="key=value"):
        CBSNConfig().with_overrides([override])


def test_a_config_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"missing\.toml cannot be read"):
        TrainConfig.from_toml(tmp_path / "missing.toml")
    broken = tmp_path / "broken.toml"
    for content in (b"steps = ", b"\xff\xfe"):
        broken.write_bytes(content)
        with pytest.raises(UsageError, match=r"broken\.toml is not TOML"):
            TrainConfig.from_toml(broken)
    broken.write_text('steps = "ten"')
    with pytest.raises(UsageError, match=r"broken\.toml has steps = 'ten'"):
        TrainConfig.from_toml(broken)


def test_every_objective_that_can_be_named_exists():
    assert OBJECTIVE_CONFIGS.keys() == OBJECTIVES.keys()
    for name, kind in OBJECTIVE_CONFIGS.items():
        assert kind.__struct_config__.tag == name


def test_a_local_mean_needs_channels_and_says_which_network_has_too_few():
    with pytest.raises(UsageError, match=r"first_weights = 'local-mean' needs 6 channels, and network = 'cbsn-5x1'"):
        CBSNConfig(network="cbsn-5x1", first_weights="local-mean")
    assert CBSNConfig(network=f"cbsn-{LOCAL_MEAN_CHANNELS}x1", first_weights="local-mean")


def test_the_official_config_is_the_papers_and_the_authors_codes():
    config = TrainConfig.named("cbsn-official")
    assert (config.network, config.patch, config.batch, config.steps) == ("cbsn-128x9", 120, 4, 500_000)
    assert (config.learning_rate, config.schedule) == (1e-4, "halving"), "halved every 100k"
    assert config.ramp_fraction * config.steps == 200_000
    assert (config.lambda_inv, config.blind_stride, config.sub_stride) == (2, 5, 2)
    assert (config.statistics, config.first_weights, config.blind_sampler) == ("patch", "he", "lattice")
    assert (config.ema_decay, config.clip_norm, config.held_out) == (0, 0, 0), "nothing of ours"
    assert config.with_overrides(["patch=240"]).patch == 240


@pytest.mark.parametrize("name", PRESETS)
def test_every_named_config_is_a_config(name):
    config = TrainConfig.named(name)
    assert config == config_of(PRESETS[name], where="the preset")
    bare = name
    for suffix in ("-int8", "-shipped", "-full-range", "-qat"):
        bare = bare.removesuffix(suffix)
    assert name.endswith("official") or config.network == bare


@pytest.mark.parametrize("name", ["edge-shipped", "edge-tiny-shipped"])
def test_the_shipped_students_were_trained_on_clean_photographs_that_count_alike(name):
    config = TrainConfig.named(name)
    assert (config.objective, config.loss) == ("supervised", "psnr")
    assert config.needed_folders == ("clean", "out")
    assert settings(name, ["clean=photos", "out=run"]).network == name.removesuffix("-shipped")


def test_a_config_that_has_no_such_name_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match="no config 'cbsn-offical'") as caught:
        TrainConfig.named("cbsn-offical")
    assert caught.value.hint == "Did you mean cbsn-official?"


def test_a_name_or_a_file_is_taken(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("steps = 3\n")
    assert TrainConfig.named(path).steps == 3
    with pytest.raises(UsageError, match=r"missing\.toml cannot be read"):
        TrainConfig.named(tmp_path / "missing.toml")


def test_a_command_line_wins_over_its_config_and_a_resumed_run_over_the_defaults(tmp_path):
    assert settings("cbsn-official", ["steps=7"]).steps == 7
    run = tmp_path / "run"
    run.mkdir()
    (run / RUN_CONFIG).write_text(CBSNConfig(seed=5, out=str(run)).to_toml())
    assert settings(None, [f"out={run}"], resume=True).seed == 5
    assert settings(None, [f"out={run}"]).seed == 0


def test_clean_photographs_are_needed_where_noisy_ones_are_named():
    with pytest.raises(UsageError, match="without val_clean"):
        CBSNConfig(val_noisy="somewhere")


def student(**values):
    """A student's config, with some values."""
    return config_of({"network": "edge", "objective": "distill", **values}, where="the test")


@pytest.mark.parametrize("objective", ["cbsn", "sdap"])
@pytest.mark.parametrize("network", ["edge-tiny", "edge", "edge-plus"])
def test_a_student_has_no_blind_path_to_train(objective, network):
    with pytest.raises(UsageError, match=rf"'{objective}' does not train network = '{network}', .* no blind") as caught:
        OBJECTIVE_CONFIGS[objective](network=network)
    assert "distill or supervised" in caught.value.message
    assert "--objective distill" in caught.value.hint


@pytest.mark.parametrize("objective", ["distill", "supervised"])
def test_a_blind_network_is_not_trained_as_a_student(objective):
    with pytest.raises(UsageError, match=rf"'{objective}' does not train network = 'cbsn-24x4', .* a blind") as caught:
        OBJECTIVE_CONFIGS[objective]()
    assert "cbsn or sdap" in caught.value.message
    assert "--objective cbsn" in caught.value.hint


@pytest.mark.parametrize(
    "override",
    [
        "loss=l2",
        "laplacian=-0.1",
        "laplacian=inf",
        "darken=0",
        "darken=1.1",
        "darken=nan",
        "recharge=2",
        "recharge=-1",
        "views=0",
        "views=9",
        "blind_views=-1",
        "blind_views=8",
        "noise_jitter=-0.1",
        "noise_jitter=1.1",
        "noise_jitter=nan",
    ],
)
def test_a_wrong_value_of_a_student_is_named(override):
    assert_named(student(), override)


@pytest.mark.parametrize(
    "override",
    [
        "darken=0",
        "magnify=0.9",
        "magnify=8.1",
        "magnify=nan",
        "noise_low=-0.1",
        "noise_low=nan",
        "noise_high=1.3",
        "noise_power=0",
        "noise_power=inf",
        "jpeg_share=1.1",
        "jpeg_share=-0.1",
        "jpeg_share=nan",
        "jpeg_quality_low=0",
        "jpeg_quality_low=99",
        "jpeg_chroma_whole_share=1.1",
        "coarse_share=-0.1",
        "coarse_low=0.9",
        "coarse_high=0.1",
        "denoised_share=-1",
        "black_share=2",
        "weak_share=nan",
        "tile=-1",
        "tile=64",
        "tile_uses=0",
        "level_jitter=-0.1",
        "estimated_level_share=1.1",
        "psnr_floor_steps=-1",
        "warmup=-1",
    ],
)
def test_a_wrong_value_of_synthetic_noise_is_named(override):
    assert_named(student(objective="supervised"), override)


def assert_named(config, override):
    """The error names the setting and the value, and says what is expected."""
    key, _, value = override.partition("=")
    with pytest.raises(UsageError, match=r"expected|accepted") as caught:
        config.with_overrides([override])
    assert key in caught.value.message
    assert value in caught.value.message


@pytest.mark.parametrize(
    ("objective", "overrides"),
    [
        ("supervised", ["laplacian=0", "darken=1", "magnify=1", "noise_low=0", "noise_high=0", "jpeg_share=0"]),
        ("supervised", ["magnify=8", "noise_low=1", "noise_high=1.25", "jpeg_share=1", "noise_power=0.01"]),
        (
            "supervised",
            ["tile=120", "jpeg_quality_low=98", "coarse_low=0.8", "weak_share=1", "estimated_level_share=1"],
        ),
        ("distill", ["darken=0.01", "noise_jitter=0", "recharge=0", "views=8", "blind_views=0", "loss=l1"]),
        ("distill", ["recharge=1", "noise_jitter=1", "views=1"]),
    ],
)
def test_the_bounds_themselves_are_accepted(objective, overrides):
    config = student(objective=objective).with_overrides(overrides)
    for key, _, value in (override.partition("=") for override in overrides):
        assert str(getattr(config, key)).removesuffix(".0") == value


def test_levels_of_noise_in_the_wrong_order_name_both():
    with pytest.raises(UsageError, match=r"noise_low = 0.6 and noise_high = 0.4"):
        student(objective="supervised", noise_low=0.6, noise_high=0.4)


def test_levels_are_estimated_on_tiles_only():
    with pytest.raises(UsageError, match=r"estimated_level_share = 0.6 needs tiles") as caught:
        student(objective="supervised", network="edge-level", estimated_level_share=0.6)
    assert "--set tile=256" in caught.value.hint


@pytest.mark.parametrize("objective", ["distill", "cbsn"])
def test_a_network_with_a_level_plane_learns_from_clean_images_or_in_8_bits(objective):
    with pytest.raises(UsageError, match=rf"'{objective}' does not train network = 'edge-level'"):
        OBJECTIVE_CONFIGS[objective](network="edge-level")
    for accepted in ("supervised", "qat", "qat-self"):
        assert OBJECTIVE_CONFIGS[accepted](network="edge-level").network == "edge-level"


def test_noisy_photographs_are_refused_where_clean_ones_are_learnt_from():
    with pytest.raises(UsageError, match=r"unknown setting 'data': expected .*objective = 'supervised'"):
        student(objective="supervised", data="noisy")


@pytest.mark.parametrize(
    ("objective", "needed"), [("cbsn", "data"), ("sdap", "data"), ("distill", "data teacher"), ("supervised", "clean")]
)
def test_what_an_objective_needs(objective, needed):
    config = OBJECTIVE_CONFIGS[objective](network="edge" if objective in ("distill", "supervised") else "cbsn-24x4")
    assert config.needed_folders == (*needed.split(), "out")


@pytest.mark.parametrize("objective", ["distill", "supervised"])
def test_a_patch_that_a_student_cannot_halve_is_told_the_nearest(objective):
    with pytest.raises(UsageError, match=r"patch = 81 must be divisible by 2 for network = 'edge'") as caught:
        student(objective=objective, patch=81)
    assert "82" in caught.value.hint
    with pytest.raises(UsageError, match=r"patch = 82 must be divisible by 4 for network = 'edge-plus'") as caught:
        student(objective=objective, patch=82, network="edge-plus")
    assert "84" in caught.value.hint


def test_students_take_patches_that_a_second_sampler_would_not_divide():
    assert student(patch=82, blind_stride=2).patch == 82
    assert student(patch=82, objective="supervised").patch == 82, "which takes nothing apart"
    with pytest.raises(UsageError, match="unknown setting 'sub_stride'"):
        student(sub_stride=3)


@pytest.mark.parametrize(("network", "patch", "stride"), [("edge", 32, 5), ("edge-plus", 32, 5), ("edge-plus", 100, 3)])
def test_the_nearest_patches_of_a_student_are_accepted_ones(network, patch, stride):
    with pytest.raises(UsageError, match=rf"patch = {patch} must be divisible by blind_stride = {stride}") as caught:
        student(network=network, patch=patch, blind_stride=stride)
    assert "sub_stride" not in caught.value.message, "distill has no second sampler"
    nearest = [int(number) for number in re.findall(r"\d+", caught.value.hint)]
    assert len(nearest) == 2
    for number in nearest:
        assert student(network=network, patch=number, blind_stride=stride).patch == number


def test_a_students_config_file_reads_back_to_an_equal_config(tmp_path):
    config = student(teacher="teacher", data="noisy", clean="clean", loss="psnr", recharge=0.25, views=3)
    (tmp_path / "config.toml").write_text(config.to_toml(), encoding="utf-8")
    assert TrainConfig.from_toml(tmp_path / "config.toml") == config


@pytest.mark.parametrize("objective", ["distill", "supervised", "qat", "qat-self"])
def test_a_mode_that_needs_a_blind_path_is_for_blind_networks_only(objective):
    """Refused now, and not after the steps before the first validation."""
    with pytest.raises(UsageError, match="unknown setting 'val_mode'") as caught:
        student(objective=objective, val_mode="stride2")
    assert "objective = cbsn, sdap" in caught.value.hint


def test_ground_truth_without_noisy_photographs_is_refused_where_there_are_none_to_take():
    """`val_noisy` is those of `data` by default, which `supervised` has not."""
    with pytest.raises(UsageError, match=r"val_clean = 'truth' is given without val_noisy") as caught:
        student(objective="supervised", clean="photos", val_clean="truth")
    assert "--val-noisy" in caught.value.hint
    assert student(val_clean="truth", data="noisy").val_clean == "truth"


def test_a_stride_that_was_not_settled_is_not_taken_for_a_number():
    assert CBSNConfig(blind_stride=3).stride == 3
    with pytest.raises(UsageError, match="not been settled"):
        _ = CBSNConfig().stride


@pytest.mark.parametrize(("objective", "key"), [("cbsn", "clean"), ("cbsn", "teacher"), ("sdap", "teacher")])
def test_a_folder_that_nobody_would_read_is_refused(objective, key):
    message = f"unknown setting '{key}': expected one of the settings of objective = '{objective}'"
    with pytest.raises(UsageError, match=message) as caught:
        OBJECTIVE_CONFIGS[objective]().with_overrides([f"{key}=folder"])
    assert f"{key} belongs to objective = " in caught.value.hint


def test_another_objective_keeps_what_both_have_and_drops_the_rest():
    config = CBSNConfig(data="noisy", out="run", seed=3, lambda_inv=4, blind_stride=4)
    assert config.with_overrides(["objective=sdap"]) == SDAPConfig(data="noisy", out="run", seed=3, blind_stride=4)


def test_qat_on_noisy_images_is_another_objective_than_qat_on_clean_ones():
    base = student(objective="supervised", clean="clean", seed=2)
    assert base.with_overrides(["objective=qat"]).clean == "clean"
    config = student(objective="qat", data="noisy", seed=2)
    assert (type(config), config.data) == (SelfQATConfig, "noisy")
    assert config.with_overrides(["objective=qat", "steps=3"]).data == "noisy", "a resumed run stays what it is"
    with pytest.raises(UsageError, match=r"unknown setting 'jpeg_share': expected .*objective = 'qat-self'"):
        config.with_overrides(["jpeg_share=1"])


def test_a_config_without_an_objective_is_refused_with_the_way_to_make_one():
    with pytest.raises(UsageError, match="TrainConfig belongs to no objective: expected one of CBSNConfig") as caught:
        TrainConfig()
    assert "TrainConfig.named(" in caught.value.hint


def test_a_named_config_takes_values_of_python(tmp_path):
    config = TrainConfig.named("edge-shipped", clean=tmp_path, steps=7)
    assert (config.clean, config.steps, type(config)) == (str(tmp_path), 7, SupervisedConfig)
    with pytest.raises(UsageError, match=r"steps = 'seven', which is not accepted: expected an integer, at least 1"):
        TrainConfig.named("edge-shipped", steps="seven")
    with pytest.raises(UsageError, match=r"unknown setting 'teacher': expected .*objective = 'supervised'"):
        TrainConfig.named("edge-shipped", teacher="run")


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        ("steps", "an integer, at least 1"),
        ("ramp_fraction", "a number, at least 0 and at most 1"),
        ("blind_stride", "an integer, at least 1 or auto"),
        ("schedule", "halving, cosine, hold, constant"),
        ("device", "auto, cpu, cuda, cuda:N, mps"),
        ("compile", "true or false"),
    ],
)
def test_an_error_says_what_is_expected(type_, text):
    with pytest.raises(UsageError) as caught:
        CBSNConfig().with_overrides([f"{type_}=-"])
    assert caught.value.message == f"an override has {type_} = '-', which is not accepted: expected {text}"


OLD = Path(__file__).parents[1] / "fixtures"
"""Configs as version 1 wrote them into run folders, with the settings of all objectives."""


@pytest.mark.parametrize(
    ("name", "config"),
    [
        (
            "config-v1-cbsn.toml",
            CBSNConfig(
                network="cbsn-6x1", data="photos", out="run", steps=10, patch=20, blind_stride=5, data_check="off",
                checkpoint_every=3, preview_every=4, log_every=2, device="cpu", precision="fp32", normalization_limit=0,
            ),
        ),
        (
            "config-v1-qat.toml",
            SelfQATConfig(
                network="edge-tiny", data="photos", out="run", init="before", steps=6, patch=32, scheme="u8s8",
                data_check="off", device="cpu", precision="fp32", normalization_limit=0,
            ),
        ),
        (
            "config-v1-edge-level.toml",
            TrainConfig.named(
                "edge-level-full-range", clean="photos", out="run", precision="bf16", workers=0
            ),
        ),
    ],
)  # fmt: skip
def test_a_config_that_version_1_wrote_is_read(name, config, tmp_path):
    assert TrainConfig.from_toml(OLD / name) == config
    typo = tmp_path / "typo.toml"
    typo.write_text((OLD / name).read_text() + "learning_rte = 1\n")
    with pytest.raises(UsageError, match="unknown setting 'learning_rte'"):
        TrainConfig.from_toml(typo)


def test_a_run_of_version_2_keeps_its_normalization_and_a_new_one_has_a_limit(tmp_path):
    old = tmp_path / "config.toml"
    text = CBSNConfig(network="cbsn-16x4", data="photos", out="run").to_toml()
    lines = [line for line in text.splitlines() if not line.startswith("normalization_limit")]
    old.write_text("\n".join(lines).replace("version = 3", "version = 2"))
    assert TrainConfig.from_toml(old).spec.normalization == WHOLE_IMAGE
    by_hand = tmp_path / "by-hand.toml"
    by_hand.write_text('network = "cbsn-16x4"\n')
    assert TrainConfig.from_toml(by_hand).spec.normalization == Normalization("whole-image-bounded", DEFAULT_LIMIT)


@pytest.mark.parametrize("name", PRESETS)
def test_only_the_official_configs_normalize_without_a_limit(name):
    kind = TrainConfig.named(name).spec.normalization.kind
    official = "whole-image" if name.endswith("-official") else "whole-image-bounded"
    assert kind == (official if name.startswith(("cbsn", "sdap")) else "unit")


@pytest.mark.parametrize(("module", "fewest"), [("base", 3), ("blind", 1), ("students", 4)])
def test_the_examples_in_docstrings_hold(module, fewest):
    results = doctest.testmod(importlib.import_module(f"edgedenoise.training.config.{module}"))
    assert results.attempted >= fewest
    assert results.failed == 0
