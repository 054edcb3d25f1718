"""Patches from noisy tiles: the same after a resume, with the level of their noise, and every kind of noise."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from edgedenoise.noise import level_estimator
from edgedenoise.noise.cameras import BLACK_HEADROOM
from edgedenoise.noise.level import NoiseCurve, level_plane
from edgedenoise.training.config.config import SupervisedConfig, TrainConfig
from edgedenoise.training.data.draws import Stream, draw
from edgedenoise.training.objectives import noisy_patches
from edgedenoise.training.objectives.noisy_patches import draw_tile
from edgedenoise.training.objectives.objective import open_objective
from edgedenoise.training.objectives.supervised import SupervisedObjective

if TYPE_CHECKING:
    from pathlib import Path

QUIET = {"coarse_share": 0.0, "black_share": 0.0, "weak_share": 0.0, "jpeg_chroma_whole_share": 0.0}


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clean")
    random = np.random.default_rng(0)
    for number in range(8):
        small = Image.fromarray(random.integers(0, 256, (12, 12, 3), np.uint8))
        small.resize((160, 160), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


def config_of(photos: Path, **values) -> SupervisedConfig:
    few = {"tile": 96, "patch": 32, "batch": 3, "tile_uses": 4, "held_out": 1}
    found = TrainConfig.named("edge-level-full-range", clean=photos, out="run", **{**few, **values})
    assert isinstance(found, SupervisedConfig)
    return found


def tiles(config: SupervisedConfig, count: int = 64, **options) -> list[noisy_patches.NoisyTile]:
    objective = SupervisedObjective(config)
    randoms = [draw(config.seed, Stream.TILE, number, 0) for number in range(count)]
    return [draw_tile(objective.photos, config, r, side=96, has_level=True, **options) for r in randoms]


@pytest.fixture
def drawn(monkeypatch) -> list:
    """Noise parameters of all tiles that are drawn; their noise is zero."""
    found = []

    def remember(clean, parameters, random):
        found.append(parameters)
        return clean

    monkeypatch.setattr(noisy_patches, "add_camera_noise", remember)
    return found


def test_a_share_of_the_tiles_is_denoised_in_the_camera(photos, drawn):
    tiles(config_of(photos, denoised_share=0.5))
    found = [one.denoising for one in drawn]
    assert 0.3 < sum(one is not None for one in found) / len(found) < 0.7
    assert len({one.gray_px for one in found if one is not None}) > 10
    del drawn[:]
    tiles(config_of(photos), count=4)
    assert all(one.denoising is None for one in drawn)


def test_a_batch_does_not_depend_on_those_before_it(photos):
    went_on, resumed = (open_objective(config_of(photos)) for _ in range(2))
    for step in range(6):
        batch = went_on.batch(step, range(3))
    for one, other in zip(batch, resumed.batch(5, range(3)), strict=True):
        assert torch.equal(one, other)
    noisy, clean = batch
    assert noisy.shape == (3, 4, 32, 32)
    assert clean.shape == (3, 3, 32, 32)
    assert float(noisy.min()) >= 0
    assert float(noisy.max()) <= 1


def test_a_tile_serves_some_steps_and_samples_renew_theirs_in_turns(photos, monkeypatch):
    found = []
    original = draw_tile
    monkeypatch.setattr(
        "edgedenoise.training.objectives.supervised.draw_tile",
        lambda *args, **options: found.append(1) or original(*args, **options),
    )
    objective, counts = open_objective(config_of(photos)), []
    for step in range(9):
        before = len(found)
        objective.batch(step, range(3))
        counts.append(len(found) - before)
    assert counts[0] == 3, "every sample has a tile"
    assert sum(counts[1:5]) == sum(counts[5:9]) == 3, "each is renewed once in four steps"
    assert max(counts[1:]) == 1, "and no two at the same step"


def test_a_network_without_a_level_plane_gets_the_same_patches_without_it(photos):
    with_level, without = (
        open_objective(config_of(photos, network=name)).batch(5, range(3)) for name in ("edge-level", "edge")
    )
    assert torch.equal(with_level[0][:, :3], without[0])
    assert torch.equal(with_level[1], without[1])


def test_the_level_is_that_of_the_noise(photos):
    objective = open_objective(config_of(photos, level_jitter=0, weak_share=0, noise_low=0.6))
    pairs = [objective.batch(4 * step, range(3)) for step in range(8)]
    noisy, clean = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    rms = (noisy[:, :3] - clean).square().mean(dim=(1, 2, 3)).sqrt()
    level = noisy[:, 3].mean(dim=(1, 2)) / 10
    unclipped = level < 0.09
    assert float((level / rms)[unclipped].median()) == pytest.approx(1, abs=0.2)


def test_the_jitter_scales_the_level_of_a_patch_and_nothing_else(photos):
    quiet = config_of(photos, noise_high=0.3)
    plain, jittered = (
        open_objective(quiet.with_overrides([f"level_jitter={jitter}"])).batch(2, range(3))[0] for jitter in (0, 0.3)
    )
    assert torch.equal(plain[:, :3], jittered[:, :3])
    assert jittered[:, 3].max() < 1
    factors = (jittered[:, 3] / plain[:, 3]).flatten(1)
    assert factors.std(dim=1).max() < 1e-5, "one factor for the whole patch"
    assert (factors[:, 0] - 1).abs().min() > 0.001
    assert len(set(factors[:, 0].tolist())) == 3


def test_the_share_of_estimated_levels_is_that_of_tiles(photos):
    class Constant:
        """An estimator that answers the same for every image."""

        def curve(self, unit):
            return NoiseCurve.constant(0.0321)

    fixed = float(level_plane(np.float32(0.0321)))
    config = config_of(photos, estimated_level_share=0.6)
    found = tiles(config, estimator=Constant())
    estimated = [tile for tile in found if np.allclose(tile.level, fixed)]
    assert 0.4 < len(estimated) / len(found) < 0.8
    assert {tile.level_jitter for tile in estimated} == {0.0}, "it has errors of its own"
    for tile, true in zip(found, tiles(config), strict=True):
        assert np.array_equal(tile.noisy, true.noisy), "the share changes the level only"
        assert np.array_equal(tile.level, true.level) != np.allclose(tile.level, fixed)


def test_estimated_levels_come_from_the_shipped_estimator(photos, monkeypatch):
    asked = []
    shipped = level_estimator.LevelEstimator.shipped()
    monkeypatch.setattr(
        level_estimator.LevelEstimator, "shipped", classmethod(lambda cls: asked.append(cls) or shipped)
    )
    open_objective(config_of(photos))
    assert not asked
    batch = open_objective(config_of(photos, estimated_level_share=1.0)).batch(0, range(3))
    assert asked
    true = open_objective(config_of(photos)).batch(0, range(3))
    assert torch.equal(batch[0][:, :3], true[0][:, :3])
    assert not torch.equal(batch[0][:, 3], true[0][:, 3])


@pytest.mark.parametrize(
    ("setting", "has"),
    [
        ("coarse_share", lambda p: p.coarse is not None),
        ("black_share", lambda p: p.black_headroom < BLACK_HEADROOM),
        ("jpeg_chroma_whole_share", lambda p: not p.jpeg_chroma_halved),
    ],
)
def test_each_kind_of_noise_has_its_share(photos, drawn, setting, has):
    for share, low, high in ((0.0, 0, 0), (0.5, 0.3, 0.7), (1.0, 1, 1)):
        drawn.clear()
        tiles(config_of(photos, **{**QUIET, setting: share}))
        assert low <= np.mean([has(parameters) for parameters in drawn]) <= high


def test_coarse_noise_is_as_strong_as_asked(photos, drawn):
    tiles(config_of(photos, coarse_share=1, coarse_low=0.4, coarse_high=0.5))
    assert all(0.4 <= parameters.coarse.share <= 0.5 for parameters in drawn)
    assert all(3 <= parameters.coarse.grain_px <= 6 for parameters in drawn)


def test_jpeg_has_the_qualities_asked_for(photos, drawn):
    tiles(config_of(photos, jpeg_share=1, jpeg_quality_low=60), 128)
    qualities = [parameters.jpeg_quality for parameters in drawn]
    assert 60 <= min(qualities) < 66
    assert 92 < max(qualities) <= 98


def test_weak_noise_is_anything_down_to_none(photos):
    strong = config_of(photos, **{**QUIET, "weak_share": 0.0}, jpeg_share=0, noise_low=1)
    rms = [
        np.sqrt([np.square(tile.noisy - tile.clean).mean() for tile in tiles(config)])
        for config in (strong, strong.with_overrides(["weak_share=1"]))
    ]
    assert rms[0].min() > 0.03
    assert rms[1].min() < 0.01
    assert 0.3 < np.median(rms[1]) / np.median(rms[0]) < 0.7
    levels = 255 * tiles(strong.with_overrides(["weak_share=1"]), 4)[0].noisy
    assert np.abs(levels - np.round(levels)).max() < 1e-3


def test_shadows_are_cut_off_in_the_clean_image_too(photos, drawn):
    cut, whole = (tiles(config_of(photos, **{**QUIET, "black_share": s}, darken=0.3), 16) for s in (1.0, 1e-9))
    shares = [(tile.clean == 0).mean() for tile in cut], [(tile.clean == 0).mean() for tile in whole]
    assert np.mean(shares[0]) > np.mean(shares[1]) + 0.01
    assert all((a.clean <= b.clean + 1e-6).all() for a, b in zip(cut, whole, strict=True))


def test_without_new_kinds_of_noise_nothing_more_is_drawn(photos):
    """Runs of earlier configs can be resumed: the patches that come next are those that would have come."""
    parameters = noisy_patches.sample_noise(np.random.default_rng(0))
    random = np.random.default_rng(1)
    before = random.bit_generator.state
    changes = noisy_patches._draw_changes(parameters, SupervisedConfig(network="edge"), random)
    assert random.bit_generator.state == before
    assert changes == noisy_patches._Changes(replace(parameters))


def test_images_must_hold_a_tile(photos):
    from edgedenoise.errors import DatasetError

    with pytest.raises(DatasetError, match="at least 200 on each side"):
        open_objective(config_of(photos, tile=200))
