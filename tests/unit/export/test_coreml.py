"""Core ML without a Mac: saved packages are read back and interpreted, operator by operator and network by network."""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from graphs import GraphBuilder
from measuring import measure_ranges

if find_spec("coremltools") is None:  # importing it here would load TensorFlow into every worker
    pytest.skip("needs coremltools: pip install 'edgedenoise[coreml]'", allow_module_level=True)

import edgedenoise
from edgedenoise.bundles.bundle import METADATA_KEY, Bundle
from edgedenoise.bundles.manifest import InputShapes
from edgedenoise.bundles.pretrained import shipped
from edgedenoise.calibration.schemes import scheme_named
from edgedenoise.errors import CalibrationError, ExportError, InferenceError, RuntimeUnavailableError, UsageError
from edgedenoise.exporting.coreml import emulation as coreml_emulation
from edgedenoise.exporting.coreml import program as coreml_program
from edgedenoise.exporting.coreml.builder import _converted, _save
from edgedenoise.exporting.coreml.emulation import EmulatedPackage
from edgedenoise.exporting.onnx.graph import FLOAT_OPERATORS, QDQ_OPERATORS
from edgedenoise.exporting.quantization.qdq import encode
from edgedenoise.imaging.metrics import psnr_unit
from edgedenoise.runtimes.base import SessionOptions
from edgedenoise.runtimes.coreml.backend import coremltools_quietly, package_of
from edgedenoise.runtimes.job import BuildOptions
from edgedenoise.runtimes.opening import open_emulation, open_model, open_variant

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgedenoise.bundles.manifest import Precision

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
SIDE = 32
PAIR_SCALE = 1 / 100
X = np.random.default_rng(3).random((1, 3, SIDE, SIDE), np.float32)


def saved(
    model: onnx.ModelProto, folder: Path, precision: Precision = "fp32", target: str = "iOS17"
) -> EmulatedPackage:
    """Convert a graph, save it as a package, and open that in the interpreter."""
    with coremltools_quietly() as coremltools:
        channels = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
        shapes = InputShapes("fixed", [SIDE])
        converted = _converted(coremltools, model, precision, shapes, target, channels, image=False)
        _save(converted, folder / f"{precision}.mlpackage")
    return EmulatedPackage(folder / f"{precision}.mlpackage")


def expected(model: onnx.ModelProto, x: np.ndarray = X) -> np.ndarray:
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": x})[0])


# ---------------------------------------------------------------- every operator alone


def _conv(b: GraphBuilder) -> None:
    b.conv("image", "denoised", (3, 3, 5))


def _strided_and_dilated(b: GraphBuilder) -> None:
    halved = b.conv("image", "halved", (12, 3, 6), stride=2)
    wide = b.conv(halved, "wide", (12, 12, 3), dilation=3)
    b.node("DepthToSpace", [wide], "denoised", blocksize=2, mode="CRD")


def _without_bias(b: GraphBuilder) -> None:
    weight = b.constant("weight", b.rng.normal(0, 0.3, (3, 3, 3, 3)))
    b.node("Conv", ["image", weight], "denoised", pads=[1, 1, 1, 1])


def _relu(b: GraphBuilder) -> None:
    b.node("Relu", [b.conv("image", "before", (3, 3, 3))], "denoised")


def _add(b: GraphBuilder) -> None:
    b.node("Add", ["image", b.conv("image", "other", (3, 3, 3))], "denoised")


def _sub(b: GraphBuilder) -> None:
    b.node("Sub", [b.conv("image", "other", (3, 3, 3)), "image"], "denoised")


def _mul(b: GraphBuilder) -> None:
    b.node("Mul", ["image", b.conv("image", "other", (3, 3, 3))], "denoised")  # a constant would be folded away


def _concat(b: GraphBuilder) -> None:
    joined = b.node("Concat", ["image", b.conv("image", "other", (5, 3, 3))], "joined", axis=1)
    b.conv(joined, "denoised", (3, 8, 1))


