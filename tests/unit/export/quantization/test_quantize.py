"""INT8: the encoding is exact where it can be, and fused integer kernels agree with exact arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
from cpus import AVX2, VNNI, pretend
from graphs import branched_graph, shuffling_graph
from measuring import measure_ranges

import edgedenoise
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.model_files import ModelFiles
from edgedenoise.bundles.writer import BundleWriter
from edgedenoise.calibration.calibrate import HISTOGRAMS_FILE, RANGES_FILE, TRAINED_RANGES_FILE
from edgedenoise.calibration.schemes import (
    DEVICE_CLASSES,
    SCHEMES,
    Scheme,
    class_of_this_cpu,
    encode_range,
    encode_weight,
    scheme_named,
    schemes_for,
)
from edgedenoise.denoiser import load, load_variant
from edgedenoise.errors import CalibrationError, IncompatibleError, QuantizationError, UsageError
from edgedenoise.exporting.onnx.graph import lint
from edgedenoise.exporting.quantization.contracts import broken_rules, lint_encoded
from edgedenoise.exporting.quantization.correction import LEAST_GAIN_DB, mean_shifts, refine
from edgedenoise.exporting.quantization.qdq import encode, quantized_layers
from edgedenoise.imaging.normalize import WHOLE_IMAGE
from edgedenoise.runtimes.base import SessionOptions
from edgedenoise.runtimes.choosing import choose
from edgedenoise.runtimes.onnxruntime.backend import OnnxRuntime
from edgedenoise.runtimes.pipeline import run_image
from edgedenoise.runtimes.registry import registry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgedenoise.calibration.schemes import WeightClip
    from edgedenoise.exporting.quantization.correction import Shifts

EACH_SCHEME = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.name)


def _ranges(model: onnx.ModelProto, seed: int = 0) -> object:
    rng = np.random.default_rng(seed)
    crops = [rng.standard_normal((1, 3, 64, 64), np.float32) for _ in range(3)]
    return measure_ranges(model, crops, margin_px=8)


def _run(model: onnx.ModelProto, x: np.ndarray, *, fused: bool = True) -> np.ndarray:
    settings = onnxruntime.SessionOptions()
    if not fused:
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), settings).run(None, {"image": x})[0]


@EACH_SCHEME
@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (0.0, 5.0), (-4.0, -1.0), (2.0, 6.0), (0.0, 0.0)])
def test_zero_is_exact_and_both_ends_are_within_half_a_step(scheme: Scheme, low: float, high: float) -> None:
    scale, zero = encode_range(low, high, scheme)
    assert scale > 0
    limits = np.iinfo(zero.dtype)
    for value in (low, high, 0.0):
        q = np.clip(np.rint(value / scale) + int(zero), limits.min, limits.max)
        error = abs((q - int(zero)) * scale - value)
        assert error <= (scale / 2 + 1e-6 if value else 0)


@EACH_SCHEME
def test_weights_are_symmetric_per_channel_and_dead_channels_stay_zero(scheme: Scheme) -> None:
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    weight[1] *= 100
    weight[2] = 0
    q, scale = encode_weight(weight, scheme)
    limit = 2 ** (scheme.weight_bits - 1) - 1
    assert q.dtype == np.int8
    assert np.abs(q).reshape(4, -1).max(axis=1).tolist() == [limit, limit, 0, limit]
    assert np.all(scale > 0)
    restored = q * scale.reshape(-1, 1, 1, 1)
    assert np.all(np.abs(restored - weight) <= scale.reshape(-1, 1, 1, 1) / 2 * 1.0001)


def test_an_unknown_scheme_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="u8s7, u8s8, s8s8, coreml"):
        scheme_named("u4s4")


def test_clipping_never_adds_to_the_squared_error_and_leaves_even_channels_alone() -> None:
    rng = np.random.default_rng(0)
    scheme = scheme_named("u8s7")
    weight = rng.laplace(size=(5, 256, 3, 3)).astype(np.float32)  # a few large weights, very many small ones
    weight[1] = 0
    weight[2] = rng.choice([-0.5, 0.5], (256, 3, 3))  # on the plain grid already

    def errors(clip: WeightClip) -> np.ndarray:
        q, scale = encode_weight(weight, scheme, clip=clip)
        assert np.abs(q).max() <= 63
        return np.square(q * scale.reshape(-1, 1, 1, 1) - weight).sum(axis=(1, 2, 3))

    plain, clipped = errors("none"), errors("mse")
    assert np.all(clipped <= plain)
    assert np.sum(clipped < 0.98 * plain) >= 2
    assert clipped[1] == clipped[2] == 0
    with pytest.raises(UsageError, match="expected one of none, mse"):
        encode_weight(weight, scheme, clip="most")  # type: ignore[arg-type]


@EACH_SCHEME
@pytest.mark.parametrize("graph", [branched_graph, shuffling_graph])
def test_the_quantized_graph_obeys_the_contract(scheme: Scheme, graph: Callable[[], onnx.ModelProto]) -> None:
    model = graph()
    quantized = encode(model, _ranges(model), scheme)
    onnx.checker.check_model(quantized, full_check=True)
    assert lint(quantized, quantized=True) == []


def test_placement_is_as_promised() -> None:
    """Pairs before each Conv, Add and Concat; none between Conv and Relu; none on the output; biases are float."""
    model = branched_graph()
    quantized = encode(model, _ranges(model), scheme_named("u8s7"))
    producer = {node.output[0]: node for node in quantized.graph.node}
    constants = {tensor.name: tensor for tensor in quantized.graph.initializer}
    for node in quantized.graph.node:
        if node.op_type in ("Conv", "Add", "Concat"):
            data = node.input[:2] if node.op_type == "Conv" else node.input
            assert [producer[name].op_type for name in data] == ["DequantizeLinear"] * len(data)
        if node.op_type == "Conv":
            assert constants[node.input[2]].data_type == onnx.TensorProto.FLOAT
        if node.op_type == "Relu":
            assert producer[node.input[0]].op_type == "Conv"
    assert producer["denoised"].op_type == "Conv"
    assert not {"left.weight", "head.weight"} & set(constants)  # the float weights are gone


def test_for_tensorrt_biases_are_as_trained_weights_are_floats_on_their_grid_and_only_skips_of_sums_are_rounded() -> (
    None
):
    model = branched_graph()
    quantized = encode(model, _ranges(model), scheme_named("s8s8"))
    producer = {node.output[0]: node for node in quantized.graph.node}
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in quantized.graph.initializer}
    trained = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    convolutions = [node for node in quantized.graph.node if node.op_type == "Conv"]
    assert convolutions
    for node in convolutions:
        assert producer[node.input[0]].op_type == "DequantizeLinear"
        np.testing.assert_array_equal(constants[node.input[2]], trained[node.input[2]])
        dequantize = producer[node.input[1]]
        quantize = producer[dequantize.input[0]]
        weight, scale = constants[quantize.input[0]], constants[quantize.input[1]].reshape(-1, 1, 1, 1)
        assert weight.dtype == np.float32
        q, _ = encode_weight(trained[quantize.input[0]], scheme_named("s8s8"))
        np.testing.assert_array_equal(np.rint(weight / scale), q)
    skip, branch = _added(quantized, "summed")
    assert (producer[skip].op_type, branch) == ("DequantizeLinear", "inner.relu")
    assert producer[skip].input[0] == "left.relu.quantized"
    assert set(_made(quantized, "joined").input) == {"summed", "right.relu"}


def _made(model: onnx.ModelProto, output: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.output[0] == output)


def _added(model: onnx.ModelProto, output: str) -> tuple[str, str]:
    """The inputs of a sum, the rounded one first."""
    one, other = _made(model, output).input
    return (one, other) if one.endswith(".dequantized") else (other, one)


def test_which_input_is_the_skip_does_not_depend_on_how_the_sum_is_written() -> None:
    model = branched_graph()
    _made(model, "summed").input[:] = ["inner.relu", "left.relu"]
    assert _added(encode(model, _ranges(model), scheme_named("s8s8")), "summed") == (
        "left.relu.dequantized",
        "inner.relu",
    )


def test_for_core_ml_both_inputs_of_sums_and_joins_are_rounded_and_weights_are_integers() -> None:
    model = branched_graph()
    quantized = encode(model, _ranges(model), scheme_named("coreml"))
    for output in ("summed", "joined"):
        assert all(name.endswith(".dequantized") for name in _made(quantized, output).input)
    kinds = {t.data_type for t in quantized.graph.initializer if t.name.endswith((".quantized", ".zero_point"))}
    assert kinds == {onnx.TensorProto.INT8}


@EACH_SCHEME
def test_the_layers_that_a_scheme_quantizes_are_those_that_can_be_kept_float(scheme: Scheme) -> None:
    model = branched_graph()
    names = [node.output[0] for node in quantized_layers(model, scheme)]
    assert ("joined" in names) == (scheme.joins == "inputs")
    assert {"head", "summed", "denoised"} <= set(names)
    untouched = encode(model, _ranges(model), scheme, names)
    assert [node.op_type for node in untouched.graph.node] == [node.op_type for node in model.graph.node]


@EACH_SCHEME
def test_each_scheme_is_close_to_float(scheme: Scheme) -> None:
    model = branched_graph()
    quantized = encode(model, _ranges(model), scheme)
    x = np.random.default_rng(1).standard_normal((1, 3, 64, 64), np.float32)
    exact, wanted = _run(quantized, x, fused=False), _run(model, x)
    assert 0 < np.abs(exact - wanted).mean() < 0.02 * np.abs(wanted).max()


def test_a_layer_that_is_kept_float_reads_and_computes_in_float_and_the_others_do_not() -> None:
    model = branched_graph()
    name = next(node.output[0] for node in model.graph.node if node.op_type == "Conv")
    quantized = encode(model, _ranges(model), scheme_named("u8s7"), excluded_layers={name})
    producer = {node.output[0]: node for node in quantized.graph.node}
    constants = {tensor.name for tensor in quantized.graph.initializer}
    original = next(node for node in model.graph.node if node.output[0] == name)
    assert list(producer[name].input) == list(original.input)
    assert set(original.input[1:]) <= constants
    others = [n for n in quantized.graph.node if n.op_type == "Conv" and n.output[0] != name]
    assert others
    assert {producer[n.input[1]].op_type for n in others} == {"DequantizeLinear"}


def test_concatenation_is_exact_because_its_inputs_share_one_range() -> None:
    model = branched_graph()
    quantized = encode(model, _ranges(model), scheme_named("u8s7"))
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in quantized.graph.initializer}
    scales = {float(constants[f"{name}.scale"]) for name in ("summed", "right.relu", "joined")}
    assert len(scales) == 1


@pytest.mark.parametrize("scheme", [s for s in SCHEMES if s.bias == "grid"], ids=lambda s: s.name)
@pytest.mark.parametrize("graph", [branched_graph, shuffling_graph])
def test_fused_kernels_give_exactly_what_exact_arithmetic_gives(
    scheme: Scheme, graph: Callable[[], onnx.ModelProto], tmp_path: Path
) -> None:
    """Because biases lie on the kernels' grid. A handful of rounding ties may fall to the other side."""
    model = graph()
    quantized = encode(model, _ranges(model), scheme)
    path = tmp_path / "q.onnx"
    onnx.save(quantized, path)
    x = np.random.default_rng(1).standard_normal((1, 3, 64, 64), np.float32)
    exact = _run(quantized, x, fused=False)
    variant = _variant(scheme)
    fused = OnnxRuntime().open(variant, ModelFiles.read(path), "cpu", SessionOptions()).run(x)
    assert np.mean(fused != exact) < 1e-3
    # ... and float is another thing: the test would notice if nothing were quantized.
    assert np.mean(_run(model, x) != exact) > 0.9


