"""Runs of a network with a level plane: in float, in 8 bits, resumed, validated, previewed and evaluated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from resuming import Stopped, check_same_end, stop

import edgedenoise
from edgedenoise.calibration.histograms import Range
from edgedenoise.errors import UsageError
from edgedenoise.imaging.files import Image, from_unit, read_image, write_image
from edgedenoise.noise.level_estimator import LevelEstimator
from edgedenoise.runtimes.noise_plane import noise_of, with_plane
from edgedenoise.training.checkpoint import load_network
from edgedenoise.training.config.config import SelfQATConfig, TrainConfig, config_of
from edgedenoise.training.inference import denoise_unit
from edgedenoise.training.loop.previews import write_preview
from edgedenoise.training.networks.fake_quant import QuantizedConv2d, input_ranges
from edgedenoise.training.networks.families import build_network, network_spec
from edgedenoise.training.networks.guard import Guarded
from edgedenoise.training.objectives.objective import open_objective
from edgedenoise.training.objectives.qat import SelfDistilledQAT

if TYPE_CHECKING:
    from pathlib import Path

SPEC = network_spec("edge-level")
FEW = {
    "patch": 32, "batch": 2, "tile": 64, "tile_uses": 3, "held_out": 1, "steps": 6, "checkpoint_every": 2,
    "val_every": 3, "preview_every": 3, "log_every": 2, "precision": "fp32", "workers": 0, "device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Four clean images, `clean`, and the same ones with noise, `noisy`."""
    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for index in range(4):
        blocks = random.integers(0, 200, (6, 6, 3)).repeat(16, 0).repeat(16, 1)
        clean = blocks + np.linspace(0, 50, 96)[:, None, None]
        noisy = clean + (5 + 5 * index) * random.standard_normal(clean.shape)
        for name, image in (("clean", clean), ("noisy", noisy)):
            write_image(Image(np.clip(image, 0, 255).astype(np.uint8)), root / name / f"{index}.png")
    return root


def level_config(photos: Path, out: Path, **values) -> TrainConfig:
    return TrainConfig.named("edge-level-full-range", clean=photos / "clean", out=out, **{**FEW, **values})