def _clip(b: GraphBuilder) -> None:
    limits = [b.constant("low", np.float32(0.2)), b.constant("high", np.float32(0.7))]
    b.node("Clip", ["image", *limits], "denoised")


def _abs(b: GraphBuilder) -> None:
    b.node("Abs", [b.conv("image", "other", (3, 3, 3))], "denoised")


def _div(b: GraphBuilder) -> None:
    above = b.node("Add", ["image", b.constant("one", np.float32(1))], "above")
    b.node("Div", [b.conv("image", "other", (3, 3, 3)), above], "denoised")


def _average_pool(b: GraphBuilder) -> None:
    halved = b.node("AveragePool", [b.conv("image", "deep", (12, 3, 3))], "halved", kernel_shape=[2, 2], strides=[2, 2])
    b.node("DepthToSpace", [halved], "denoised", blocksize=2, mode="CRD")


def _average_pool_of_a_window(b: GraphBuilder) -> None:
    b.node("AveragePool", ["image"], "denoised", kernel_shape=[5, 3], pads=[2, 1, 2, 1])


def _average_pool_with_zeros(b: GraphBuilder) -> None:
    b.node("AveragePool", ["image"], "denoised", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)


def _max_pool(b: GraphBuilder) -> None:
    halved = b.node("MaxPool", [b.conv("image", "deep", (12, 3, 3))], "halved", kernel_shape=[2, 2], strides=[2, 2])
    b.node("DepthToSpace", [halved], "denoised", blocksize=2, mode="CRD")


def _max_pool_of_a_window(b: GraphBuilder) -> None:
    negative = b.node("Sub", ["image", b.constant("two", np.float32(2))], "negative")
    b.node("MaxPool", [negative], "denoised", kernel_shape=[5, 3], pads=[2, 1, 2, 1])


def _sqrt(b: GraphBuilder) -> None:
    b.node("Sqrt", [b.node("Add", ["image", b.constant("four", np.float32(4))], "positive")], "denoised")


def _reduce_mean(b: GraphBuilder) -> None:
    mean = b.node("ReduceMean", ["image"], "mean", axes=[1])
    b.node("Sub", ["image", mean], "denoised")


def _global_average_pool(b: GraphBuilder) -> None:
    b.node("Sub", ["image", b.node("GlobalAveragePool", ["image"], "mean")], "denoised")


def _slice(b: GraphBuilder) -> None:
    names = [_integer(b, name, value) for name, value in (("start", 1), ("end", 2**63 - 1), ("axis", 1))]
    b.conv(b.node("Slice", ["image", *names, _integer(b, "step", 1)], "cut"), "denoised", (3, 2, 3))


def _integer(b: GraphBuilder, name: str, value: int) -> str:
    b.constants.append(onnx.numpy_helper.from_array(np.array([value], np.int64), name))
    return name


def _depth_to_space_crd(b: GraphBuilder) -> None:
    b.node("DepthToSpace", [b.conv("image", "deep", (12, 3, 4), stride=2)], "denoised", blocksize=2, mode="CRD")


def _depth_to_space_dcr(b: GraphBuilder) -> None:
    b.node("DepthToSpace", [b.conv("image", "deep", (12, 3, 4), stride=2)], "denoised", blocksize=2, mode="DCR")


def _pair(b: GraphBuilder) -> None:
    b.constants.append(onnx.numpy_helper.from_array(np.int8(0), "zero"))
    scale = b.constant("scale", np.float32(PAIR_SCALE))
    b.node("QuantizeLinear", ["image", scale, "zero"], "integers")
    b.node("DequantizeLinear", ["integers", scale, "zero"], "denoised")


def _integer_weights(b: GraphBuilder) -> None:
    b.constants.append(onnx.numpy_helper.from_array(b.rng.integers(-127, 128, (3, 3, 3, 3)).astype(np.int8), "q"))
    b.constants.append(onnx.numpy_helper.from_array(np.zeros(3, np.int8), "zeros"))
    scales = b.constant("scales", np.array([0.001, 0.002, 0.004]))
    b.node("DequantizeLinear", ["q", scales, "zeros"], "weight", axis=0)
    b.node("Conv", ["image", "weight"], "denoised", pads=[1, 1, 1, 1])