def _variant(scheme: Scheme) -> object:
    from edgedenoise.bundles.manifest import Encoding, Variant

    return Variant(
        "q", "onnxruntime", "int8", "q.onnx", Encoding(scheme.name, scheme.activations, "s8", scheme.weight_bits)
    )


def test_a_tensor_without_a_range_is_refused_by_name() -> None:
    model = branched_graph()
    ranges = _ranges(model)
    del ranges.tensors["summed"]
    ranges.tensors.pop("joined")
    with pytest.raises(QuantizationError, match="summed has no calibrated range"):
        encode(model, ranges, scheme_named("u8s7"))


def test_quantize_adds_a_variant_that_loads_and_is_close_to_float(branched_bundle: Bundle, noisy_folder: Path) -> None:
    edgedenoise.calibrate(branched_bundle.root, noisy_folder, count=8, crop_px=64)
    report = edgedenoise.quantize(branched_bundle.root, data=noisy_folder)
    bundle = Bundle.open(branched_bundle.root)
    variant = bundle.variant("onnx-int8-u8s7")
    assert variant.fidelity_db == pytest.approx(report.selftest_db, abs=0.01)
    assert report.selftest_db > 30
    assert report.held_out_db is not None
    assert report.held_out_db > 30
    assert report.size_bytes > 0
    with load_variant(bundle, variant.name) as denoiser:
        assert denoiser(np.full((20, 30, 3), 128, np.uint8)).shape == (20, 30, 3)