@pytest.fixture(scope="module")
def float_run(photos, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("float") / "run"
    validated = {"val_noisy": photos / "noisy", "val_clean": photos / "clean"}
    return edgedenoise.train(level_config(photos, out, **validated)).run


def random_network(seed: int = 0) -> torch.nn.Module:
    """A network whose answer depends on every input plane."""
    network = build_network(SPEC, seed=seed)
    torch.nn.init.normal_(network.tail.weight, std=0.05, generator=torch.Generator().manual_seed(seed))
    return network


def test_a_run_is_validated_and_previewed(float_run):
    rows = (float_run / "validation.csv").read_text().splitlines()
    assert len(rows) == 3
    assert all(20 < float(row.split(",")[3]) < 40 for row in rows[1:])
    assert len(list((float_run / "previews").iterdir())) == 2


def test_a_stopped_run_on_tiles_goes_on_as_if_it_had_not_been(photos, tmp_path):
    config = level_config(photos, tmp_path / "whole", estimated_level_share=0.5)
    whole = edgedenoise.train(config)
    other = config.with_overrides([f"out={tmp_path / 'run'}"])
    with pytest.raises(Stopped):
        edgedenoise.train(other, progress=stop)
    resumed = edgedenoise.train(other, resume=True)
    check_same_end(whole.run, resumed.run)


def test_a_resumed_run_may_estimate_more_levels_and_end_in_fp32(photos, tmp_path):
    config = level_config(photos, tmp_path / "run", precision="bf16")
    edgedenoise.train(config)
    more = config.with_overrides(["steps=8", "estimated_level_share=0.6", "precision=fp32"])
    result = edgedenoise.train(more, resume=True)
    assert (result.steps, result.precision) == (8, "fp32")
    kept = TrainConfig.from_toml(result.run / "config.toml")
    assert (kept.estimated_level_share, kept.precision) == (0.6, "fp32")
    with pytest.raises(UsageError, match=r"trained with coarse_share = 0.33; it cannot be resumed with 0.5"):
        edgedenoise.train(more.with_overrides(["coarse_share=0.5"]), resume=True)


@pytest.mark.parametrize("scheme", ["u8s7", "s8s8"])
def test_it_trains_in_8_bits_on_the_same_tiles(photos, float_run, tmp_path, scheme):
    values = {"init": float_run, "scheme": scheme, "observe_fraction": 0.5}
    config = TrainConfig.named("edge-level-qat", clean=photos / "clean", out=tmp_path / "run", **{**FEW, **values})
    batch = open_objective(config).batch(4, range(2))
    same = level_config(photos, tmp_path, estimated_level_share=0.6)
    assert all(torch.equal(a, b) for a, b in zip(batch, open_objective(same).batch(4, range(2)), strict=True))
    result = edgedenoise.train(config)
    assert result.precision == "fp32"
    network, spec = load_network(result.run)
    assert spec.level_planes == 1
    assert isinstance(network.head, QuantizedConv2d)
    assert input_ranges(network)["head"] == Range(0, 1), "image and level plane share the range of pixels"
    float_network = load_network(float_run)[0]
    noisy = batch[0]
    with torch.no_grad():
        assert (network(noisy) - float_network(noisy)).abs().max() < 0.1


def test_it_trains_in_8_bits_on_noisy_images_with_the_level_of_each(photos, float_run, tmp_path):
    values = {"network": "edge-level", "data": str(photos / "noisy"), "init": str(float_run), "data_check": "off"}
    few = {key: value for key, value in FEW.items() if not key.startswith("tile")}
    config = config_of({**few, **values, "objective": "qat", "out": str(tmp_path / "run")}, where="the test")
    assert isinstance(config, SelfQATConfig)
    objective = SelfDistilledQAT(config)
    (patches,) = objective.batch(0, range(8))
    assert patches.shape == (8, 4, 32, 32)
    curves = [
        LevelEstimator.shipped().curve(read_image(path).unit()).sigma for path in sorted((photos / "noisy").iterdir())
    ]
    for patch in patches.numpy():
        brightness = patch[:3].mean()
        expected = [min(1, 10 * float(np.interp(brightness, np.linspace(0, 1, 12), curve))) for curve in curves]
        assert min(abs(patch[3].mean() - level) for level in expected) < 0.1
    edgedenoise.train(config)
    assert load_network(tmp_path / "run")[1].level_planes == 1


def test_a_noisy_image_alone_gets_the_estimated_level(photos):
    network, unit = random_network(), read_image(photos / "noisy" / "2.png").unit()
    level = noise_of(unit).plane()
    found = denoise_unit(network, SPEC, unit)
    assert np.array_equal(found, denoise_unit(network, SPEC, unit, level=level))
    assert not np.array_equal(found, denoise_unit(network, SPEC, unit, level=level / 2))


def test_the_guard_follows_the_network_as_in_the_exported_graph(photos):
    network, unit = random_network().eval(), read_image(photos / "noisy" / "2.png").unit()
    level = np.full(unit.shape[:2], 0.2, np.float32)
    x = torch.from_numpy(with_plane(np.ascontiguousarray(unit.transpose(2, 0, 1)), level))[None]
    with torch.no_grad():
        guarded, bare = (found[0].permute(1, 2, 0).numpy() for found in (Guarded(network)(x), network(x)))
    answer, inner = denoise_unit(network, SPEC, unit, level=level), slice(26, -26)
    assert np.abs(answer - guarded)[inner, inner].max() < 1e-6
    assert np.abs(answer - bare)[inner, inner].max() > 1e-3


def test_an_image_without_noise_comes_back_unchanged():
    clean = np.full((64, 64, 3), 0.4, np.float32)
    assert noise_of(clean).is_negligible
    assert np.array_equal(denoise_unit(random_network(), SPEC, clean), clean)


def test_evaluation_takes_the_estimated_level(photos, float_run, tmp_path):
    found = edgedenoise.evaluate(float_run, photos / "noisy", photos / "clean", keep=tmp_path)
    network, spec = load_network(float_run)
    for path in (photos / "noisy").iterdir():
        answer = from_unit(denoise_unit(network, spec, read_image(path).unit()), np.uint8)
        assert np.array_equal(read_image(tmp_path / path.name).pixels, answer)
    assert found.network == "edge-level"


def test_a_preview_of_a_part_has_the_level_of_the_whole_image(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("edgedenoise.training.loop.previews.PREVIEW_PX", 48 * 48)
    whole = read_image(photos / "noisy" / "3.png").unit()
    network = random_network()
    write_preview(tmp_path / "preview.png", network, SPEC, [whole])
    shown = read_image(tmp_path / "preview.png").unit()
    part, level = whole[24:72, 24:72], noise_of(whole).plane()[24:72, 24:72]
    expected = np.clip(denoise_unit(network, SPEC, part, level=level), 0, 1)
    assert np.abs(shown[:, 48:] - expected).max() <= 0.51 / 255