ALONE: dict[str, tuple[Callable[[GraphBuilder], None], set[str]]] = {
    "Conv": (_conv, {"conv"}),
    "Conv, strided and dilated": (_strided_and_dilated, {"conv", "pixel_shuffle"}),
    "Conv without bias": (_without_bias, {"conv"}),
    "Relu": (_relu, {"conv", "relu"}),
    "Add": (_add, {"conv", "add"}),
    "Sub": (_sub, {"conv", "sub"}),
    "Mul": (_mul, {"conv", "mul"}),
    "Div": (_div, {"conv", "real_div"}),
    "Abs": (_abs, {"conv", "abs"}),
    "AveragePool": (_average_pool, {"conv", "avg_pool", "pixel_shuffle"}),
    "AveragePool of a window": (_average_pool_of_a_window, {"avg_pool"}),
    "AveragePool with zeros": (_average_pool_with_zeros, {"avg_pool"}),
    "MaxPool": (_max_pool, {"conv", "max_pool", "pixel_shuffle"}),
    "MaxPool of a window": (_max_pool_of_a_window, {"sub", "max_pool"}),
    "Sqrt": (_sqrt, {"add", "sqrt"}),
    "ReduceMean": (_reduce_mean, {"reduce_mean", "sub"}),
    "GlobalAveragePool": (_global_average_pool, {"reduce_mean", "sub"}),
    "Slice": (_slice, {"conv", "slice_by_index"}),
    "Concat": (_concat, {"conv", "concat"}),
    "Clip": (_clip, {"clip"}),
    "DepthToSpace": (_depth_to_space_crd, {"conv", "pixel_shuffle"}),
    "DepthToSpace, depth first": (_depth_to_space_dcr, {"conv", "depth_to_space"}),
    "QuantizeLinear": (_pair, {"quantize", "dequantize"}),
    "DequantizeLinear": (_integer_weights, {"conv", "constexpr_affine_dequantize"}),
}


@pytest.mark.parametrize(("make", "emitted"), ALONE.values(), ids=ALONE)
def test_an_operator_computes_what_onnx_says(
    make: Callable[[GraphBuilder], None], emitted: set[str], tmp_path: Path
) -> None:
    b = GraphBuilder()
    make(b)
    model = b.model()
    exact = expected(model)
    single = saved(model, tmp_path)
    assert {op.op_type for op in single._operations} >= emitted
    found = single.run(X)
    assert found.dtype == np.float32
    assert np.abs(found - exact).max() <= 1e-5 * max(1, np.abs(exact).max())
    half = saved(model, tmp_path, "fp16").run(X)
    step = PAIR_SCALE if "quantize" in emitted else 0  # what lies between two integers may fall to the other one
    assert 0 < np.abs(half - exact).max() <= step + 4e-3 * max(1, np.abs(exact).max()), "rounded to float16, no more"


def test_every_operator_of_the_graph_contract_is_translated_and_tested() -> None:
    assert set(coreml_program.OPERATORS) == FLOAT_OPERATORS | QDQ_OPERATORS
    assert {name.partition(",")[0].partition(" ")[0] for name in ALONE} == set(coreml_program.OPERATORS)
    emitted = set().union(*(emitted for _, emitted in ALONE.values()))
    assert emitted | {"cast", "constexpr_blockwise_shift_scale"} == set(coreml_emulation.OPERATORS)


def test_the_guard_is_the_same_in_the_program_and_within_one_8_bit_level_in_float16(tmp_path: Path) -> None:
    """The program is emulated; 8-bit layers beside the guard are those of the graph."""
    pytest.importorskip("torch", reason="needs torch: pip install 'edgedenoise[export]'")
    from guarded_network import guarded_graph

    model = guarded_graph()
    x = np.concatenate([X, np.linspace(0, 1, SIDE, dtype=np.float32) * np.ones((1, 1, SIDE, 1), np.float32)], axis=1)
    exact = expected(model, x)
    assert np.abs(exact - X).max() > 0.01
    assert np.abs(saved(model, tmp_path).run(x) - exact).max() < 1e-5
    assert 0 < np.abs(saved(model, tmp_path, "fp16").run(x) - exact).max() < 1 / 255
    encoded = encode(model, measure_ranges(model, [x], margin_px=0), scheme_named("coreml"))
    assert np.abs(saved(encoded, tmp_path, "int8").run(x) - expected(encoded, x)).max() < 2 / 255