def test_a_bundle_can_hold_every_scheme_from_the_same_ranges(branched_bundle: Bundle, noisy_folder: Path) -> None:
    edgedenoise.calibrate(branched_bundle.root, noisy_folder, count=4, crop_px=64)
    for scheme in SCHEMES:
        report = edgedenoise.quantize(branched_bundle.root, scheme=scheme.name)
        assert report.selftest_db > 25
    opened = Bundle.open(branched_bundle.root)
    for scheme in SCHEMES:
        variant = opened.variant(f"onnx-int8-{scheme.name}")
        assert lint_encoded(onnx.load(opened.variant_file(variant)), variant.encoding) == []


def _uneven_graph() -> onnx.ModelProto:
    """Every output channel has one weight that is far larger than the others and meets inputs that are nearly 0.

    Plain 7-bit steps are as large as that weight demands and round the others to a few; clipping it costs little.
    """
    model = shuffling_graph()
    for tensor in list(model.graph.initializer):
        if tensor.name in ("body.weight", "tail.weight"):
            values = onnx.numpy_helper.to_array(tensor).copy()
            values[:, 0, 0, 0] = 2.2 * np.abs(values).max()
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        if tensor.name == "head.weight":
            values = onnx.numpy_helper.to_array(tensor).copy()
            values[0] *= 0.01
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return model


