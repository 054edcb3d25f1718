"""A network that takes the noise level goes through every step: export, calibrate, quantize, compile, denoise."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import onnx
import pytest
from graphs import branched_graph, level_graph
from images import write_noisy_images, write_pairs

import edgedenoise
from edgedenoise.calibration.calibrate import STRENGTHS, measured_ranges, recorded_set
from edgedenoise.calibration.crops import network_input
from edgedenoise.calibration.drawing import SetOptions
from edgedenoise.calibration.sets import draw_held_out, draw_set
from edgedenoise.errors import ExportError, UsageError
from edgedenoise.exporting.onnx.float_bundle import FloatGraph, selftest_image, write_float_bundle
from edgedenoise.imaging.files import read_image
from edgedenoise.imaging.image import to_unit
from edgedenoise.imaging.normalize import UNIT
from edgedenoise.imaging.tiling import Tiling
from edgedenoise.noise.level import level_plane
from edgedenoise.runtimes.noise_plane import SHIPPED, noise_of
from edgedenoise.runtimes.onnxruntime.reference import open_reference
from edgedenoise.runtimes.pipeline import run_image
from edgedenoise.runtimes.selftest import selftest_pair

if TYPE_CHECKING:
    from pathlib import Path

    from edgedenoise.bundles.bundle import Bundle

TILING = Tiling(halo_px=6, multiple_of=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A calibrated and quantized bundle."""
    folder = tmp_path_factory.mktemp("level")
    noisy = write_noisy_images(folder / "noisy")
    graph = FloatGraph(level_graph(), "level", UNIT, TILING.halo_px, TILING.multiple_of, noise_level=SHIPPED)
    write_float_bundle(folder / "level.edge", graph)
    edgedenoise.calibrate(folder / "level.edge", noisy, count=6, crop_px=48)
    edgedenoise.quantize(folder / "level.edge", data=noisy)
    return edgedenoise.Bundle.open(folder / "level.edge")


def test_a_float_bundle_records_the_noise_level_and_tests_itself_with_a_level_that_varies(made: Bundle) -> None:
    assert made.manifest.noise_level == SHIPPED
    image, answer = selftest_pair(made)
    assert (image.shape, answer.shape) == ((4, 96, 96), (3, 96, 96))
    np.testing.assert_array_equal(image[:3], selftest_image())
    assert image[3].min() < 0.25
    assert image[3].max() == pytest.approx(1, abs=0.02)
    other = np.concatenate([image[:3], np.full_like(image[3:], 0.5)])
    with open_reference(made.variant_file(made.variant("onnx-fp32"))) as session:
        found = run_image(session, other, UNIT, made.manifest.tiling)
    assert np.abs(found - answer).max() > 0.01, "the self-test depends on the level"
    report = edgedenoise.verify(made.source)
    assert report.passed
    assert set(report.linted) == {"onnx-fp32", "onnx-int8-u8s7"}


@pytest.mark.parametrize("variant", ["onnx-fp32", "onnx-int8-u8s7"])
def test_tiles_are_exact_with_a_level_that_varies(made: Bundle, variant: str) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.random((3, 90, 130), np.float32)
    pixels = np.concatenate([pixels, np.linspace(0, 1, 130, dtype=np.float32)[None, None].repeat(90, axis=1)])
    with open_reference(made.variant_file(made.variant(variant))) as session:
        whole = run_image(session, pixels, UNIT, made.manifest.tiling)
        for tile in (32, 50):
            found = run_image(session, pixels, UNIT, made.manifest.tiling, tile=tile)
            assert np.abs(found - whole).max() == 0


def test_a_graph_with_another_number_of_channels_than_the_manifest_says_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="the input has 4 channels; expected 3, as for no noise level"):
        write_float_bundle(tmp_path / "a.edge", FloatGraph(level_graph(), "x", UNIT, 6, 2))
    with pytest.raises(ExportError, match="the input has 3 channels; expected 4, as for a noise level"):
        write_float_bundle(tmp_path / "b.edge", FloatGraph(branched_graph(), "x", UNIT, 4, noise_level=SHIPPED))