def test_weights_in_8_bits_are_the_same_numbers_in_the_operator_of_every_system(tmp_path: Path) -> None:
    b = GraphBuilder()
    b.conv("image", "denoised", (3, 3, 5))
    model = b.model()
    old, new = (saved(model, tmp_path / target, "w8a16", target) for target in ("iOS16", "iOS18"))
    assert "constexpr_affine_dequantize" in {op.op_type for op in old._operations}
    assert "constexpr_blockwise_shift_scale" in {op.op_type for op in new._operations}
    np.testing.assert_array_equal(new.run(X), old.run(X))
    lost = np.abs(old.run(X) - expected(model)).max()
    assert 1e-3 < lost < 0.05, "rounded to 8 bits, and no more"


def test_what_is_not_translated_or_interpreted_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    b = GraphBuilder()
    b.node("Sigmoid", ["image"], "denoised")
    with pytest.raises(ExportError, match=r"the operator Sigmoid \(denoised\) is not translated to Core ML"):
        saved(b.model(), tmp_path)
    b = GraphBuilder()
    _relu(b)
    monkeypatch.delitem(coreml_emulation.OPERATORS, "relu")
    with pytest.raises(InferenceError, match="not interpreted: relu"):
        saved(b.model(), tmp_path)


def test_a_scale_that_float16_cannot_hold_is_refused(tmp_path: Path) -> None:
    b = GraphBuilder()
    _pair(b)
    model = b.model()
    tensor = next(t for t in model.graph.initializer if t.name == "scale")
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.float32(1e-5), "scale"))
    with pytest.raises(ExportError, match="the scale of image is 1e-05"):
        saved(model, tmp_path, "int8")


# ---------------------------------------------------------------- whole networks


