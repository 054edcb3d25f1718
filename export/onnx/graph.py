"""Check ONNX graphs against the graph contract (docs/concepts/architecture.md), and count what they cost.

`lint` lists what breaks the contract; `trace_shapes` follows channels and strides, from which the cost per pixel is
counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import onnx
from onnx import TensorProto, numpy_helper

from edgedenoise.bundles.bundle import METADATA_KEY
from edgedenoise.bundles.contents import damage_reported
from edgedenoise.calibration.graphs import input_channels
from edgedenoise.errors import ExportError
from edgedenoise.runtimes.base import CHANNELS, INPUT_NAME, OUTPUT_NAME

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import numpy as np
    from numpy.typing import NDArray


OPSET = 17
IR_VERSION = 8
FLOAT_OPERATORS = frozenset(
    {"Conv", "Relu", "Add", "Concat", "DepthToSpace", "Clip", "Mul", "Sub"}
    | {"Abs", "AveragePool", "Div", "ReduceMean", "Slice"}  # of the guard
    | {"MaxPool", "Sqrt"}  # of imported networks
    | {"GlobalAveragePool"}  # of imported networks whose tiles are blended
)
_CHANNEL_AXIS = 1
_ALLOCATOR_FACTOR = Fraction(5, 2)
_QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear"})
QDQ_OPERATORS = FLOAT_OPERATORS | _QUANTIZERS


@damage_reported("the ONNX graph")
def lint(model: onnx.ModelProto, *, quantized: bool = False) -> list[str]:
    """Return the problems of a graph under the graph contract, one sentence each; empty when it keeps the contract.

    `edgedenoise.exporting.quantization.contracts.lint_encoded` adds the rules of a quantized graph's scheme.

    Args:
        model: an ONNX graph.
        quantized: whether Q/DQ pairs are allowed.
    """
    problems = []
    if [(o.domain, o.version) for o in model.opset_import if o.domain or o.version != OPSET] or not model.opset_import:
        found = ", ".join(f"{o.domain or 'ai.onnx'} {o.version}" for o in model.opset_import)
        problems.append(f"opset must be ai.onnx {OPSET} alone; found {found or 'none'}")
    if model.ir_version != IR_VERSION:
        problems.append(f"IR version must be {IR_VERSION}; found {model.ir_version}")
    problems += _interface_problems("input", INPUT_NAME, list(model.graph.input), (CHANNELS, CHANNELS + 1))
    problems += _interface_problems("output", OUTPUT_NAME, list(model.graph.output), (CHANNELS,))
    allowed = QDQ_OPERATORS if quantized else FLOAT_OPERATORS
    for node in model.graph.node:
        if node.op_type not in allowed or node.domain:
            problems.append(
                f"operator {node.domain or 'ai.onnx'}.{node.op_type} ({node.output[0]}) is not one of"
                f" {', '.join(sorted(allowed))}"
            )
    return problems + _axis_problems(model) + _mask_problems(model)


def check_graph(model: onnx.ModelProto) -> None:
    """Check a float graph against the graph contract; see `lint`.

    Raises:
        ExportError: the graph breaks the contract; the message names every problem.
    """
    onnx.checker.check_model(model)
    raise_problems(lint(model))


def raise_problems(problems: list[str]) -> None:
    """Raise what `lint` found.

    Raises:
        ExportError: there are problems.
    """
    if problems:
        raise ExportError("the graph breaks the graph contract:\n  " + "\n  ".join(problems))


def with_own_constants(model: onnx.ModelProto, layers: Mapping[str, str] | None = None) -> onnx.ModelProto:
    """Return a copy in which every convolution has a weight and a bias of its own.

    Exporters merge equal constants, for example the zero biases of a fresh network. What is looked up or changed by
    the name of a constant (rounded biases, bias corrections, counts of parameters) would then concern several layers.

    Args:
        model: a float graph.
        layers: path of the layer that computes a tensor, by the tensor's name; constants are named after the path.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    constants = {tensor.name: tensor for tensor in result.graph.initializer}
    taken: set[str] = set()
    for node in result.graph.node:
        if node.op_type != "Conv":
            continue
        path = (layers or {}).get(node.output[0])
        for position, role in ((1, "weight"), (2, "bias")):
            if position >= len(node.input) or node.input[position] not in constants:
                continue
            name = str(node.input[position])
            wanted = f"{path}.{role}" if path else name if name not in taken else f"{node.output[0]}.{role}"
            taken.add(wanted)
            if wanted != name:
                own = onnx.TensorProto()
                own.CopyFrom(constants[name])
                own.name = wanted
                constants[wanted] = own
                node.input[position] = wanted
    used = {name for node in result.graph.node for name in node.input}
    del result.graph.initializer[:]
    result.graph.initializer.extend(tensor for name, tensor in constants.items() if name in used)
    return result