def test_crops_are_given_the_level_of_their_whole_image(tmp_path: Path) -> None:
    noisy = write_noisy_images(tmp_path / "noisy")
    options = SetOptions(6, crop_px=32, strengths=STRENGTHS)
    drawn = draw_set(noisy, options, UNIT, TILING, takes_level=True)
    assert sorted({crop.strength for crop in drawn.crops.crops if crop.strength}) == list(STRENGTHS)
    inputs = [x for x, _ in drawn.inputs()]
    for crop, x in zip(drawn.crops.crops, inputs, strict=True):
        unit = to_unit(read_image(noisy / crop.image).pixels)
        assert crop.strength is not None
        sigma = noise_of(unit).sigma * np.float32(crop.strength)
        y, x0 = crop.y // 2 * 2, crop.x // 2 * 2
        assert x.shape == (1, 4, 32 + 2 * TILING.margin_px, 32 + 2 * TILING.margin_px)
        margin = slice(TILING.margin_px, -TILING.margin_px)
        np.testing.assert_array_equal(x[0, 3, margin, margin], level_plane(sigma)[y : y + 32, x0 : x0 + 32])
    again = [x for x, _ in drawn.crops.inputs(noisy, UNIT, TILING, takes_level=True)]
    for one, other in zip(inputs, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_added_noise_is_estimated_on_the_crop_and_its_surroundings(tmp_path: Path) -> None:
    write_pairs(tmp_path / "noisy", tmp_path / "clean", 2, side_px=256)
    options = SetOptions(8, crop_px=32, noise_levels=(0.2, 1.0), strengths=(1.0, 2.0))
    drawn = draw_set(tmp_path / "clean", options, UNIT, TILING, takes_level=True)
    kinds = {(crop.noise_level, crop.strength) for crop in drawn.crops.crops}
    assert kinds == {(0.2, 1.0), (1.0, 1.0), (0.2, 2.0), (1.0, 2.0)}, "every strength with every level"
    found: dict[tuple[float | None, float], list[float]] = {}
    for crop, (x, _) in zip(drawn.crops.crops, drawn.inputs(), strict=True):
        assert x.shape == (1, 4, 32 + 2 * TILING.margin_px, 32 + 2 * TILING.margin_px)
        found.setdefault((crop.noise_level, crop.strength), []).append(float(x[0, 3].mean()))
    assert np.mean(found[1.0, 1.0]) > 2 * np.mean(found[0.2, 1.0])
    assert np.mean(found[0.2, 2.0]) > 1.3 * np.mean(found[0.2, 1.0])
    for x, (y, _) in zip(drawn.clean(), drawn.inputs(), strict=True):
        assert x.shape == (3, *y.shape[2:])
    held_out = draw_held_out(drawn.crops, tmp_path / "noisy", SetOptions(2, crop_px=32), UNIT, TILING, takes_level=True)
    assert all(crop.strength is None for crop in held_out.crops.crops)
    assert next(iter(held_out.inputs()))[0].shape[1] == 4


def test_sets_of_networks_without_a_level_are_written_as_before(tmp_path: Path) -> None:
    noisy = write_noisy_images(tmp_path / "noisy")
    drawn = draw_set(noisy, SetOptions(2, crop_px=32), UNIT, TILING)
    assert b"strength" not in msgspec.json.encode(drawn.crops)
    assert drawn.windows is not None
    window, crop = drawn.windows[0], drawn.crops.crops[0]
    assert network_input(window, crop, 0, 0)[0].shape[1] == 3


def test_the_range_of_the_input_is_known_and_not_measured(made: Bundle) -> None:
    image = measured_ranges(made).tensors["image"]
    assert (image.low, image.high) == (0, 1)
    assert sorted({crop.strength for crop in recorded_set(made).crops if crop.strength}) == list(STRENGTHS)
    graph = onnx.load(made.variant_file(made.variant("onnx-int8-u8s7")))
    assert any(node.op_type == "QuantizeLinear" for node in graph.graph.node)


def test_openvino_runs_four_channels(made: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason='pip install "edgedenoise[openvino]"')
    from edgedenoise.bundles.writer import copy_bundle

    copy_bundle(made, tmp_path / "level.edge")
    compiled = edgedenoise.compile(tmp_path / "level.edge", target="openvino")
    names = [variant.name for variant in compiled.manifest.variants if variant.runtime == "openvino"]
    assert names == ["openvino-fp32", "openvino-int8-u8s7"]
    noisy = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    with edgedenoise.load(compiled.source, runtime="openvino", precision="fp32") as denoiser:
        found = denoiser(noisy)
    expected = edgedenoise.denoise(noisy, compiled.source, runtime="onnxruntime", precision="fp32")
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_core_ml_takes_four_channels_as_an_array(made: Bundle, tmp_path: Path) -> None:
    if find_spec("coremltools") is None:
        pytest.skip('needs coremltools: pip install "edgedenoise[coreml]"')
    from edgedenoise.bundles.writer import copy_bundle
    from edgedenoise.exporting.verify import check_variant
    from edgedenoise.runtimes.job import BuildOptions

    copy_bundle(made, tmp_path / "level.edge")
    tile = BuildOptions(tile=96)
    image = BuildOptions(tile=96, more={"io": "image"})
    with pytest.raises(UsageError, match="takes the noise level as a fourth channel"):
        edgedenoise.compile(tmp_path / "level.edge", target="coreml", precision="fp16", options=image)
    compiled = edgedenoise.compile(tmp_path / "level.edge", target="coreml", precision="fp16", options=tile)
    check = check_variant(compiled, compiled.variant("coreml-fp16"))
    assert check.status == "passed"
    assert check.state in ("emulated", "tested on hardware")


def test_variants_are_compared_with_the_level_of_each_image(made: Bundle, tmp_path: Path) -> None:
    write_pairs(tmp_path / "noisy", tmp_path / "clean", 1, side_px=64)
    report = edgedenoise.compare(made.source, tmp_path / "noisy", tmp_path / "clean", repeats=1)
    assert len(report.rows) == 2
    for row in report.rows:
        assert row.finite
        assert row.quality is not None
