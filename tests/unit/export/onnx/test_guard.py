"""The guard in exported graphs: no weights of its own, exact under tiling, in float16 and beside 8-bit layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgedenoise[export]'")

from guard_reference import guarded
from guarded_network import CONVOLUTIONS, HALO_PX, SPEC, WIDTH, guarded_graph, level_network
from measuring import measure_ranges

import edgedenoise
from edgedenoise.calibration.schemes import SCHEMES, Scheme
from edgedenoise.exporting.fp16 import to_fp16
from edgedenoise.exporting.onnx.graph import lint, macs_per_px, parameter_count, peak_bytes_per_px
from edgedenoise.exporting.onnx.receptive_field import ReceptiveField, receptive_field
from edgedenoise.exporting.onnx.to_onnx import trained_ranges
from edgedenoise.exporting.onnx.tracing import deployed, trace
from edgedenoise.exporting.quantization.contracts import broken_rules
from edgedenoise.exporting.quantization.qdq import encode
from edgedenoise.imaging.tiling import WHOLE, Tiling, plan_tiles, run_tiled
from edgedenoise.runtimes.openvino.core import shared_core
from edgedenoise.training.config.config import SupervisedConfig
from edgedenoise.training.networks.fake_quant import Rounding, fake_quantized
from edgedenoise.training.networks.guard import GuardParameters, guarded_halo_px
from edgedenoise.training.networks.students import fold

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Array = NDArray[np.float32]

TILING = Tiling(guarded_halo_px(HALO_PX), multiple_of=2)
GUARD = {"Slice", "AveragePool", "ReduceMean", "Sub", "Abs", "Mul", "Add", "Relu", "Div", "DepthToSpace", "Clip"}


def test_verify_finds_the_halo_of_guarded_and_plain_networks_in_their_graphs(model: onnx.ModelProto) -> None:
    assert receptive_field(model) == ReceptiveField(guarded_halo_px(HALO_PX), 2)
    plain = trace(deployed(level_network(), SPEC, guard=False), 4).model
    assert receptive_field(plain) == ReceptiveField(HALO_PX, 2)


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return guarded_graph()


def picture(height: int, width: int, seed: int = 0) -> Array:
    """Smooth and noisy pixels, and a level from 0 to 1, (4, height, width)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / np.array([height, width]).reshape(2, 1, 1)
    planes = np.stack([0.2 + 0.6 * x, 0.9 - 0.7 * y, 0.5 + 0 * x]) + 0.06 * x * rng.standard_normal((3, height, width))
    level = np.linspace(0, 1, width) * np.ones((height, 1))
    return np.concatenate([np.clip(planes, 0, 1), level[None]]).astype(np.float32)


def session(model: onnx.ModelProto, *, fused: bool = True) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if not fused:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def answer(runs: onnxruntime.InferenceSession, image: Array, tile: int = WHOLE) -> Array:
    def stream(tiles: Iterable[Array]) -> Iterator[Array]:
        return (runs.run(None, {"image": one})[0] for one in tiles)

    return run_tiled(image, plan_tiles(*image.shape[1:], TILING, tile), stream)[:3]


def test_the_graph_keeps_the_contract_and_the_guard_has_no_weights(model: onnx.ModelProto) -> None:
    assert lint(model) == []
    assert {node.op_type for node in model.graph.node} == GUARD | {"Conv"}
    trained = sum(parameter.numel() for parameter in fold(level_network()).parameters())
    assert parameter_count(model) == trained
    assert macs_per_px(model) == (36 * 4 * WIDTH + CONVOLUTIONS * 9 * WIDTH**2 + 9 * WIDTH * 12) // 4
    assert peak_bytes_per_px(model) < 400


@pytest.mark.parametrize("fused", [True, False])
def test_tiles_give_the_pixels_of_the_whole_image(model: onnx.ModelProto, fused: bool) -> None:
    runs, rng = session(model, fused=fused), np.random.default_rng(1)
    for number, (height, width) in enumerate([(1, 1), (1, 70), (33, 2), *rng.integers(20, 150, (4, 2))]):
        image = picture(int(height), int(width), number)
        whole = answer(runs, image)
        assert whole.shape == (3, height, width)
        for tile in (2, *rng.integers(8, 90, 2)) if height * width < 500 else rng.integers(16, 90, 3):
            assert np.abs(answer(runs, image, int(tile)) - whole).max() == 0
    short = Tiling(TILING.halo_px - 3, 2)  # the radius is that of the far pixel in a cell, and tiles begin with cells
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(f"{__name__}.TILING", short)
        assert np.abs(answer(runs, image, 32) - whole).max() > 0, "the halo is as small as it can be"


def test_the_graph_computes_the_formula_up_to_the_border_of_an_image(model: onnx.ModelProto) -> None:
    image, margin = picture(40, 52), TILING.margin_px
    padded = np.pad(image, ((0, 0), (margin, margin), (margin, margin)), mode="reflect")
    plain = level_network()
    with torch.no_grad():
        residual = torch.nn.functional.pixel_shuffle(plain.residual(torch.from_numpy(padded[None])), 2)[0].numpy()
    expected = guarded(padded, residual, GuardParameters())[:, margin:-margin, margin:-margin]
    assert np.abs(expected - image[:3]).max() > 0.02
    assert np.abs(answer(session(model), image) - expected).max() < 1e-5


