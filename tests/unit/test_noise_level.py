"""Networks that take the noise level: strength, stated noise, clean images, gray images; and 16 bits in float."""

from __future__ import annotations

import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from cpus import VNNI, pretend
from manifests import rewrite_manifest
from PIL import Image as PILImage

import edgedenoise
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.manifest import HeldOutLoss
from edgedenoise.denoiser import denoise, load, load_variant
from edgedenoise.errors import IncompatibleError, InferenceError, IntegrityError, UsageError
from edgedenoise.imaging.files import write_image
from edgedenoise.imaging.image import Image, Metadata
from edgedenoise.imaging.pixel_rows import PixelRows
from edgedenoise.noise.level import level_plane
from edgedenoise.runtimes.noise_plane import SHIPPED, noise_of, stated_noise
from edgedenoise.runtimes.opening import open_variant
from edgedenoise.runtimes.stored_image import ImageRun, StoredImage

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("onnx", reason='pip install "edgedenoise[quantize]"')

SIGMA_LSB = 10.0


def noisy(shape: tuple[int, ...] = (90, 130, 3), dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    """A soft ramp with white noise of `SIGMA_LSB`."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0.2, 0.7, shape[1])[None, :].repeat(shape[0], axis=0)
    ramp = ramp if len(shape) == 2 else ramp[..., None].repeat(shape[2], axis=2)
    unit = np.clip(ramp + rng.normal(0, SIGMA_LSB / 255, shape), 0, 1)
    if np.dtype(dtype).kind == "f":
        return unit.astype(dtype)
    return np.round(unit * np.iinfo(dtype).max).astype(dtype)


@pytest.fixture(scope="module")
def level_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from graphs import level_graph

    from edgedenoise.exporting.onnx.float_bundle import FloatGraph, write_float_bundle
    from edgedenoise.imaging.normalize import UNIT

    path = tmp_path_factory.mktemp("bundle") / "level.edge"
    write_float_bundle(path, FloatGraph(level_graph(), "level", UNIT, 6, 2, noise_level=SHIPPED))
    return path


# ---------------------------------------------------------------- the level


def test_the_noise_of_an_image_is_its_level() -> None:
    unit = noisy((160, 160, 3), "float32")
    found = noise_of(unit)
    assert found.sigma.shape == (160, 160)
    assert found.rms_lsb == pytest.approx(SIGMA_LSB, rel=0.25)
    assert stated_noise(12, 4, 5).rms_lsb == pytest.approx(12)
    np.testing.assert_array_equal(found.plane(2.0), level_plane(2 * found.sigma))


@pytest.mark.parametrize("shape", [(1, 1, 3), (9, 40, 3), (40, 15, 3)], ids=str)
def test_images_smaller_than_a_block_have_a_noise_level_too(shape: tuple[int, ...], level_bundle: Path) -> None:
    unit = noisy(shape, "float32")
    assert noise_of(unit).sigma.shape == shape[:2]
    assert denoise(unit, level_bundle).shape == shape


@pytest.mark.parametrize("tile", [32, 50])
def test_tiles_give_the_whole_image(level_bundle: Path, tile: int) -> None:
    given = noisy((90, 130, 3), "float32")
    whole, tiled = (denoise(given, level_bundle, tile=size) for size in (0, tile))
    assert np.abs(whole - given).max() > 0.01
    assert np.abs(tiled - whole).max() == 0


def test_rows_give_the_whole_image(level_bundle: Path) -> None:
    given = noisy((190, 130, 3))
    bundle = Bundle.open(level_bundle)
    with load(level_bundle, tile=0) as opened:
        whole = opened(given)
    rows = replace(PixelRows.of(given), start=lambda n: (given[y : y + n] for y in range(0, 190, n)), in_memory=False)
    stored = StoredImage(rows)
    with open_variant(bundle, bundle.variant("onnx-fp32"), selftest=False) as session:
        run = ImageRun(stored, session, bundle.manifest.tiling, noise=stored.noise(None))
        np.testing.assert_array_equal(np.concatenate(list(run.bands(40))), whole)


# ---------------------------------------------------------------- strength and stated noise


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_strength_0_returns_the_input(level_bundle: Path, dtype: str) -> None:
    given = noisy(dtype=dtype)
    np.testing.assert_array_equal(denoise(given, level_bundle, strength=0), given)


def test_strength_scales_the_level(level_bundle: Path) -> None:
    given = noisy((90, 130, 3), "float32")
    changes = [np.abs(denoise(given, level_bundle, strength=s) - given).mean() for s in (0.5, 1, 2)]
    assert changes[0] < changes[1] < changes[2]
    with pytest.raises(
        UsageError, match=r"strength is 2\.1; expected 0 \(the input\) to 2 \(twice the estimated noise"
    ):
        load(level_bundle, strength=2.1)


def test_strength_above_1_is_for_networks_that_take_the_level(committed_bundle: Path) -> None:
    with pytest.raises(UsageError, match=r"strength is 1\.5; expected 0 \(the input\) to 1 \(the network's output\)"):
        load(committed_bundle, strength=1.5)


def test_a_stated_level_replaces_the_estimate(level_bundle: Path) -> None:
    given = noisy((90, 130, 3), "float32")
    with load(level_bundle, noise=5) as opened:
        weak = opened(given)
        assert opened.last_noise == pytest.approx(5, abs=0.01)
    np.testing.assert_array_equal(denoise(given, level_bundle, noise=2.5, strength=2), weak)
    np.testing.assert_array_equal(denoise(given, level_bundle, noise=0), given)
    clean = np.full((40, 40, 3), 0.5, np.float32)
    assert not np.array_equal(denoise(clean, level_bundle, noise=12), clean), "a stated level is never negligible"


@pytest.mark.parametrize("noise", [-1, float("nan"), 300])
def test_a_level_out_of_range_is_refused(level_bundle: Path, noise: float) -> None:
    with pytest.raises(UsageError, match="expected 0 to 255, in 8-bit levels"):
        load(level_bundle, noise=noise)


def test_a_level_is_refused_by_networks_that_do_not_take_it(committed_bundle: Path) -> None:
    with pytest.raises(UsageError, match="does not take the noise level; expected no noise, got 12"):
        load(committed_bundle, noise=12)


# ---------------------------------------------------------------- clean images, gray images


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_clean_image_is_returned_unchanged(level_bundle: Path, dtype: str, caplog: pytest.LogCaptureFixture) -> None:
    ramp = np.linspace(0.1, 0.9, 128, dtype=np.float32)[None, :, None] * np.float32([1, 0.9, 0.8])
    ramp = ramp.repeat(128, axis=0)
    given = ramp if dtype == "float32" else (ramp * np.iinfo(dtype).max).astype(dtype)
    with caplog.at_level(logging.INFO, "edgedenoise"), load(level_bundle, strength=2) as opened:
        np.testing.assert_array_equal(opened(given), given)
        assert opened.last_noise is not None
        assert opened.last_noise < 1
    assert "levels; the image is returned unchanged" in caplog.text


def test_the_estimate_is_logged(level_bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "edgedenoise"), load(level_bundle) as opened:
        opened(noisy())
        assert opened.last_noise == pytest.approx(SIGMA_LSB, rel=0.25)
    assert f"noise: {opened.last_noise:.1f} 8-bit levels" in caplog.text
    assert "denoised 130x90 with tiles of" in caplog.text, "width x height"
    assert f"opened onnx-fp32: {opened.effective.runtime} {opened.effective.version}, cpu (" in caplog.text


def test_gray_comes_back_gray_whether_it_has_one_channel_or_three(level_bundle: Path) -> None:
    gray = noisy((80, 96))
    one = denoise(gray, level_bundle)
    three = denoise(gray[..., None].repeat(3, axis=2), level_bundle)
    assert not np.array_equal(one, gray)
    for channel in range(3):
        np.testing.assert_array_equal(three[..., channel], one)


def test_alpha_metadata_and_pil_modes_are_kept(level_bundle: Path) -> None:
    alpha = noisy((80, 96))
    given = Image(noisy((80, 96, 3)), alpha, Metadata(dpi=(72, 72)), "PNG")
    answer = denoise(given, level_bundle)
    assert answer.alpha is alpha
    np.testing.assert_array_equal(answer.pixels, denoise(given.pixels, level_bundle))
    pil = denoise(PILImage.fromarray(noisy((80, 96))), level_bundle)
    assert (pil.mode, pil.size) == ("L", (96, 80))


def test_files_are_reported_with_their_noise_and_variant(level_bundle: Path, tmp_path: Path) -> None:
    for name, pixels in (("noisy.png", noisy((160, 160, 3))), ("flat.png", np.full((64, 64, 3), 90, np.uint8))):
        PILImage.fromarray(pixels).save(tmp_path / name)
    report = edgedenoise.denoise_files([tmp_path / "noisy.png", tmp_path / "flat.png"], tmp_path / "out", level_bundle)
    first, second = report.files
    assert first.noise == pytest.approx(SIGMA_LSB, rel=0.25)
    assert second.noise is not None
    assert second.noise < 1
    assert {first.variant, second.variant} == {"onnx-fp32"}


# ---------------------------------------------------------------- compatibility


@pytest.mark.parametrize("changed", [{"estimator": "other"}, {"version": 99}, {"gain": 20.0}], ids=str)
def test_a_level_that_this_version_does_not_compute_is_refused(
    level_bundle: Path, tmp_path: Path, changed: dict[str, Any]
) -> None:
    import shutil

    copy = shutil.copytree(level_bundle, tmp_path / "newer.edge")
    rewrite_manifest(copy, noise_level=msgspec.to_builtins(msgspec.structs.replace(SHIPPED, **changed)))
    with pytest.raises(IncompatibleError, match="needs a noise level that this version does not compute"):
        load(copy)
    with pytest.raises(IncompatibleError, match="needs a noise level that this version does not compute"):
        load_variant(Bundle.open(copy), "onnx-fp32")


def test_a_lone_file_takes_the_level(level_bundle: Path) -> None:
    given = noisy()
    found = denoise(given, level_bundle / "onnx-fp32" / "model.onnx")
    np.testing.assert_array_equal(found, denoise(given, level_bundle))


# ---------------------------------------------------------------- float for some images


def test_images_with_little_noise_run_in_float(
    level_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pretend(monkeypatch, VNNI)
    photos, bundle = tmp_path / "photos", tmp_path / "int8.edge"
    shutil.copytree(level_bundle, bundle)
    for seed in range(4):
        write_image(Image(noisy((96, 96, 3), seed=seed), None, Metadata(), "PNG"), photos / f"{seed}.png")
    edgedenoise.calibrate(bundle, photos, count=4, crop_px=48)
    edgedenoise.quantize(bundle)
    variants = msgspec.to_builtins(Bundle.open(bundle).manifest.variants)
    loss = msgspec.to_builtins(HeldOutLoss(0.01, 0.02, 8, "clean", least_noise_lsb=6.0))
    rewrite_manifest(bundle, variants=[{**one, "loss": loss} if one["encoding"] else one for one in variants])
    weak = np.asarray(noisy(dtype="float32") * 0.25 + 0.4, np.float32)
    with load_variant(Bundle.open(bundle), "onnx-fp32") as opened:
        expected = opened(weak)
    with caplog.at_level(logging.INFO, "edgedenoise"), load(bundle) as opened:
        opened(noisy())
        assert opened.last_variant.name == "onnx-int8-u8s7"
        np.testing.assert_array_equal(opened(weak), expected)
        assert opened.last_variant.name == "onnx-fp32"
    assert "images with less noise than 6 LSB run on onnx-fp32 instead of onnx-int8-u8s7" in caplog.text
    for options, name in (({"strength": 0.3}, "onnx-fp32"), ({"strength": 0.3, "precision": "int8"}, "onnx-int8-u8s7")):
        with load(bundle, **options) as opened:
            opened(noisy())
            assert opened.last_variant.name == name, options


def test_16_bits_run_in_float_where_auto_takes_int8(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pretend(monkeypatch, VNNI)
    monkeypatch.setattr("edgedenoise.runtimes.choosing.AUTO_INT8_FIDELITY_DB", 0)
    variants = msgspec.to_builtins(Bundle.open(tiny_bundle).manifest.variants)
    rewrite_manifest(tiny_bundle, variants=[{**one, "loss": None} for one in variants])  # as if INT8 were recommended
    deep, shallow = noisy(dtype="uint16"), noisy()
    with load_variant(Bundle.open(tiny_bundle), "onnx-fp32") as opened:
        expected = opened(deep)
    with caplog.at_level(logging.INFO, "edgedenoise"), load(tiny_bundle) as opened:
        assert opened.variant.name == "onnx-int8-u8s7"
        opened(shallow)
        assert opened.last_variant.name == "onnx-int8-u8s7"
        with ThreadPoolExecutor(4) as threads:
            for found in threads.map(opened, [deep] * 4):
                np.testing.assert_array_equal(found, expected)
        assert opened.last_variant.name == "onnx-fp32"
        image = Image(deep, None, Metadata(), "PNG")
        np.testing.assert_array_equal(opened(image).pixels, expected)
        opened(Image(noisy(dtype="float32"), None, Metadata(), "TIFF"))
        assert opened.last_variant.name == "onnx-fp32"
        opened(shallow)
        assert opened.last_variant.name == "onnx-int8-u8s7"
    assert caplog.text.count("images of more than 8 bits run on onnx-fp32 instead of onnx-int8-u8s7") == 1
    with pytest.raises(InferenceError, match="closed"):
        opened(deep)


def test_a_precision_that_was_asked_for_is_kept_for_16_bits(committed_bundle: Path) -> None:
    with load(committed_bundle, precision="int8") as opened:
        opened(noisy(dtype="uint16"))
        assert opened.last_variant.name == "onnx-int8-u8s7"


def test_16_bits_run_in_int8_where_there_is_no_float(committed_bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "edgedenoise"):
        edgedenoise.denoise(noisy(dtype="uint16"), committed_bundle / "onnx-int8-u8s7" / "model.onnx")
    assert "images of more than 8 bits run on onnx-int8-u8s7" in caplog.text


@pytest.mark.parametrize("command", ["calibrate", "quantize"])
def test_a_manifest_that_hides_the_noise_level_is_refused_before_the_graph_runs(
    level_bundle: Path, tmp_path: Path, command: str
) -> None:
    bundle = shutil.copytree(level_bundle, tmp_path / "b.edge")
    for number in range(2):
        write_image(Image(noisy((64, 64, 3), seed=number)), tmp_path / "noisy" / f"{number}.png")
    if command == "quantize":
        edgedenoise.calibrate(bundle, tmp_path / "noisy", count=2, crop_px=32)
    rewrite_manifest(bundle, noise_level=None)
    arguments = [bundle, tmp_path / "noisy"] if command == "calibrate" else [bundle]
    with pytest.raises(IntegrityError, match=r"the input has 4 channels; expected 3, as for no noise level"):
        getattr(edgedenoise, command)(*arguments)