def test_what_clipping_and_correction_gain_is_measured_and_recorded(
    make_bundle: Callable[..., Bundle], noisy_folder: Path
) -> None:
    made = make_bundle(_uneven_graph(), halo_px=6, multiple_of=2)
    edgedenoise.calibrate(made.root, noisy_folder, count=4, crop_px=64)
    plain = edgedenoise.quantize(made.root, data=noisy_folder)
    assert (plain.weight_clip, plain.weight_clip_gain_db) == ("none", None), "nothing is tried unasked"
    report = edgedenoise.quantize(made.root, data=noisy_folder, weight_clip="auto", bias_correction="auto")
    assert report.weight_clip == "mse"
    assert report.weight_clip_gain_db is not None
    assert report.bias_correction_gain_db is not None
    assert report.weight_clip_gain_db >= LEAST_GAIN_DB
    assert (report.bias_correction == "mean") == (report.bias_correction_gain_db >= LEAST_GAIN_DB)
    kept = report.weight_clip_gain_db + (report.bias_correction_gain_db if report.bias_correction == "mean" else 0)
    assert report.held_out_db == pytest.approx(plain.held_out_db + kept, abs=0.01)
    encoding = Bundle.open(made.root).variant(report.variant).encoding
    assert (encoding.weight_clip, encoding.bias_correction) == (report.weight_clip, report.bias_correction)


