"""Rewrite the operators of a foreign graph as operators of the graph contract, so that every runtime takes the result.

The sides of the graph must be numbers while it is rewritten. No rewriting rests on a weight or a guess about a name,
and `import_onnx` compares the result with the original graph.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
from onnx import helper

from edgedenoise.exporting.onnx.graph import attribute
from edgedenoise.exporting.onnx.rewriter import RANK, VIEWS, Rewriter, Rule, not_rewritten
from edgedenoise.exporting.onnx.shuffles import expand, resize, space_to_depth, transposed, view


def _batch_norm(new: Rewriter, node: onnx.NodeProto) -> None:
    scale, offset, mean, variance = (new.constants[name].astype(np.float64) for name in node.input[1:])
    factors = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    new.affine(node.input[0], node.output[0], factors, offset - mean * factors)


def _arithmetic(new: Rewriter, node: onnx.NodeProto) -> None:
    """Make convolutions of constants with one value per channel."""
    for position, name in enumerate(node.input):
        other = node.input[1 - position]
        if other in new.constants or name not in new.constants:
            continue
        values = new.per_channel(name, new.channels(other))
        if values is None or (node.op_type == "Div" and position == 0):
            continue
        ones = np.ones(len(values))
        factors, offsets = {
            "Mul": (values, None),
            "Div": (1 / values, None),
            "Add": (ones, values),
            "Sub": (-ones, values) if position == 0 else (ones, -values),
        }[node.op_type]
        new.affine(other, node.output[0], factors, offsets)
        return
    new.nodes.append(node)


def _power(new: Rewriter, node: onnx.NodeProto) -> None:
    exponent = new.constants.get(node.input[1])
    x, output = node.input[0], node.output[0]
    if exponent is not None and exponent.size == 1 and exponent.item() == 2:
        new.emit("Mul", [x, x], output)
    elif exponent is not None and exponent.size == 1 and exponent.item() == 0.5:
        new.emit("Sqrt", [x], output)
    else:
        raise not_rewritten(node, "is a power that is not rewritten; expected the exponent 2 or 0.5")


def _leaky(new: Rewriter, node: onnx.NodeProto) -> None:
    """Compute a rectifier with slope from two plain ones: relu(x) - slope * relu(-x)."""
    x, output = node.input[0], node.output[0]
    slopes = np.array([attribute(node, "alpha", 0.01)])
    if node.op_type == "PRelu":
        slopes = new.constants.get(node.input[1], np.empty(0)).reshape(-1)
        if slopes.size not in (1, new.channels(x)):
            raise not_rewritten(node, "has a slope that is not one constant per channel")
    positive = new.emit("Relu", [x], f"{output}.positive")
    negative = new.emit("Relu", [new.scaled(x, f"{output}.negated", -1)], f"{output}.negative")
    if slopes.size == 1:
        sloped = new.scaled(negative, f"{output}.sloped", -slopes.item())
    else:
        sloped = new.affine(negative, f"{output}.sloped", -slopes)
    new.emit("Add", [positive, sloped], output)


def _split(new: Rewriter, node: onnx.NodeProto) -> None:
    if attribute(node, "axis", 0) % RANK != 1:
        raise not_rewritten(node, "does not split channels")
    start = 0
    for name in node.output:
        stop = start + new.channels(name)
        _cut(new, node.input[0], name, start, stop)
        start = stop


def _slice(new: Rewriter, node: onnx.NodeProto) -> None:
    before, after = new.shape(node.input[0]), new.shape(node.output[0])
    if before == after:
        new.same(node.input[0], node.output[0])
        return
    starts, _, *rest = (new.constants[name].tolist() for name in node.input[1:])
    axes = rest[0] if rest else list(range(len(starts)))
    if len(axes) != 1 or axes[0] % RANK != 1 or (len(rest) > 1 and rest[1] != [1]):
        raise not_rewritten(node, f"turns {before} into {after}; expected neighbouring channels to be cut")
    start = starts[0] % before[1]
    _cut(new, node.input[0], node.output[0], start, start + after[1])


def _cut(new: Rewriter, x: str, output: str, start: int, stop: int) -> None:
    numbers = {"start": start, "stop": stop, "axis": 1, "step": 1}
    new.emit("Slice", [x, *(new.constant(f"{output}.{k}", [v], np.int64) for k, v in numbers.items())], output)


def _pad(new: Rewriter, node: onnx.NodeProto) -> None:
    """Move a padding into the convolutions that read it: the host's margins hide what differs."""
    pads = new.constants[node.input[1]].tolist()
    if not any(pads):
        new.same(node.input[0], node.output[0])
        return
    readers = new.readers(node.output[0])
    plain = all(r.op_type == "Conv" and not any(attribute(r, "pads", [0] * 4)) for r in readers)
    if (len(node.input) > 3 and node.input[3]) or len(pads) != 8 or any(pads[:2] + pads[4:6]) or min(pads) < 0:
        plain = False
    if not plain or not readers:
        raise not_rewritten(node, "is a padding that no plain convolution reads alone")
    for reader in readers:
        kept = [one for one in reader.attribute if one.name not in ("pads", "auto_pad")]
        del reader.attribute[:]
        reader.attribute.extend([*kept, helper.make_attribute("pads", [*pads[2:4], *pads[6:8]])])
        reader.input[0] = node.input[0]
    new.padding_moved = True