@pytest.fixture(scope="module", params=["edge-tiny", "edge", "C-BSN"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with everything that can be built for Core ML."""
    source = FIXTURES / "tiny.edge" if request.param == "C-BSN" else shipped(request.param)
    root = Path(shutil.copytree(source, tmp_path_factory.mktemp("coreml") / "net.edge"))
    edgedenoise.quantize(root, scheme="coreml")
    for precision in ("fp32", "fp16", "w8a16", "int8"):
        edgedenoise.compile(root, target="coreml", precision=precision, options=BuildOptions(tile=128))
    return Bundle.open(root)


def test_every_precision_keeps_its_numbers(built: Bundle) -> None:
    checks = {c.variant: c for c in edgedenoise.verify(built.root).variants}
    for name in ("coreml-fp32", "coreml-fp16", "coreml-w8a16", "coreml-int8"):
        assert (checks[name].status, checks[name].state) == ("passed", "emulated")
    assert checks["coreml-fp32"].psnr_db > 110
    assert checks["coreml-fp16"].psnr_db > 60
    # W8A8 loses to float what the oracle loses, within 1 dB.
    assert abs(checks["coreml-int8"].psnr_db - checks["onnx-int8-coreml"].psnr_db) < 1
    assert checks["coreml-int8"].divergence is None


def test_float32_is_the_float_graph_to_a_hundred_thousandth(built: Bundle) -> None:
    x = np.random.default_rng(0).random((1, 3, 128, 128), np.float32)
    variant = built.variant("coreml-fp32")
    found = coreml_emulation.emulate(built, variant).run(x)
    with open_variant(
        built, built.variant("onnx-fp32"), options=SessionOptions(fused=False), selftest=False
    ) as session:
        np.testing.assert_allclose(found, session.run(x), atol=1e-5)


def test_a_package_carries_its_own_description(built: Bundle) -> None:
    variant = built.variant("coreml-int8")
    path = built.variant_file(variant)
    lone = open_model(package_of(path))
    assert lone.is_lone_file
    assert lone.manifest.tiling == built.manifest.tiling
    assert [v.shapes for v in lone.manifest.variants] == [InputShapes("fixed", [128])]
    assert package_of(lone.variant_file(lone.manifest.variants[0])) == package_of(path)
    with coremltools_quietly() as coremltools:
        spec = coremltools.models.utils.load_spec(str(package_of(path)))
    assert spec.specificationVersion == coremltools.target.iOS17.value
    assert "Deployment target iOS17: 8-bit activations came with iOS 17" in spec.description.metadata.shortDescription
    assert [f.name for f in spec.description.input] == ["image"]
    assert [f.name for f in spec.description.output] == ["denoised"]
    assert "context on each side" in spec.description.input[0].shortDescription
    assert METADATA_KEY in spec.description.metadata.userDefined
    dates = [key for key in spec.description.metadata.userDefined if "date" in key]
    assert not dates, "the same bundle would give other bytes on another day"


def test_without_coremltools_verify_still_tells_everything_else(built: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coremltools", None)
    checks = {c.variant: c for c in edgedenoise.verify(built.root).variants}
    assert checks["onnx-fp32"].state == "tested on hardware"
    missing = checks["coreml-fp16"]
    assert (missing.status, missing.state) == ("not run", "not tested")
    assert "it cannot be emulated either: Core ML needs the package coremltools" in missing.reason
    assert 'pip install "edgedenoise[coreml]"' in missing.reason
    root = built.root.parent / "other.edge"
    shutil.copytree(built.root, root, dirs_exist_ok=True)
    with pytest.raises(RuntimeUnavailableError, match="Core ML needs the package coremltools"):
        edgedenoise.compile(root, target="coreml", precision="fp16", options=BuildOptions(tile=128))


def test_reading_a_package_changes_no_file_of_the_bundle(built: Bundle) -> None:
    """coremltools writes a package's manifest whenever it opens one; afterwards the bundle must still be sound."""
    edgedenoise.verify(built.root)
    package = built.root / "coreml-fp32" / "model.mlpackage"
    before = {path: path.stat().st_mtime_ns for path in package.rglob("*")}
    open_emulation(built, built.variant("coreml-fp32"))
    open_model(package)
    assert {path: path.stat().st_mtime_ns for path in package.rglob("*")} == before
    with coremltools_quietly() as coremltools:  # as on a Mac, where coremltools itself opens it
        coremltools.models.utils.load_spec(str(package))
    built.check()


def test_the_same_bundle_gives_the_same_bytes(built: Bundle, tmp_path: Path) -> None:
    root = Path(shutil.copytree(built.root, tmp_path / "again.edge"))
    again = edgedenoise.compile(root, target="coreml", precision="int8", options=BuildOptions(tile=128))
    name = "coreml-int8/"
    assert {k: v for k, v in again.manifest.files.items() if k.startswith(name)} == {
        k: v for k, v in built.manifest.files.items() if k.startswith(name)
    }


def test_a_dead_channel_is_no_trouble(make_bundle: Callable[..., Bundle], noisy_folder: Path) -> None:
    b = GraphBuilder()
    dead = b.conv("image", "head", (4, 3, 3))
    b.conv(b.relu(dead), "denoised", (3, 4, 3))
    model = b.model()
    for name in ("head.weight", "head.bias"):
        tensor = next(t for t in model.graph.initializer if t.name == name)
        values = onnx.numpy_helper.to_array(tensor).copy()
        values[1] = 0
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, name))
    bundle = edgedenoise.calibrate(make_bundle(model).root, noisy_folder, count=4, crop_px=48)
    edgedenoise.quantize(bundle.root, scheme="coreml")
    edgedenoise.compile(bundle.root, target="coreml", precision="int8", options=BuildOptions(tile=128))
    check = next(c for c in edgedenoise.verify(bundle.root).variants if c.variant == "coreml-int8")
    assert check.status == "passed"


# ---------------------------------------------------------------- shapes, images, options