def test_a_level_of_0_returns_the_image(model: onnx.ModelProto) -> None:
    image = np.round(picture(30, 30) * 255) / np.float32(255)
    image[3] = 0
    for one in (model, to_fp16(model)):
        found = np.floor(answer(session(one), image) * 255 + 0.5)
        np.testing.assert_array_equal(found, np.floor(image[:3] * 255 + 0.5))


@pytest.mark.parametrize("strength", [1.0, 0.02])
def test_float16_is_within_one_8_bit_level_of_float32(model: onnx.ModelProto, strength: float) -> None:
    """Also where residual and level are small, whose squares float16 does not hold."""
    weak = onnx.ModelProto()
    weak.CopyFrom(model)
    tail = next(tensor for tensor in weak.graph.initializer if tensor.name == "network.tail.weight")
    tail.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tail) * np.float32(strength), tail.name))
    image = picture(64, 96)
    image[3] *= strength
    exact, half = (answer(session(one), image) for one in (weak, to_fp16(weak)))
    assert 0 < np.abs(half - exact).max() < 1 / 255


@pytest.mark.parametrize("scheme", SCHEMES, ids=[scheme.name for scheme in SCHEMES])
def test_the_guard_stays_in_float_beside_8_bit_layers(model: onnx.ModelProto, scheme: Scheme) -> None:
    crops = [picture(48, 64, seed)[None] for seed in range(2)]
    encoded = encode(model, measure_ranges(model, crops, margin_px=0), scheme)
    assert lint(encoded, quantized=True) == []
    assert broken_rules(encoded, scheme) == []
    rounded = {node.output[0] for node in encoded.graph.node if node.op_type == "DequantizeLinear"}
    readers = {node.op_type for node in encoded.graph.node if rounded & set(node.input)}
    assert readers == {"Conv"}
    image = picture(60, 90, 3)
    runs = session(encoded, fused=scheme.name in ("u8s7",))
    found, exact = answer(runs, image), answer(session(model), image)
    assert 0 < np.abs(found - exact).max() < 4 / 255
    still = picture(60, 90, 3)
    still[3] = 0
    np.testing.assert_array_equal(answer(runs, still), still[:3])
    assert np.abs(answer(runs, image, 34) - found).max() == 0


def test_an_8_bit_image_in_the_last_sum_is_found_behind_the_slice(model: onnx.ModelProto) -> None:
    encoded = encode(model, measure_ranges(model, [picture(48, 64)[None]], margin_px=0), SCHEMES[0])
    colours = next(node for node in encoded.graph.node if node.op_type == "Slice" and node.input[0] == "image")
    colours.input[0] = "image.dequantized"
    assert [broken.rule for broken in broken_rules(encoded, SCHEMES[0])] == ["image-skip-float"]


def test_openvino_computes_the_same_in_float_and_within_two_8_bit_levels_in_int8(model: onnx.ModelProto) -> None:
    pytest.importorskip("openvino", reason="needs openvino: pip install 'edgedenoise[openvino]'")
    encoded = encode(model, measure_ranges(model, [picture(48, 64)[None]], margin_px=0), SCHEMES[0])
    image = picture(64, 80)[None]
    for one, limit in ((model, 1e-5), (encoded, 2 / 255)):
        compiled = shared_core().compile_model(
            shared_core().read_model(one.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
        )
        reference = session(one, fused=False).run(None, {"image": image})[0]
        assert np.abs(compiled(image)[0] - reference).max() < limit


def test_the_ranges_of_a_training_in_8_bits_are_found_beside_the_guard() -> None:
    network = fake_quantized(level_network(), SCHEMES[0])
    with torch.no_grad():
        for number, module in enumerate(one for one in network.modules() if isinstance(one, Rounding)):
            module.give_range(0.0, 1.0 + number)
    traced = trace(deployed(network, SPEC), 4)
    ranges = trained_ranges(network, traced)
    inputs = [node.input[0] for node in traced.model.graph.node if node.op_type == "Conv"]
    assert list(ranges) == inputs
    assert inputs[0] == "image"
    assert [one.high for one in ranges.values()] == [1.0 + number for number in range(len(inputs))]


def test_a_bundle_has_the_guard_unless_it_is_left_out(tmp_path: Path) -> None:
    from edgedenoise.imaging.files import write_image
    from edgedenoise.imaging.image import Image

    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    write_image(Image(pixels), tmp_path / "clean" / "0.png")
    config = SupervisedConfig(
        network="edge-level", clean=str(tmp_path / "clean"), out=str(tmp_path / "run"), steps=1, batch=1, patch=32
    )
    run = edgedenoise.train(config).run
    guarded_bundle = edgedenoise.export(run, tmp_path / "guarded.edge")
    plain_bundle = edgedenoise.export(run, tmp_path / "plain.edge", guard=False)
    for bundle, operators, halo_px in ((guarded_bundle, GUARD, 25), (plain_bundle, {"Relu", "Slice", "Add"}, 21)):
        graph = onnx.load(bundle.variant_file(bundle.variant("onnx-fp32")))
        assert {node.op_type for node in graph.graph.node} >= operators
        assert ("Div" in {node.op_type for node in graph.graph.node}) == (bundle is guarded_bundle)
        assert (bundle.manifest.tiling.halo_px, bundle.manifest.tiling.multiple_of) == (halo_px, 2)
        assert bundle.manifest.network.macs_per_px == SPEC.macs_per_px
        assert bundle.manifest.noise_level is not None
        assert bundle.manifest.parity is not None
