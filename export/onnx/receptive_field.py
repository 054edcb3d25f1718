"""Compute the receptive field of a graph: how far away an input pixel can change an output pixel."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from onnx import helper

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx

_POINTWISE = frozenset({"Relu", "Clip", "Add", "Sub", "Mul", "Concat", "QuantizeLinear", "DequantizeLinear", "Cast"})


@dataclass(frozen=True)
class ReceptiveField:
    """What a graph needs of the tiles that it is given."""

    halo_px: int
    """Largest distance, in input pixels, from an output pixel to an input pixel that it depends on."""
    multiple_of: int
    """Side of the blocks of input pixels that a network with strides treats as one."""


@dataclass(frozen=True)
class _Reach:
    """Element i of a tensor depends on the input pixels from `step` i + `first` to `step` i + `last`."""

    step: Fraction
    first: Fraction
    last: Fraction


def receptive_field(model: onnx.ModelProto) -> ReceptiveField | None:
    """Compute the receptive field of a float or QDQ graph; None for operators that are not known here.

    Rows and columns are followed together: of two different kernels, the larger one counts.
    """
    sizes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    reach = {model.graph.input[0].name: _Reach(Fraction(1), Fraction(0), Fraction(0))}
    largest = Fraction(1)
    for node in model.graph.node:
        known = [reach[name] for name in node.input if name in reach]
        if node.op_type == "DequantizeLinear" and not known:
            sizes[node.output[0]] = sizes.get(node.input[0], [])  # a quantized weight
            continue
        if not known:
            continue
        joined = _joined(known)
        if joined is None:
            return None
        if node.op_type == "Conv":
            found = _convolved(node, joined, sizes.get(node.input[1], []))
        elif node.op_type == "DepthToSpace":
            found = _spread(joined, int(_attribute(node, "blocksize", 1)))
        else:
            found = joined if node.op_type in _POINTWISE else None
        if found is None:
            return None
        largest = max(largest, found.step)
        reach[node.output[0]] = found
    output = reach.get(model.graph.output[0].name)
    if output is None or output.step != 1 or largest.denominator != 1:
        return None
    radius = max(-output.first, output.last, Fraction(0))
    return ReceptiveField(-(-radius.numerator // radius.denominator), int(largest))


def _joined(known: Iterable[_Reach]) -> _Reach | None:
    """Return what a node depends on whose inputs lie on one grid; None if they do not."""
    several = list(known)
    if len({one.step for one in several}) > 1:
        return None
    return _Reach(several[0].step, min(one.first for one in several), max(one.last for one in several))


def _convolved(node: onnx.NodeProto, before: _Reach, weight: list[int]) -> _Reach | None:
    if len(weight) != 4:
        return None
    strides, dilations = _attribute(node, "strides", [1, 1]), _attribute(node, "dilations", [1, 1])
    top, left, *_ = _attribute(node, "pads", [0, 0, 0, 0])
    if strides[0] != strides[1] or _attribute(node, "auto_pad", b"NOTSET") != b"NOTSET":
        return None
    spans = [dilation * (kernel - 1) for dilation, kernel in zip(dilations, weight[2:], strict=True)]
    behind = max(span - pad for span, pad in zip(spans, (top, left), strict=True))
    return _Reach(
        before.step * strides[0], before.first - before.step * max(top, left), before.last + before.step * behind
    )


def _spread(before: _Reach, block: int) -> _Reach:
    """Return the reach of the pixels that DepthToSpace makes of one element: they all depend on what it depends on."""
    step = before.step / block
    return _Reach(step, before.first - step * (block - 1), before.last)


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(one) for one in node.attribute if one.name == name), default)