@pytest.fixture
def tiny_student(tmp_path: Path) -> Path:
    return Path(shutil.copytree(shipped("edge-tiny"), tmp_path / "edge-tiny.edge"))


def input_type(root: Path, name: str) -> Any:
    bundle = Bundle.open(root)
    with coremltools_quietly() as coremltools:
        package = package_of(bundle.variant_file(bundle.variant(name)))
        return coremltools.models.utils.load_spec(str(package)).description.input[0].type


def test_shapes_are_in_the_package(tiny_student: Path) -> None:
    def shapes(options: BuildOptions) -> Any:
        edgedenoise.compile(tiny_student, target="coreml", precision="fp16", options=options)
        return input_type(tiny_student, "coreml-fp16").multiArrayType

    assert list(shapes(BuildOptions(tile=128)).shape) == [1, 3, 128, 128]
    enumerated = shapes(BuildOptions(tiles=(128, 256))).enumeratedShapes.shapes
    assert sorted(list(one.shape) for one in enumerated) == [[1, 3, 128, 128], [1, 3, 256, 256]]
    ranged = shapes(BuildOptions(tile_range=(128, 256, 512))).shapeRange.sizeRanges
    assert [(one.lowerBound, one.upperBound) for one in ranged][2:] == [(128, 512), (128, 512)]


def test_images_in_and_out_compute_the_same(tiny_student: Path) -> None:
    options = BuildOptions(tile=128, more={"io": "image"})
    bundle = edgedenoise.compile(tiny_student, target="coreml", precision="fp16", options=options)
    edgedenoise.compile(tiny_student, target="coreml", precision="fp16", options=BuildOptions(tile=128))
    kind = input_type(tiny_student, "coreml-fp16-image")
    assert (kind.imageType.width, kind.imageType.height) == (128, 128)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 128, 128)).astype(np.float32) / 255
    bundle = Bundle.open(tiny_student)
    images, arrays = (
        coreml_emulation.emulate(bundle, bundle.variant(name)).run(pixels)
        for name in ("coreml-fp16-image", "coreml-fp16")
    )
    assert np.abs(images - arrays).max() <= 0.5 / 255 + 1e-3  # the answer is rounded to 8 bits, and nothing else
    assert psnr_unit(images, arrays) > 55


REFUSED: dict[str, tuple[Precision, dict[str, str], str]] = {
    "too old a system": ("int8", {"deployment_target": "iOS16"}, "int8 needs iOS17 or later, got iOS16"),
    "images in float32": ("fp32", {"io": "image"}, "image inputs and outputs have 8 bits"),
    "an unknown option": ("fp16", {"units": "ane"}, r"expected io \(tensor \| image; default tensor\)"),
}


@pytest.mark.parametrize(("precision", "more", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_told(tiny_student: Path, precision: Precision, more: dict[str, str], words: str) -> None:
    edgedenoise.quantize(tiny_student, scheme="coreml")
    with pytest.raises(UsageError, match=words):
        edgedenoise.compile(
            tiny_student, target="coreml", precision=precision, options=BuildOptions(tile=128, more=more)
        )
    assert not [v for v in Bundle.open(tiny_student).manifest.variants if v.runtime == "coreml"]


def test_images_are_refused_where_statistics_of_the_photograph_are_needed(tmp_path: Path) -> None:
    root = Path(shutil.copytree(FIXTURES / "tiny.edge", tmp_path / "tiny.edge"))
    with pytest.raises(UsageError, match="normalized by the statistics of the whole image"):
        edgedenoise.compile(
            root, target="coreml", precision="fp16", options=BuildOptions(tile=128, more={"io": "image"})
        )


def test_float16_needs_ranges(make_bundle: Callable[..., Bundle]) -> None:
    b = GraphBuilder()
    b.conv("image", "denoised", (3, 3, 3))
    bundle = make_bundle(b.model())
    with pytest.raises(CalibrationError, match="has not been calibrated"):
        edgedenoise.compile(bundle.root, target="coreml", precision="fp16", options=BuildOptions(tile=128))