def embed(model: onnx.ModelProto, metadata: bytes) -> None:
    """Write the embedded metadata into a graph, so that the file can be loaded alone."""
    kept = [p for p in model.metadata_props if p.key != METADATA_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key=METADATA_KEY, value=metadata.decode())


def weights(model: onnx.ModelProto) -> dict[str, NDArray[np.generic]]:
    """Return the constants of a graph by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@dataclass(frozen=True)
class TensorShape:
    """Channels of an activation tensor, and how many of its pixels there are per input pixel."""

    channels: int
    density: Fraction
    """1 at full resolution, 1/4 behind a stride of 2, 0 for the mean of the whole image."""


@damage_reported("the ONNX graph")
def trace_shapes(model: onnx.ModelProto) -> dict[str, TensorShape]:
    """Return channels and density of every activation tensor of a float graph, in execution order."""
    constants = weights(model)
    shapes = {model.graph.input[0].name: TensorShape(input_channels(model), Fraction(1))}
    for node in model.graph.node:
        inputs = [shapes[name] for name in node.input if name in shapes]
        first = inputs[0]
        if node.op_type in ("Conv", "AveragePool", "MaxPool"):
            stride_y, stride_x = attribute(node, "strides", [1, 1])
            channels = constants[node.input[1]].shape[0] if node.op_type == "Conv" else first.channels
            shape = TensorShape(channels, first.density / (stride_y * stride_x))
        elif node.op_type == "Concat":
            shape = TensorShape(sum(one.channels for one in inputs), first.density)
        elif node.op_type == "DepthToSpace":
            block = attribute(node, "blocksize", 1)
            shape = TensorShape(first.channels // block**2, first.density * block**2)
        elif node.op_type == "ReduceMean":
            shape = TensorShape(1, first.density)
        elif node.op_type == "GlobalAveragePool":
            shape = TensorShape(first.channels, Fraction(0))
        elif node.op_type == "Slice":
            start, stop = (int(constants[name].item()) for name in node.input[1:3])
            shape = TensorShape(len(range(first.channels)[start:stop]), first.density)
        else:
            # One channel is spread over many, and one pixel over all.
            shape = TensorShape(max(one.channels for one in inputs), max(one.density for one in inputs))
        shapes[node.output[0]] = shape
    return shapes


def macs_per_px(model: onnx.ModelProto) -> int:
    """Return the multiply-accumulates per input pixel of a float graph."""
    return round(sum(conv_macs_per_px(model).values(), Fraction(0)))


def conv_macs_per_px(model: onnx.ModelProto) -> dict[str, Fraction]:
    """Return the multiply-accumulates per input pixel of each convolution, by the name of its output."""
    shapes, constants = trace_shapes(model), weights(model)
    return {
        node.output[0]: constants[node.input[1]].size * shapes[node.output[0]].density
        for node in model.graph.node
        if node.op_type == "Conv"
    }


def in_graph_order(model: onnx.ModelProto, tensors: Collection[str]) -> list[str]:
    """Return the names of tensors in the order in which the nodes of a graph compute them; others are left out."""
    return [output for node in model.graph.node for output in node.output if output in tensors]


def parameter_count(model: onnx.ModelProto) -> int:
    """Count the trained numbers of a float graph: weights and biases, not the bounds of a Clip."""
    trained = {name for node in model.graph.node if node.op_type == "Conv" for name in node.input[1:]}
    return sum(int(values.size) for name, values in weights(model).items() if name in trained)


def peak_bytes_per_px(model: onnx.ModelProto) -> int:
    """Estimate the peak working memory per input pixel, float32.

    The largest sum of tensors that are alive at once, times what allocators were measured to add: ONNX Runtime's
    arena rounds to powers of two and grew by up to 2.5 times the sum, OpenVINO by 1.4.
    """
    shapes = trace_shapes(model)
    last_use = {name: step for step, node in enumerate(model.graph.node) for name in node.input}
    alive: dict[str, Fraction] = {INPUT_NAME: 4 * shapes[INPUT_NAME].channels * Fraction(1)}
    peak = Fraction(0)
    for step, node in enumerate(model.graph.node):
        shape = shapes[node.output[0]]
        alive[node.output[0]] = 4 * shape.channels * shape.density
        peak = max(peak, sum(alive.values(), Fraction(0)))
        alive = {name: size for name, size in alive.items() if last_use.get(name, len(model.graph.node)) > step}
    return int(peak * _ALLOCATOR_FACTOR)


def _interface_problems(
    role: str, wanted: str, values: list[onnx.ValueInfoProto], channels: tuple[int, ...]
) -> list[str]:
    if [v.name for v in values] != [wanted]:
        return [f"the only {role} must be named {wanted!r}; found {', '.join(v.name for v in values) or 'none'}"]
    problems = []
    tensor = values[0].type.tensor_type
    if tensor.elem_type != TensorProto.FLOAT:
        problems.append(f"{role} {wanted!r} must be float32; found {TensorProto.DataType.Name(tensor.elem_type)}")
    dims = [d.dim_param or d.dim_value for d in tensor.shape.dim]
    accepted = " or ".join(map(str, channels))
    if len(dims) != 4 or dims[0] != 1 or dims[1] not in channels or not all(isinstance(d, str) and d for d in dims[2:]):
        problems.append(f"{role} {wanted!r} must be [1, {accepted}, height, width] with symbolic sides; found {dims}")
    return problems


def _axis_problems(model: onnx.ModelProto) -> list[str]:
    """Return the operators that reduce or cut along another axis than the channels, which tiles would change."""
    constants = weights(model)
    problems = []
    for node in model.graph.node:
        if node.op_type == "Slice":
            known = [constants.get(name) for name in node.input[1:5]]
            kept = len(known) == 4 and all(value is not None and value.size == 1 for value in known)
            if not kept or [int(value.item()) for value in known[2:] if value is not None] != [_CHANNEL_AXIS, 1]:
                problems.append(f"the Slice {node.output[0]} does not cut constant channels")
        elif node.op_type == "ReduceMean" and (
            attribute(node, "axes", []) != [_CHANNEL_AXIS] or not attribute(node, "keepdims", 1)
        ):
            problems.append(f"the ReduceMean {node.output[0]} is not the mean over the channels alone")
    return problems


def _mask_problems(model: onnx.ModelProto) -> list[str]:
    """Return the signs of a blind-spot mask: a computed weight, a factor per element, or a centre tap that is zero."""
    constants = weights(model)
    quantizers = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type in _QUANTIZERS}
    problems = []
    for node in model.graph.node:
        if node.op_type == "Mul" and any(name in constants and constants[name].size > 1 for name in node.input):
            problems.append(f"the product {node.output[0]} has a constant factor: a mask is left")
        if node.op_type != "Conv":
            continue
        weight = constants.get(_stored(node.input[1], quantizers))
        if weight is None:
            problems.append(f"the weight of the convolution {node.output[0]} is computed, not constant: a mask is left")
        elif _is_masked(weight):
            problems.append(f"the convolution {node.output[0]} does not see its centre pixel: a mask is baked in")
    return problems


def _stored(name: str, quantizers: dict[str, str]) -> str:
    """Return what is behind a DequantizeLinear and, where weights are stored as floats, its QuantizeLinear."""
    while name in quantizers:
        name = quantizers[name]
    return name


def _is_masked(weight: NDArray[np.generic]) -> bool:
    """Return whether an odd kernel is zero at its centre for all channels and not elsewhere: no training does that."""
    height, width = weight.shape[2:]
    if height % 2 == 0 or width % 2 == 0 or height * width == 1:
        return False
    return bool(weight.any() and not weight[:, :, height // 2, width // 2].any())


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Return the value of a node's attribute, or `default` where the node does not have it."""
    for attribute in node.attribute:
        if attribute.name == name:
            return onnx.helper.get_attribute_value(attribute)
    return default
