"""QDQ graphs that each break one rule, with the name of the rule of `export/quantization/contracts.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from graphs import GraphBuilder, branched_graph
from measuring import measure_ranges
from onnx import helper, numpy_helper

from edgedenoise.calibration.schemes import SCHEMES, scheme_named
from edgedenoise.exporting.quantization.qdq import encode

if TYPE_CHECKING:
    from collections.abc import Callable

    Spoil = Callable[[onnx.ModelProto], None]


def student_graph() -> onnx.ModelProto:
    """An image-space residual, as students have."""
    b = GraphBuilder()
    b.conv(b.relu(b.conv("image", "head", (8, 3, 3))), "tail", (3, 8, 3))
    b.node("Add", ["image", "tail"], "denoised")
    return b.model()


def dead_channel_graph() -> onnx.ModelProto:
    model = branched_graph()
    weight = _values(model, "left.weight").copy()
    weight[2] = 0
    _set(model, "left.weight", weight)
    return model


def encoded(
    scheme: str, graph: Callable[[], onnx.ModelProto] = branched_graph, excluded_layers: tuple[str, ...] = ()
) -> onnx.ModelProto:
    model = graph()
    crops = [np.random.default_rng(0).standard_normal((1, 3, 32, 32), np.float32)]
    ranges = measure_ranges(model, crops, margin_px=8)
    return encode(model, ranges, scheme_named(scheme), excluded_layers)


def _values(model: onnx.ModelProto, name: str) -> np.ndarray:
    return next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == name)


def _set(model: onnx.ModelProto, name: str, values: np.ndarray) -> None:
    for tensor in [t for t in model.graph.initializer if t.name == name]:
        model.graph.initializer.remove(tensor)
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))


def _made(model: onnx.ModelProto, output: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.output[0] == output)


def _pair(model: onnx.ModelProto, name: str, scale: float = 0.05) -> str:
    """Add a Q/DQ pair behind a tensor and return the name of its output."""
    like = _values(model, "image.zero_point")
    _set(model, f"{name}.scale", np.float32(scale))
    _set(model, f"{name}.zero_point", np.zeros((), like.dtype))
    parameters = [f"{name}.scale", f"{name}.zero_point"]
    at = 1 + next(i for i, node in enumerate(model.graph.node) if node.output[0] == name)
    pair = [
        helper.make_node("QuantizeLinear", [name, *parameters], [f"{name}.quantized"]),
        helper.make_node("DequantizeLinear", [f"{name}.quantized", *parameters], [f"{name}.dequantized"]),
    ]
    for node in reversed(pair):
        model.graph.node.insert(at, node)
    return f"{name}.dequantized"


def _read(model: onnx.ModelProto, reader: str, position: int, name: str) -> None:
    _made(model, reader).input[position] = name


def _retype(model: onnx.ModelProto, kind: type) -> None:
    """Give every activation zero-point another type."""
    for tensor in list(model.graph.initializer):
        if tensor.name.endswith(".zero_point") and ".weight" not in tensor.name:
            _set(model, tensor.name, np.zeros((), kind))


# --- what is broken, one thing each --------------------------------------------------------------------------------


def _no_zero_point(model: onnx.ModelProto) -> None:
    del _made(model, "head.weight.dequantized").input[2]


def _uint8(model: onnx.ModelProto) -> None:
    _retype(model, np.uint8)


def _int8(model: onnx.ModelProto) -> None:
    _retype(model, np.int8)


def _shifted(model: onnx.ModelProto) -> None:
    _set(model, "image.zero_point", np.int8(3))


def _shifted_weight(model: onnx.ModelProto) -> None:
    zero = _values(model, "left.weight.zero_point").copy()
    zero[1] = 1
    _set(model, "left.weight.zero_point", zero)


def _computed_scale(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, helper.make_node("Mul", ["image.scale", "image.scale"], ["computed"]))
    for output in ("image.quantized", "image.dequantized"):
        _read(model, output, 1, "computed")


def _scale_zero(model: onnx.ModelProto) -> None:
    scale = _values(model, "left.weight.scale").copy()
    scale[2] = 0
    _set(model, "left.weight.scale", scale)
    for name in ("left.weight.quantized", "left.weight"):
        if any(t.name == name for t in model.graph.initializer):
            weight = _values(model, name).copy()
            weight[2] = 0
            _set(model, name, weight)


def _double_scale(model: onnx.ModelProto) -> None:
    _set(model, "image.scale", _values(model, "image.scale").astype(np.float64))


def _borrowed_scale(model: onnx.ModelProto) -> None:
    for output in ("image.quantized", "image.dequantized"):
        _read(model, output, 1, "head.relu.scale")


def _relu_on_integers(model: onnx.ModelProto) -> None:
    at = next(i for i, node in enumerate(model.graph.node) if node.output[0] == "head.relu.dequantized")
    model.graph.node.insert(at, helper.make_node("Relu", ["head.relu.quantized"], ["clipped"]))
    _read(model, "head.relu.dequantized", 0, "clipped")


def _never_quantized(model: onnx.ModelProto) -> None:
    _read(model, "image.dequantized", 0, "image")


def _other_scale_back(model: onnx.ModelProto) -> None:
    _set(model, "image.other", _values(model, "image.scale") * np.float32(2))
    _read(model, "image.dequantized", 1, "image.other")


def _activation_per_channel(model: onnx.ModelProto) -> None:
    _set(model, "image.scale", np.full(3, _values(model, "image.scale")))
    _set(model, "image.zero_point", np.full(3, _values(model, "image.zero_point")))


def _weight_per_tensor(model: onnx.ModelProto) -> None:
    _set(model, "left.weight.scale", _values(model, "left.weight.scale").max())
    _set(model, "left.weight.zero_point", np.int8(0))


def _weight_axis_one(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.output[0] in ("left.weight.quantized", "left.weight.dequantized"):
            node.attribute[0].i = 1


def _weight_axis_unsaid(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.output[0] in ("left.weight.quantized", "left.weight.dequantized"):
            del node.attribute[:]


def _float_weight(model: onnx.ModelProto) -> None:
    name = "left.weight"
    integers = _values(model, f"{name}.quantized")
    model.graph.initializer.remove(next(t for t in model.graph.initializer if t.name == f"{name}.quantized"))
    _set(model, name, integers * _values(model, f"{name}.scale").reshape(-1, 1, 1, 1))
    parameters = [f"{name}.scale", f"{name}.zero_point"]
    node = helper.make_node("QuantizeLinear", [name, *parameters], [f"{name}.quantized"], axis=0)
    model.graph.node.insert(0, node)


def _integer_weight(model: onnx.ModelProto) -> None:
    name = "left.weight"
    model.graph.node.remove(_made(model, f"{name}.quantized"))
    steps = np.rint(_values(model, name) / _values(model, f"{name}.scale").reshape(-1, 1, 1, 1))
    _set(model, f"{name}.quantized", steps.astype(np.int8))


def _eighth_bit(model: onnx.ModelProto) -> None:
    weight = _values(model, "left.weight.quantized").copy()
    weight[0, 0, 0, 0] = 64
    _set(model, "left.weight.quantized", weight)


def _without_opposite(model: onnx.ModelProto) -> None:
    weight = _values(model, "left.weight").copy()
    weight[0, 0, 0, 0] = -128 * _values(model, "left.weight.scale")[0]
    _set(model, "left.weight", weight)


def _only_weight(model: onnx.ModelProto) -> None:
    _read(model, "left", 0, "head.relu")


def _only_input(model: onnx.ModelProto) -> None:
    _set(model, "left.plain", np.ones((8, 8, 3, 3), np.float32))
    _read(model, "left", 1, "left.plain")


def _integer_bias(model: onnx.ModelProto) -> None:
    scale = (_values(model, "head.relu.scale") * _values(model, "left.weight.scale")).astype(np.float32)
    _set(model, "left.steps", np.ones(8, np.int32))
    _set(model, "left.grid", scale)
    _set(model, "left.zero", np.zeros(8, np.int32))
    node = helper.make_node("DequantizeLinear", ["left.steps", "left.grid", "left.zero"], ["left.back"], axis=0)
    model.graph.node.insert(0, node)
    _read(model, "left", 2, "left.back")


def _bias_beside_grid(model: onnx.ModelProto) -> None:
    grid = _values(model, "head.relu.scale") * _values(model, "left.weight.scale")
    _set(model, "left.bias.rounded", (_values(model, "left.bias.rounded") + 0.4 * grid).astype(np.float32))


def _pair_before_relu(model: onnx.ModelProto) -> None:
    _read(model, "left.relu", 0, _pair(model, "left"))


def _branch_quantized_too(model: onnx.ModelProto) -> None:
    _read(model, "summed", 1, _pair(model, "inner.relu"))


def _branch_left_float(model: onnx.ModelProto) -> None:
    _read(model, "summed", 1, "inner.relu")


def image_skip_quantized(model: onnx.ModelProto) -> None:
    _read(model, "denoised", 0, "image.dequantized")


def _other_scale_joined(model: onnx.ModelProto) -> None:
    _set(model, "right.relu.scale", _values(model, "right.relu.scale") * np.float32(0.5))


def _half_joined(model: onnx.ModelProto) -> None:
    _read(model, "joined", 1, "right.relu")


def _joined_from_integers(model: onnx.ModelProto) -> None:
    _read(model, "joined", 1, _pair(model, "right.relu"))


def _rounded_output(model: onnx.ModelProto) -> None:
    _made(model, "denoised").output[0] = "inside"
    _pair(model, "inside")
    _made(model, "inside.dequantized").output[0] = "denoised"


BROKEN = (
    *[(scheme.name, _no_zero_point, "zero-point-present") for scheme in SCHEMES if scheme.weights_as == "integers"],
    ("s8s8", _uint8, "zero-point-type"),
    ("coreml", _uint8, "zero-point-type"),
    ("u8s7", _int8, "zero-point-type"),
    ("s8s8", _shifted, "symmetric"),
    ("coreml", _shifted, "symmetric"),
    ("u8s8", _shifted_weight, "symmetric"),
    ("s8s8", _computed_scale, "scale-constant"),
    ("s8s8", _scale_zero, "scale-positive"),
    ("u8s7", _scale_zero, "scale-positive"),
    ("coreml", _double_scale, "scale-positive"),
    ("s8s8", _borrowed_scale, "scale-own"),
    ("s8s8", _relu_on_integers, "pair-whole"),
    ("u8s7", _never_quantized, "pair-whole"),
    ("s8s8", _other_scale_back, "pair-agrees"),
    ("s8s8", _activation_per_channel, "activation-per-tensor"),
    ("coreml", _activation_per_channel, "activation-per-tensor"),
    ("coreml", _weight_per_tensor, "weight-per-channel"),
    ("s8s8", _weight_axis_one, "weight-axis"),
    ("s8s8", _weight_axis_unsaid, "weight-axis"),
    ("u8s8", _weight_axis_one, "weight-axis"),
    ("u8s7", _float_weight, "weight-form"),
    ("coreml", _float_weight, "weight-form"),
    ("s8s8", _integer_weight, "weight-form"),
    ("u8s7", _eighth_bit, "weight-range"),
    ("s8s8", _without_opposite, "weight-range"),
    ("s8s8", _only_weight, "conv-whole"),
    ("u8s7", _only_weight, "conv-whole"),
    ("s8s8", _only_input, "conv-whole"),
    ("s8s8", _integer_bias, "bias-float"),
    ("u8s7", _integer_bias, "bias-float"),
    ("u8s7", _bias_beside_grid, "bias-on-grid"),
    ("s8s8", _pair_before_relu, "relu-fused"),
    ("u8s8", _pair_before_relu, "relu-fused"),
    ("s8s8", _branch_quantized_too, "sum-placement"),
    ("u8s7", _branch_left_float, "sum-placement"),
    ("coreml", _branch_left_float, "sum-placement"),
    ("u8s7", _other_scale_joined, "concat-placement"),
    ("coreml", _half_joined, "concat-placement"),
    ("s8s8", _joined_from_integers, "concat-placement"),
    ("s8s8", _rounded_output, "output-float"),
)
