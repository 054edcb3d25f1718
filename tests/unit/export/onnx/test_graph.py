"""The graph contract: each rule has a graph that breaks it, and the counting is exact."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from graphs import GraphBuilder, branched_graph, shuffling_graph
from measuring import measure_ranges
from onnx import TensorProto, helper

from edgedenoise.calibration.schemes import scheme_named
from edgedenoise.errors import ExportError
from edgedenoise.exporting.onnx.graph import (
    check_graph,
    lint,
    macs_per_px,
    parameter_count,
    peak_bytes_per_px,
    trace_shapes,
)
from edgedenoise.exporting.quantization.qdq import encode

if TYPE_CHECKING:
    from collections.abc import Callable


def _newer_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 18


def _second_domain(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def _newer_ir(model: onnx.ModelProto) -> None:
    model.ir_version = 10


def _renamed_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = "x"


def _two_outputs(model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("joined", TensorProto.FLOAT, [1, 16, "h", "w"]))


def _fixed_height(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 64


def _half_precision(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16


def _reshape(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Reshape", ["joined", "shape"], ["reshaped"]))


def _foreign_operator(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Relu", ["joined"], ["foreign"], domain="com.microsoft"))


def _masked_weight(model: onnx.ModelProto) -> None:
    conv = next(node for node in model.graph.node if node.output[0] == "left")
    model.graph.node.insert(0, helper.make_node("Sub", [conv.input[1], "centre"], ["masked"]))
    conv.input[1] = "masked"


def _multiplied_by_constant(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Mul", ["joined", "left.weight"], ["product"]))


def _cut_rows(model: onnx.ModelProto) -> None:
    for name, value in (("start", 0), ("end", 8), ("rows", 2), ("step", 1)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([value], np.int64), name))
    model.graph.node.append(helper.make_node("Slice", ["joined", "start", "end", "rows", "step"], ["cut"]))


def _cut_computed_channels(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Slice", ["joined", "left", "left", "left", "left"], ["cut"]))


def _mean_over_pixels(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("ReduceMean", ["joined"], ["mean"], axes=[2, 3]))


def _mean_without_an_axis(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("ReduceMean", ["joined"], ["mean"], axes=[1], keepdims=0))


def _blind_kernel(model: onnx.ModelProto) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == "left.weight")
    weight = onnx.numpy_helper.to_array(tensor).copy()
    weight[:, :, 1, 1] = 0
    tensor.CopyFrom(onnx.numpy_helper.from_array(weight, tensor.name))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_newer_opset, "opset"),
        (_second_domain, "opset"),
        (_newer_ir, "IR version"),
        (_renamed_input, "only input must be named 'image'"),
        (_two_outputs, "only output must be named 'denoised'"),
        (_fixed_height, "symbolic sides"),
        (_half_precision, "float32"),
        (_reshape, "ai.onnx.Reshape"),
        (_foreign_operator, "com.microsoft.Relu"),
        (_masked_weight, "a mask is left"),
        (_multiplied_by_constant, "a mask is left"),
        (_blind_kernel, "a mask is baked in"),
        (_cut_rows, "the Slice cut does not cut constant channels"),
        (_cut_computed_channels, "the Slice cut does not cut constant channels"),
        (_mean_over_pixels, "the ReduceMean mean is not the mean over the channels alone"),
        (_mean_without_an_axis, "the ReduceMean mean is not the mean over the channels alone"),
    ],
)
def test_each_rule_of_the_contract_is_enforced(spoil: Callable[[onnx.ModelProto], None], words: str) -> None:
    model = branched_graph()
    assert lint(model) == []
    spoil(model)
    assert any(words in problem for problem in lint(model))


def test_a_factor_of_one_number_is_no_mask_and_channels_may_be_cut_and_averaged() -> None:
    b = GraphBuilder()
    for name, value in (("start", 1), ("end", 2**63 - 1), ("axis", 1), ("step", 1)):
        b.constants.append(onnx.numpy_helper.from_array(np.array([value], np.int64), name))
    cut = b.node("Slice", ["image", "start", "end", "axis", "step"], "cut")
    mean = b.node("ReduceMean", [cut], "mean", axes=[1])
    halved = b.node("AveragePool", [b.conv("image", "deep", (12, 3, 3))], "halved", kernel_shape=[2, 2], strides=[2, 2])
    whole = b.node("DepthToSpace", [halved], "whole", blocksize=2, mode="CRD")
    b.node("Mul", [b.node("Mul", [mean, b.constant("half", np.float32(0.5))], "scaled"), whole], "denoised")
    assert lint(b.model()) == []
    shapes = trace_shapes(b.model())
    assert [shapes[name].channels for name in ("cut", "mean", "halved", "whole", "denoised")] == [2, 1, 12, 3, 3]
    assert (shapes["halved"].density, shapes["denoised"].density) == (Fraction(1, 4), 1)


def test_a_float_graph_must_hold_no_quantizers() -> None:
    b = GraphBuilder()
    scale, zero = b.constant("scale", np.float32(0.1)), b.constant("zero", np.float32(0))
    b.node("QuantizeLinear", ["image", scale, zero], "q")
    b.conv("image", "denoised", (3, 3, 3))
    assert any("QuantizeLinear" in problem for problem in lint(b.model()))
    assert not any("QuantizeLinear" in problem for problem in lint(b.model(), quantized=True))


@pytest.mark.parametrize("scheme", ["u8s7", "s8s8"])
def test_a_mask_is_found_behind_the_quantizers_of_a_weight_too(scheme: str) -> None:
    model = branched_graph()
    ranges = measure_ranges(model, [np.ones((1, 3, 16, 16), np.float32)], margin_px=0)
    assert lint(encode(model, ranges, scheme_named(scheme)), quantized=True) == []
    _blind_kernel(model)
    (problem,) = lint(encode(model, ranges, scheme_named(scheme)), quantized=True)
    assert "the convolution left does not see its centre pixel" in problem


def test_a_broken_graph_is_refused_with_everything_that_breaks_it() -> None:
    model = branched_graph()
    model.ir_version = 7
    _fixed_height(model)
    with pytest.raises(ExportError, match=r"(?s)IR version.*symbolic sides"):
        check_graph(model)


def test_cost_per_pixel_counts_every_convolution_at_its_own_resolution() -> None:
    width = 8
    assert macs_per_px(branched_graph(width)) == 3 * width + (9 + 9 + 25) * width**2 + 2 * width * 3
    # Behind a stride of 2 there is a quarter of the pixels.
    assert macs_per_px(shuffling_graph(width)) == (16 * 3 * width + 9 * width**2 + 9 * width * 12) // 4


def test_parameters_count_weights_and_biases() -> None:
    width = 8
    biases = 4 * width + 3
    assert parameter_count(branched_graph(width)) == macs_per_px(branched_graph(width)) + biases


def test_shapes_follow_strides_and_shuffles() -> None:
    shapes = trace_shapes(shuffling_graph())
    assert shapes["body"].density == Fraction(1, 4)
    assert (shapes["denoised"].channels, shapes["denoised"].density) == (3, Fraction(1))


def test_a_wider_network_is_estimated_to_need_more_memory() -> None:
    # Concat's inputs and output are alive at once: 2 * 16 channels of 4 bytes at the least.
    assert peak_bytes_per_px(branched_graph(8)) > 2 * 16 * 4
    assert peak_bytes_per_px(branched_graph(32)) > 3 * peak_bytes_per_px(branched_graph(8))
