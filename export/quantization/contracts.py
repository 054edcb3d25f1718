"""Check QDQ graphs against the contract of their scheme: what parsers refuse, and what they compute wrongly.

The second kind is the reason for these rules: an engine is built and runs, and only the image shows the fault.
docs/concepts/schemes.md lists all rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedenoise.bundles.contents import damage_reported
from edgedenoise.calibration.schemes import SCHEMES
from edgedenoise.exporting.onnx.graph import lint, raise_problems
from edgedenoise.exporting.quantization.wiring import DEQUANTIZE, QUANTIZE, Wiring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import onnx
    from numpy.typing import NDArray

    from edgedenoise.bundles.manifest import Encoding
    from edgedenoise.calibration.schemes import Scheme

_ONNX_DEFAULT_AXIS = 1  # of both operators: a weight without the attribute is read along the wrong axis


@dataclass(frozen=True)
class Broken:
    """A rule that a graph breaks, and where."""

    rule: str
    what: str

    def __str__(self) -> str:
        """Return one sentence that ends with the name of the rule."""
        return f"{self.what} [{self.rule}]"


@dataclass(frozen=True)
class Rule:
    """One rule about QDQ graphs."""

    name: str
    why: str
    """What a backend does with a graph that breaks it."""
    check: Callable[[Wiring, Scheme], Iterator[str]]
    """Yields what breaks the rule, one sentence each."""


def broken_rules(model: onnx.ModelProto, scheme: Scheme) -> list[Broken]:
    """Return the rules of a scheme's contract that a graph breaks, in the order of `RULES`.

    Layers that are kept in float as a whole break no rule.

    Args:
        model: QDQ graph of the operators that the graph contract allows.
        scheme: what it was encoded for.
    """
    graph = Wiring.of(model)
    return [Broken(rule.name, what) for rule in RULES for what in rule.check(graph, scheme)]


@damage_reported("the ONNX graph")
def lint_encoded(model: onnx.ModelProto, encoding: Encoding) -> list[str]:
    """Return the problems of a quantized graph under the graph contract and under its scheme's contract.

    Args:
        model: a QDQ graph.
        encoding: what it was encoded for; the rules of a scheme that only a newer version knows are not checked.
    """
    problems = lint(model, quantized=True)
    if model.graph.input and model.graph.output:  # else there is nothing to follow
        known = [scheme for scheme in SCHEMES if scheme.name == encoding.scheme]
        problems += [str(broken) for scheme in known for broken in broken_rules(model, scheme)]
    return problems


def check_encoded(model: onnx.ModelProto, encoding: Encoding) -> None:
    """Check a quantized graph against both contracts; see `lint_encoded`.

    Raises:
        ExportError: the graph breaks a contract; the message names every problem.
    """
    import onnx

    onnx.checker.check_model(model)
    raise_problems(lint_encoded(model, encoding))


def _zero_point_present(graph: Wiring, _: Scheme) -> Iterator[str]:
    for node, _is_weight in graph.quantizers():
        if graph.parameter(node, 2) is None:
            yield f"{node.op_type} of {graph.tensor(node)} has no constant zero-point"


def _zero_point_type(graph: Wiring, scheme: Scheme) -> Iterator[str]:
    for node, is_weight in graph.quantizers():
        wanted = np.int8 if is_weight or scheme.activations == "s8" else np.uint8
        zero = graph.parameter(node, 2)
        if zero is not None and zero.dtype != wanted:
            yield f"{node.op_type} of {graph.tensor(node)} is {zero.dtype}; {scheme.name} wants {np.dtype(wanted)}"


def _symmetric(graph: Wiring, scheme: Scheme) -> Iterator[str]:
    for node, is_weight in graph.quantizers():
        zero = graph.parameter(node, 2)
        if (is_weight or scheme.activations == "s8") and zero is not None and zero.dtype == np.int8 and zero.any():
            yield f"{node.op_type} of {graph.tensor(node)} has the zero-point {zero.ravel()[0]}; it must be 0"


def _scale_constant(graph: Wiring, _: Scheme) -> Iterator[str]:
    for node, _is_weight in graph.quantizers():
        if graph.parameter(node, 1) is None:
            yield f"the scale of {graph.tensor(node)} is computed, not constant"


def _scale_positive(graph: Wiring, _: Scheme) -> Iterator[str]:
    for node, _is_weight in graph.quantizers():
        scale = graph.parameter(node, 1)
        if scale is not None and not (scale.dtype == np.float32 and np.isfinite(scale).all() and (scale > 0).all()):
            yield f"the scale of {graph.tensor(node)} must be float32, finite and above 0; found {_shown(scale)}"


def _scale_own(graph: Wiring, _: Scheme) -> Iterator[str]:
    users: dict[str, set[str]] = {}
    for node, is_weight in graph.quantizers():
        if is_weight or node.op_type == QUANTIZE:
            users.setdefault(str(node.input[1]), set()).add(graph.tensor(node))
    for name, tensors in users.items():
        if len(tensors) > 1:
            yield f"the constant {name} is the scale of several tensors: {', '.join(sorted(tensors))}"


def _pair_whole(graph: Wiring, _: Scheme) -> Iterator[str]:
    for node, is_weight in graph.quantizers():
        if node.op_type == QUANTIZE:
            strangers = [reader.op_type for reader in graph.readers_of(node) if reader.op_type != DEQUANTIZE]
            if strangers:
                yield f"the integers of {node.input[0]} are read by {', '.join(strangers)}, not by {DEQUANTIZE} alone"
        elif not is_weight and graph.made_by(node.input[0], QUANTIZE) is None:
            maker = graph.makers.get(node.input[0])
            if maker is None or all(graph.made_by(name, QUANTIZE) is None for name in maker.input):
                yield f"{node.input[0]} is dequantized but was never quantized"


def _pair_agrees(graph: Wiring, _: Scheme) -> Iterator[str]:
    for node in graph.of_type(DEQUANTIZE):
        before = graph.made_by(node.input[0], QUANTIZE)
        if before is None:
            continue
        for position, what in ((1, "scale"), (2, "zero-point")):
            one, other = graph.parameter(before, position), graph.parameter(node, position)
            # Another type is another rule's business.
            if one is not None and other is not None and one.dtype == other.dtype and not np.array_equal(one, other):
                yield f"{before.input[0]} is quantized and dequantized with different {what}s"


def _activation_per_tensor(graph: Wiring, _: Scheme) -> Iterator[str]:
    for node, is_weight in graph.quantizers():
        scale = graph.parameter(node, 1)
        if not is_weight and scale is not None and scale.size != 1:
            yield f"{node.op_type} of {graph.tensor(node)} has {scale.size} scales; activations have one"


def _weight_per_channel(graph: Wiring, _: Scheme) -> Iterator[str]:
    for node, weight in graph.weights():
        scale = graph.parameter(node, 1)
        if scale is not None and scale.shape != weight.shape[:1]:
            yield f"{graph.tensor(node)} has {_counted(scale)} for {weight.shape[0]} output channels"


def _weight_axis(graph: Wiring, _: Scheme) -> Iterator[str]:
    for node, is_weight in graph.quantizers():
        scale = graph.parameter(node, 1)
        axis = next((a.i for a in node.attribute if a.name == "axis"), _ONNX_DEFAULT_AXIS)
        if is_weight and scale is not None and scale.ndim and axis != 0:
            yield f"{node.op_type} of {graph.tensor(node)} counts channels along axis {axis}; a weight's are axis 0"


def _weight_form(graph: Wiring, scheme: Scheme) -> Iterator[str]:
    wanted = np.int8 if scheme.weights_as == "integers" else np.float32
    for node, weight in graph.weights():
        if weight.dtype != wanted:
            yield f"{graph.tensor(node)} is stored as {weight.dtype}; {scheme.name} wants {np.dtype(wanted)}"


def _weight_range(graph: Wiring, scheme: Scheme) -> Iterator[str]:
    limit = 2 ** (scheme.weight_bits - 1) - 1
    for node, weight in graph.weights():
        scale = graph.parameter(node, 1)
        integers = weight.astype(np.float64)
        if weight.dtype == np.float32:
            if scale is None or scale.shape != weight.shape[:1] or not (scale > 0).all():
                continue
            integers = np.rint(integers / scale.reshape(-1, 1, 1, 1))
        largest = int(np.abs(integers).max())
        if largest > limit:
            yield f"{graph.tensor(node)} reaches {largest} steps; {scheme.weight_bits}-bit weights end at {limit}"


def _conv_whole(graph: Wiring, _: Scheme) -> Iterator[str]:
    for node in graph.of_type("Conv"):
        data, weight = (graph.dequantizer(name) is not None for name in node.input[:2])
        if data != weight:
            yield f"of {node.output[0]} only the {'input' if data else 'weight'} is quantized; both or neither"


def _bias_float(graph: Wiring, _: Scheme) -> Iterator[str]:
    for node in graph.of_type("Conv"):
        for name in node.input[2:]:
            bias = graph.constants.get(name)
            if bias is None or bias.dtype != np.float32:
                yield f"the bias {graph.source(name)} of {node.output[0]} is not a constant of float32"


def _bias_on_grid(graph: Wiring, scheme: Scheme) -> Iterator[str]:
    for node in graph.of_type("Conv") if scheme.bias == "grid" else ():
        pairs = [graph.dequantizer(name) for name in node.input[:2]]
        scales = [None if pair is None else graph.parameter(pair, 1) for pair in pairs]
        bias = graph.constants.get(node.input[2]) if len(node.input) > 2 else None
        if bias is None or bias.dtype != np.float32 or scales[0] is None or scales[1] is None:
            continue
        if scales[0].size != 1 or scales[1].shape != bias.shape:
            continue
        grid = scales[0].astype(np.float64) * scales[1]
        steps = bias[grid > 0] / grid[grid > 0]
        # Float32 holds 24 bits: beyond that many steps, no value is nearer to the grid.
        if np.any(np.abs(steps - np.rint(steps)) > 1e-3 + np.abs(steps) * 2.0**-22):
            yield f"the bias {node.input[2]} does not lie on the grid of input scale times weight scale"


def _relu_fused(graph: Wiring, _: Scheme) -> Iterator[str]:
    for node in graph.of_type("Relu"):
        source = graph.source(node.input[0])
        if source != node.input[0] and graph.made_by(source, "Conv") is not None:
            yield f"a Q/DQ pair stands between the convolution {source} and its Relu"


def _sum_placement(graph: Wiring, scheme: Scheme) -> Iterator[str]:
    wanted = 2 if scheme.sums == "both" else 1
    for node in graph.of_type("Add"):
        if any(map(graph.is_image, node.input)):
            continue
        found = sum(graph.dequantizer(name) is not None for name in node.input)
        if found not in (0, wanted):
            yield f"{found} inputs of the Add {node.output[0]} are quantized; {scheme.name} wants {wanted} or none"


def _image_skip_float(graph: Wiring, _: Scheme) -> Iterator[str]:
    for node in graph.of_type("Add"):
        rounded = any(graph.dequantizer(name) is not None for name in (*node.input, *_sliced(graph, node)))
        if any(map(graph.is_image, node.input)) and rounded:
            yield f"the Add {node.output[0]} of image and residual reads 8-bit values"


def _sliced(graph: Wiring, node: onnx.NodeProto) -> Iterator[str]:
    """Yield what the Slices cut that a node reads."""
    for name in node.input:
        cut = graph.made_by(name, "Slice")
        if cut is not None:
            yield cut.input[0]


def _concat_placement(graph: Wiring, scheme: Scheme) -> Iterator[str]:
    for node in graph.of_type("Concat"):
        pairs = [pair for pair in map(graph.dequantizer, node.input) if pair is not None]
        if not pairs:
            continue
        if scheme.joins == "output":
            yield f"inputs of the Concat {node.output[0]} are quantized; {scheme.name} quantizes its output"
        elif len(pairs) < len(node.input):
            yield f"only {len(pairs)} of {len(node.input)} inputs of the Concat {node.output[0]} are quantized"
        elif any(_differ(graph, pairs[0], pair) for pair in pairs[1:]):
            yield f"the inputs of the Concat {node.output[0]} have different scales or zero-points"


def _output_float(graph: Wiring, _: Scheme) -> Iterator[str]:
    if graph.dequantizer(graph.output) is not None:
        yield f"the output {graph.output} is rounded to 8 bits"


def _differ(graph: Wiring, one: onnx.NodeProto, other: onnx.NodeProto) -> bool:
    found = [(graph.parameter(one, position), graph.parameter(other, position)) for position in (1, 2)]
    return any(a is not None and b is not None and not np.array_equal(a, b) for a, b in found)


def _shown(scale: NDArray[Any]) -> str:
    return f"{scale.dtype} from {scale.min()}"


def _counted(scale: NDArray[Any]) -> str:
    return "1 scale" if scale.size == 1 else f"{scale.size} scales"


RULES = (
    Rule("zero-point-present", "TensorRT refuses a pair without one; others assume uint8", _zero_point_present),
    Rule("zero-point-type", "TensorRT takes uint8 with zero-point 0 and silently halves its range", _zero_point_type),
    Rule("symmetric", "TensorRT and Core ML know no other; for weights, CPU kernels get slower", _symmetric),
    Rule(
        "scale-constant", "TensorRT's builder crashes on a scale that it cannot fold into a constant", _scale_constant
    ),
    Rule(
        "scale-positive",
        "a dead channel with scale 0 is refused by TensorRT, and divides by 0 elsewhere",
        _scale_positive,
    ),
    Rule("scale-own", "a backend that folds one tensor's scale away changes the other tensor's, too", _scale_own),
    Rule(
        "pair-whole",
        "an operator on integers is taken by parsers and computed on unscaled ones, or slowly",
        _pair_whole,
    ),
    Rule("pair-agrees", "every parser takes it; values come back multiplied or shifted", _pair_agrees),
    Rule("activation-per-tensor", "taken by TensorRT and computed wrongly; slow elsewhere", _activation_per_tensor),
    Rule(
        "weight-per-channel", "one scale for a whole weight loses the channels with small weights", _weight_per_channel
    ),
    Rule(
        "weight-axis",
        "taken where in and out channels are equally many, and every weight is scaled wrongly",
        _weight_axis,
    ),
    Rule(
        "weight-form",
        "every TensorRT from 8.5 on takes float weights; elsewhere they are four times the bytes",
        _weight_form,
    ),
    Rule(
        "weight-range",
        "8-bit weights in a 7-bit graph saturate on x86 without VNNI; -128 has no opposite",
        _weight_range,
    ),
    Rule("conv-whole", "half-quantized convolutions run in float, with conversions around them", _conv_whole),
    Rule("bias-float", "TensorRT refuses int32 biases", _bias_float),
    Rule(
        "bias-on-grid", "integer kernels round it there, and drift from exact arithmetic layer by layer", _bias_on_grid
    ),
    Rule("relu-fused", "the convolution and its Relu are not fused: an extra pass over memory", _relu_fused),
    Rule(
        "sum-placement",
        "the Add is not fused: with the convolution (TensorRT), or as an integer Add (CPUs)",
        _sum_placement,
    ),
    Rule("image-skip-float", "an 8-bit image by itself costs half a level", _image_skip_float),
    Rule("concat-placement", "the output of the Concat is rescaled: slower, and rounded twice", _concat_placement),
    Rule("output-float", "costs half a level and saves nothing", _output_float),
)
"""Every rule, in the order in which a graph is held to them."""