def test_weights_that_were_trained_in_8_bits_are_never_changed_unless_asked(
    make_bundle: Callable[..., Bundle], noisy_folder: Path
) -> None:
    made = make_bundle(_uneven_graph(), halo_px=6, multiple_of=2)
    bundle = edgedenoise.calibrate(made.root, noisy_folder, count=2, crop_px=64)
    with BundleWriter.edit(bundle) as draft:
        draft.write(TRAINED_RANGES_FILE, bundle.file(RANGES_FILE).read_bytes())
    report = edgedenoise.quantize(made.root, data=noisy_folder, weight_clip="auto", bias_correction="auto")
    assert (report.weight_clip, report.bias_correction) == ("none", "none")
    assert (report.weight_clip_gain_db, report.bias_correction_gain_db) == (None, None), "not even tried"
    assert edgedenoise.quantize(made.root, weight_clip="mse").weight_clip == "mse"


def test_correcting_biases_without_photographs_is_refused(branched_bundle: Bundle, noisy_folder: Path) -> None:
    edgedenoise.calibrate(branched_bundle.root, noisy_folder, count=2, crop_px=64)
    with pytest.raises(UsageError, match="without images"):
        edgedenoise.quantize(branched_bundle.root, bias_correction="auto")
    with pytest.raises(UsageError, match="expected one of none, mean, auto"):
        edgedenoise.quantize(branched_bundle.root, bias_correction="some")  # type: ignore[arg-type]


@EACH_SCHEME
def test_corrected_biases_give_every_channel_the_mean_that_it_has_in_float(scheme: Scheme) -> None:
    model = branched_graph()
    ranges = _ranges(model)
    inputs = [np.random.default_rng(seed).standard_normal((1, 3, 48, 48), np.float32) for seed in range(3)]

    def encoded(shifts: Shifts) -> onnx.ModelProto:
        return encode(model, ranges, scheme, bias_shifts=shifts)

    def off_by(quantized: onnx.ModelProto) -> float:
        differences = [_run(quantized, x, fused=False) - _run(model, x, fused=False) for x in inputs]
        return float(np.abs(np.mean(differences, axis=(0, 1, 3, 4))).max())

    shifts = mean_shifts(model, encoded, inputs, margin_px=0)
    assert set(shifts) == {node.input[2] for node in model.graph.node if node.op_type == "Conv"}
    before, after = off_by(encoded({})), off_by(encoded(shifts))
    assert after < 0.2 * before, (before, after)


@pytest.mark.parametrize(
    ("ways", "distances", "kept"),
    [
        (("auto", "none"), {("mse", False): 41.0}, ("mse", "none")),
        (("auto", "none"), {("mse", False): 39.0}, ("none", "none")),
        (("auto", "none"), {("mse", False): 40.01}, ("none", "none")),  # chance
        (("mse", "none"), {("mse", False): 39.0}, ("mse", "none")),  # asked for
        (("none", "auto"), {("none", True): 41.0}, ("none", "mean")),
        (("none", "auto"), {("none", True): 39.0}, ("none", "none")),
        (("none", "mean"), {("none", True): 39.0}, ("none", "mean")),
        (("auto", "auto"), {("mse", False): 41.0, ("mse", True): 42.0}, ("mse", "mean")),
        (("auto", "auto"), {("mse", False): 41.0, ("mse", True): 40.5}, ("mse", "none")),  # better than plain, but ...
    ],
)
def test_what_is_only_tried_is_kept_only_when_it_measures_better(
    ways: tuple[str, str], distances: dict[tuple[str, bool], float], kept: tuple[str, str]
) -> None:
    known = {("none", False): 40.0, **distances}
    refined = refine(
        lambda clip, shifts: (clip, bool(shifts)),
        lambda graph: known[graph],
        lambda _encode: {"bias": np.ones(1, np.float32)},
        weight_clip=ways[0],
        bias_correction=ways[1],
    )
    assert (refined.weight_clip, refined.bias_correction) == kept
    assert refined.model == (kept[0], kept[1] == "mean")