def _reduce_mean(new: Rewriter, node: onnx.NodeProto) -> None:
    axes = attribute(node, "axes", None)
    if len(node.input) == 2:  # since opset 18
        axes = new.constants[node.input[1]].tolist()
    if new.blended and axes is not None and sorted(axis % RANK for axis in axes) == [2, 3]:
        if not attribute(node, "keepdims", 1):
            raise not_rewritten(node, "drops the sides of the image")
        new.emit("GlobalAveragePool", [node.input[0]], node.output[0])
        return
    if axes is None or [axis % RANK for axis in axes] != [1]:
        raise new.reads_whole_image(node)
    if not attribute(node, "keepdims", 1):
        raise not_rewritten(node, "drops the axis of the channels")
    new.emit("ReduceMean", [node.input[0]], node.output[0], axes=[1], keepdims=1)


def _softmax(new: Rewriter, node: onnx.NodeProto) -> None:
    if attribute(node, "axis", -1) % RANK != 1:
        raise new.reads_whole_image(node)
    raise not_rewritten(node, "is not taken")


def _negative(new: Rewriter, node: onnx.NodeProto) -> None:
    new.scaled(node.input[0], node.output[0], -1)


def _automatic(new: Rewriter, node: onnx.NodeProto) -> None:
    """State the padding of windows that have the size of the input."""
    automatic = attribute(node, "auto_pad", b"NOTSET")
    if automatic not in (b"SAME_UPPER", b"SAME_LOWER"):
        new.nodes.append(node)
        return
    if any(stride != 1 for stride in attribute(node, "strides", [1, 1])):
        raise not_rewritten(node, "has a stride and automatic padding, which depends on the size of the image")
    spans = [d * (k - 1) for d, k in zip(attribute(node, "dilations", [1, 1]), _kernel(new, node), strict=True)]
    near = [span // 2 if automatic == b"SAME_UPPER" else span - span // 2 for span in spans]
    kept = {one.name: helper.get_attribute_value(one) for one in node.attribute if one.name != "auto_pad"}
    kept["pads"] = [*near, *(span - one for span, one in zip(spans, near, strict=True))]
    new.emit(node.op_type, list(node.input), node.output[0], **kept)


def _kernel(new: Rewriter, node: onnx.NodeProto) -> list[int]:
    return list(attribute(node, "kernel_shape", None) or new.shape(node.input[1])[2:])


RULES: Final[dict[str, Rule]] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _arithmetic),
    **dict.fromkeys(("LeakyRelu", "PRelu"), _leaky),
    **dict.fromkeys(VIEWS, view),
    "BatchNormalization": _batch_norm,
    "Conv": _automatic,
    "ConvTranspose": transposed,
    "Expand": expand,
    "Identity": lambda new, node: new.same(node.input[0], node.output[0]),
    "Neg": _negative,
    "Pad": _pad,
    "Pow": _power,
    "ReduceMean": _reduce_mean,
    "Resize": resize,
    "Slice": _slice,
    "Softmax": _softmax,
    "SpaceToDepth": space_to_depth,
    "Split": _split,
    "Transpose": view,
}
"""What adds the nodes that replace one, by the operator."""
