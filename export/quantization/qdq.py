"""Encode a float graph as a QDQ graph from measured ranges, by any scheme of `edgedenoise.calibration.schemes`.

A Q/DQ pair stands on the activation that a Conv reads and on its weight, and on the inputs of Add and Concat nodes as
the scheme says. Left in float are:

- the Add of image and residual at the end of a student, which in 8 bits would cost half a level by itself, and all
  that no convolution reads, such as the guard of a network that takes the noise level;
- the output of a convolution before its Relu, so that backends fuse the three;
- the output of the last convolution, which costs nothing and saves half a level;
- biases, because TensorRT refuses the int32 form. For CPUs they are rounded to the grid on which kernels put them
  (activation scale times weight scale), so that exact arithmetic and integer kernels agree to the last step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgedenoise.calibration.schemes import SCHEMES, Scheme, WeightClip, encode_range, encode_weight
from edgedenoise.errors import QuantizationError
from edgedenoise.exporting.onnx.graph import weights, with_own_constants

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from edgedenoise.calibration.histograms import Range
    from edgedenoise.calibration.ranges import Ranges
    from edgedenoise.exporting.quantization.correction import Shifts


def encode(
    model: onnx.ModelProto,
    ranges: Ranges,
    scheme: Scheme,
    excluded_layers: Collection[str] = frozenset(),
    *,
    weight_clip: WeightClip = "none",
    bias_shifts: Shifts | None = None,
) -> onnx.ModelProto:
    """Return the QDQ graph of a float graph.

    Args:
        model: float graph that obeys the graph contract.
        ranges: measured on that very graph. Their `float_layers` stay in float.
        scheme: the integer encoding.
        excluded_layers: outputs of the Conv, Add and Concat nodes that go on reading and computing in float.
        weight_clip: see `encode_weight`.
        bias_shifts: what to add to biases of quantized convolutions, (out,) by the name of the bias.

    Raises:
        QuantizationError: a tensor that must be quantized has no range.
    """
    result = with_own_constants(model)
    graph = result.graph
    constants = weights(result)
    known = _shared_at_concat(model, ranges.tensors) if scheme.joins == "inputs" else ranges.tensors
    excluded = {*excluded_layers, *ranges.float_layers}
    order, feeding = _order(model), feeding_convolutions(model)
    nodes: list[onnx.NodeProto] = []
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    dequantized: dict[str, str] = {}

    def constant(name: str, values: NDArray[np.generic] | np.generic) -> str:
        initializers[name] = numpy_helper.from_array(np.asarray(values), name)
        return name

    def activation(name: str) -> str:
        """Add the Q/DQ pair of a tensor, once, and return the name to read it by."""
        if name not in dequantized:
            if name not in known:
                raise QuantizationError(
                    f"the tensor {name} has no calibrated range",
                    hint="Calibrate the bundle again with: edgedenoise calibrate",
                )
            scale, zero = encode_range(known[name].low, known[name].high, scheme)
            parameters = [constant(f"{name}.scale", scale), constant(f"{name}.zero_point", zero)]
            nodes.append(_node("QuantizeLinear", [name, *parameters], f"{name}.quantized"))
            nodes.append(_node("DequantizeLinear", [f"{name}.quantized", *parameters], f"{name}.dequantized"))
            dequantized[name] = f"{name}.dequantized"
        return dequantized[name]

    def weight(name: str) -> str:
        if name not in dequantized:
            integers, scale = encode_weight(constants[name].astype(np.float32), scheme, clip=weight_clip)
            del initializers[name]
            parameters = [
                constant(f"{name}.scale", scale),
                constant(f"{name}.zero_point", np.zeros(scale.shape, np.int8)),
            ]
            if scheme.weights_as == "integers":
                constant(f"{name}.quantized", integers)
            else:
                # Floats that lie on their grid: every parser rounds them to the same integers, and clips none.
                constant(name, integers * scale.reshape(-1, 1, 1, 1))
                nodes.append(_node("QuantizeLinear", [name, *parameters], f"{name}.quantized", axis=0))
            inputs = [f"{name}.quantized", *parameters]
            nodes.append(_node("DequantizeLinear", inputs, f"{name}.dequantized", axis=0))
            dequantized[name] = f"{name}.dequantized"
        return dequantized[name]

    def bias(name: str, activation_name: str, weight_name: str) -> str:
        values = constants[name].astype(np.float32)
        if bias_shifts and name in bias_shifts:
            values = values + bias_shifts[name]
        initializers.pop(name, None)
        if scheme.bias == "float":
            return constant(name, values)
        scales = [numpy_helper.to_array(initializers[f"{n}.scale"]) for n in (activation_name, weight_name)]
        grid = (scales[0] * scales[1]).astype(np.float32)
        return constant(f"{name}.rounded", (np.rint(values / grid) * grid).astype(np.float32))

    for original in list(graph.node):
        node = onnx.NodeProto()
        node.CopyFrom(original)
        if node.output[0] not in excluded:
            for position in _rounded_inputs(original, scheme, order, feeding):
                node.input[position] = activation(original.input[position])
            if node.op_type == "Conv":
                node.input[1] = weight(original.input[1])
                if len(node.input) == 3:
                    node.input[2] = bias(original.input[2], original.input[0], original.input[1])
        nodes.append(node)
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(initializers.values())
    return result


def quantized_layers(model: onnx.ModelProto, scheme: Scheme = SCHEMES[0]) -> list[onnx.NodeProto]:
    """Return the nodes of a float graph whose inputs `encode` quantizes, in order."""
    order, feeding = _order(model), feeding_convolutions(model)
    return [node for node in model.graph.node if _rounded_inputs(node, scheme, order, feeding)]


def feeding_convolutions(model: onnx.ModelProto) -> set[str]:
    """Return the names of the tensors that a convolution reads, directly or through other operators."""
    found: set[str] = set()
    for node in reversed(model.graph.node):
        if node.op_type == "Conv" or node.output[0] in found:
            found.update(node.input)
    return found


def _order(model: onnx.ModelProto) -> dict[str, int]:
    """Return the step at which each activation tensor is computed: 0 for the image, then 1, 2, ..."""
    names = [model.graph.input[0].name, *(name for node in model.graph.node for name in node.output)]
    return {name: step for step, name in enumerate(names)}


def _rounded_inputs(node: onnx.NodeProto, scheme: Scheme, order: dict[str, int], feeding: set[str]) -> list[int]:
    """Return the positions of the activations that a node reads in 8 bits."""
    if node.op_type == "Conv":
        return [0]
    if any(order.get(name) == 0 for name in node.input) or node.output[0] not in feeding:  # image and residual; guard
        return []
    if any(name not in order for name in node.input):  # a constant
        return []
    if node.op_type == "Add":
        # What a sum skips to is made before the branch that is added to it.
        skip = min((0, 1), key=lambda position: order[node.input[position]])
        return [0, 1] if scheme.sums == "both" else [skip]
    if node.op_type == "Concat" and scheme.joins == "inputs":
        return list(range(len(node.input)))
    return []


def _shared_at_concat(model: onnx.ModelProto, measured: dict[str, Range]) -> dict[str, Range]:
    """Return ranges in which a Concat's inputs and output have one range: it is then exact and free on any backend."""
    known = dict(measured)
    for node in model.graph.node:
        if node.op_type == "Concat" and all(name in known for name in node.input):
            joint = known[node.input[0]]
            for name in node.input[1:]:
                joint = joint.union(known[name])
            known.update(dict.fromkeys([*node.input, *node.output], joint))
    return known


def _node(op_type: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs, [output], name=output, **attributes)