def test_calibrating_again_removes_what_was_encoded_from_the_old_ranges(
    branched_bundle: Bundle, noisy_folder: Path
) -> None:
    edgedenoise.calibrate(branched_bundle.root, noisy_folder, count=2, crop_px=64)
    edgedenoise.quantize(branched_bundle.root)
    bundle = edgedenoise.calibrate(branched_bundle.root, noisy_folder, count=3, crop_px=64)
    assert [v.name for v in bundle.manifest.variants] == ["onnx-fp32"]
    assert not (bundle.root / "onnx-int8-u8s7").exists()


def test_another_calibrator_chooses_other_ranges_without_another_pass(
    branched_bundle: Bundle, noisy_folder: Path
) -> None:
    edgedenoise.calibrate(branched_bundle.root, noisy_folder, count=6, crop_px=64)
    edgedenoise.quantize(branched_bundle.root)
    edgedenoise.compile(branched_bundle.root, target="openvino", precision="int8")
    (whole,) = _activation_scales(Bundle.open(branched_bundle.root)).values()
    edgedenoise.quantize(branched_bundle.root, calibrator="percentile-99")
    opened = Bundle.open(branched_bundle.root)
    (clipped,) = _activation_scales(opened).values()
    assert clipped["image"] == whole["image"], "the image is never clipped"
    assert all(clipped[name] <= whole[name] for name in whole)
    assert sum(clipped[name] < 0.95 * whole[name] for name in whole) >= 2
    (left,) = [v for v in opened.manifest.variants if v.precision == "int8"]
    assert left.encoding.calibrator == "percentile-99"
    assert left.runtime == "onnxruntime", "what was compiled from the other ranges is gone"


def test_without_histograms_only_the_whole_range_can_be_had(branched_bundle: Bundle, noisy_folder: Path) -> None:
    edgedenoise.calibrate(branched_bundle.root, noisy_folder, count=4, crop_px=64)
    with BundleWriter.edit(Bundle.open(branched_bundle.root)) as draft:  # as bundles were that were made before
        draft.remove(HISTOGRAMS_FILE)
    with pytest.raises(
        CalibrationError, match="stores no histograms to choose from; expected the calibrator minmax, got mse"
    ):
        edgedenoise.quantize(branched_bundle.root, calibrator="mse")
    edgedenoise.quantize(branched_bundle.root)


def _activation_scales(bundle: Bundle) -> dict[str, dict[str, float]]:
    """Variant -> tensor -> scale, for the ONNX variants that are quantized."""
    found = {}
    for variant in bundle.manifest.variants:
        if variant.runtime != "onnxruntime" or variant.encoding is None:
            continue
        model = onnx.load(bundle.variant_file(variant))
        constants = {t.name: float(onnx.numpy_helper.to_array(t)) for t in model.graph.initializer if not t.dims}
        nodes = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
        found[variant.name] = {node.input[0]: constants[node.input[1]] for node in nodes}
    return found


def test_quantizing_before_calibrating_says_what_to_do(branched_bundle: Bundle) -> None:
    with pytest.raises(CalibrationError, match="edgedenoise calibrate"):
        edgedenoise.quantize(branched_bundle.root)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (33, 47), (131, 96)])
def test_tiles_of_a_network_that_shuffles_pixels_equal_the_whole(
    make_bundle: Callable[..., Bundle], noisy_folder: Path, precision: str, size: tuple[int, int]
) -> None:
    made = make_bundle(shuffling_graph(), halo_px=6, multiple_of=2)
    edgedenoise.calibrate(made.root, noisy_folder, count=4, crop_px=64)
    edgedenoise.quantize(made.root)
    bundle = Bundle.open(made.root)
    name = next(v.name for v in bundle.manifest.variants if v.precision == precision)
    session = load_variant(bundle, name).session
    x = np.random.default_rng(0).random((3, *size), np.float32)
    whole = run_image(session, x, WHOLE_IMAGE, bundle.manifest.tiling)
    for tile in (8, 15, 64):
        tiled = run_image(session, x, WHOLE_IMAGE, bundle.manifest.tiling, tile=tile)
        np.testing.assert_array_equal(tiled, whole)


