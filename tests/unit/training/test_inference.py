"""Whole images go through a network as devices run it, and as papers test it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import edgedenoise
from edgedenoise.errors import DatasetError, UsageError
from edgedenoise.imaging.files import Image, from_unit, read_image, write_image
from edgedenoise.imaging.metrics import psnr, ssim
from edgedenoise.training import inference
from edgedenoise.training.inference import denoise_unit
from edgedenoise.training.networks.families import build_network, network_spec

SPEC = network_spec("cbsn-6x1")


@pytest.fixture
def network():
    return build_network(SPEC, seed=0)


@pytest.fixture
def unit():
    return np.random.default_rng(0).random((43, 58, 3), np.float32)


def normalised(unit):
    planes = torch.from_numpy(unit).permute(2, 0, 1)[None]
    mean, std = planes.mean(dim=(2, 3), keepdim=True), planes.std(dim=(2, 3), keepdim=True, correction=0)
    return (planes - mean) / std, mean, std


def reflected(network, x, *, blind):
    """The network with as much reflected context as it sees: what tiles of an image have."""
    halo = SPEC.halo_px
    with torch.no_grad():
        padded = torch.nn.functional.pad(x, (halo,) * 4, mode="reflect")
        return network(padded, blind=blind)[..., halo:-halo, halo:-halo]


def test_the_direct_mode_is_one_non_blind_pass(network, unit):
    x, mean, std = normalised(unit)
    expected = (reflected(network, x, blind=False) * std + mean)[0].permute(1, 2, 0).numpy()
    assert np.abs(denoise_unit(network, SPEC, unit) - expected).max() < 1e-5
    assert network.training, "the mode is left as it was"


@pytest.mark.parametrize("mode", ["stride2", "stride2-enhanced"])
def test_the_modes_of_papers_run_the_blind_network_on_every_second_pixel(network, unit, mode):
    x, mean, std = normalised(unit)
    answer = torch.empty_like(x)
    for row in (0, 1):
        for column in (0, 1):
            answer[..., row::2, column::2] = reflected(network, x[..., row::2, column::2], blind=True)
    if mode == "stride2-enhanced":
        answer = reflected(network, answer, blind=True)
    expected = (answer * std + mean)[0].permute(1, 2, 0).numpy()
    assert np.abs(denoise_unit(network, SPEC, unit, mode=mode) - expected).max() < 1e-5


@pytest.mark.parametrize("mode", inference.MODES)
def test_tiles_equal_the_whole(network, unit, mode, monkeypatch):
    whole = denoise_unit(network, SPEC, unit, mode=mode)
    monkeypatch.setattr(inference, "TILE_PX", 16)
    assert np.abs(denoise_unit(network, SPEC, unit, mode=mode) - whole).max() < 1e-5


def test_pixels_of_a_network_that_takes_them_as_they_are_are_not_normalised(unit):
    """A student begins as the identity: what comes out is what went in, to the bit."""
    spec = network_spec("edge-plus")
    student = build_network(spec, seed=0)
    assert np.array_equal(denoise_unit(student, spec, unit), unit)
    assert student.training


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4), (17, 33)])
def test_a_student_takes_pictures_of_any_size(size):
    spec = network_spec("edge-plus")
    unit = np.random.default_rng(0).random((*size, 3), np.float32)
    assert np.array_equal(denoise_unit(build_network(spec, seed=0), spec, unit), unit)


@pytest.mark.parametrize("mode", ["stride2", "stride2-enhanced"])
def test_a_network_without_a_blind_path_has_only_the_direct_mode(unit, mode):
    spec = network_spec("edge-tiny")
    with pytest.raises(
        UsageError, match=rf"mode '{mode}' needs a blind path, which edge-tiny does not have; expected direct"
    ):
        denoise_unit(build_network(spec, seed=0), spec, unit, mode=mode)


def test_a_run_is_measured_against_the_truth(config, photos, tmp_path):
    run = edgedenoise.train(config).run
    keep = tmp_path / "denoised"
    for path in photos.iterdir():
        shifted = from_unit(np.clip(read_image(path).unit() + 0.02, 0, 1), np.uint8)
        write_image(Image(shifted), tmp_path / "clean" / path.name)
    found = edgedenoise.evaluate(run, photos, tmp_path / "clean", keep=keep)
    assert (found.images, found.mode, found.network) == (3, "direct", "cbsn-6x1")
    pairs = [(keep / f"{name}.png", tmp_path / "clean" / f"{name}.png") for name in "abc"]
    images = [tuple(from_unit(read_image(path).unit(), np.uint8) for path in pair) for pair in pairs]
    assert found.denoised.psnr_db == pytest.approx(np.mean([psnr(*pair) for pair in images]))
    assert found.denoised.ssim == pytest.approx(np.mean([ssim(*pair) for pair in images]))
    assert found.noisy.psnr_db == pytest.approx(20 * np.log10(1 / 0.02), abs=1.5)
    (tmp_path / "clean" / "b.png").unlink()
    with pytest.raises(DatasetError, match="no ground truth"):
        edgedenoise.evaluate(run, photos, tmp_path / "clean")