def test_where_eight_bits_would_saturate_auto_takes_another_variant(
    branched_bundle: Bundle, noisy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="needs openvino: pip install 'edgedenoise[openvino]'")
    edgedenoise.calibrate(branched_bundle.root, noisy_folder, count=4, crop_px=64)
    edgedenoise.quantize(branched_bundle.root, scheme="u8s8")
    bundle = edgedenoise.compile(branched_bundle.root, target="openvino")
    pretend(monkeypatch, VNNI)
    assert choose(bundle, "auto", "int8").variant.name == "openvino-int8-u8s8"
    pretend(monkeypatch, AVX2)
    assert choose(bundle, "auto", "int8").variant.name == "onnx-int8-u8s8"
    report = edgedenoise.verify(bundle.root)
    assert report.passed
    assert {c.variant: c.status for c in report.variants}["openvino-int8-u8s8"] == "not run"
    with pytest.raises(IncompatibleError, match="would saturate"):
        load(bundle.root, runtime="openvino", precision="int8")


def test_every_target_and_device_class_names_schemes_that_exist() -> None:
    assert {name: backend.schemes[0] for name, backend in registry.items()} == {
        "onnxruntime": "u8s7",
        "openvino": "u8s7",
        "tensorrt": "s8s8",
        "tensorrt-rtx": "s8s8",
        "coreml": "coreml",
    }
    for one in DEVICE_CLASSES:
        assert [scheme.name for scheme in schemes_for(one.name)] == list(one.schemes)
        assert one.why
    used = {name for kind in (*DEVICE_CLASSES, *registry.values()) for name in kind.schemes}
    assert used == {scheme.name for scheme in SCHEMES}
    with pytest.raises(UsageError, match="expected one of any-cpu, x86"):
        schemes_for("toaster")


def test_where_products_saturate_seven_bits_are_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    for saturates, x86, first in ((True, True, "u8s7"), (False, True, "u8s8"), (False, False, "u8s8")):
        monkeypatch.setattr("edgedenoise.calibration.schemes.saturates_u8s8", lambda answer=saturates: answer)
        monkeypatch.setattr("edgedenoise.calibration.schemes.is_x86", lambda answer=x86: answer)
        assert schemes_for(class_of_this_cpu())[0].name == first


# ---------------------------------------------------------------- constants that several layers share


def _sharing_graph() -> onnx.ModelProto:
    """Three convolutions with one bias, as exporters merge equal constants; older bundles hold such graphs."""
    model = branched_graph()
    for node in model.graph.node:
        if node.output[0] in ("left", "inner", "right"):
            node.input[2] = "left.bias"
    return model


@pytest.mark.parametrize("excluded_layers", [(), ("left",), ("inner",)])
def test_a_bias_that_several_layers_share_is_rounded_for_each_of_them(excluded_layers: tuple[str, ...]) -> None:
    model = _sharing_graph()
    x = np.random.default_rng(0).standard_normal((1, 3, 32, 32), np.float32)
    ranges = measure_ranges(model, [x], margin_px=4)
    scheme = scheme_named("u8s7")
    quantized = encode(model, ranges, scheme, excluded_layers)
    onnx.checker.check_model(quantized, full_check=True)
    assert broken_rules(quantized, scheme) == [], "each bias lies on the grid of its own layer"


def test_a_bias_correction_concerns_one_layer_although_the_bias_is_shared() -> None:
    model = _sharing_graph()
    x = np.random.default_rng(0).standard_normal((1, 3, 32, 32), np.float32)
    ranges = measure_ranges(model, [x], margin_px=4)
    scheme = scheme_named("u8s7")
    shifts = mean_shifts(model, lambda known: encode(model, ranges, scheme, bias_shifts=known), [x], 4)
    assert len(shifts) == sum(node.op_type == "Conv" for node in model.graph.node)
