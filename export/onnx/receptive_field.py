"""Compute the receptive field of a graph: how far away an input pixel can change an output pixel."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from edgedenoise.bundles.contents import damage_reported
from edgedenoise.exporting.onnx.graph import attribute

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx

_POINTWISE = frozenset(
    {"Relu", "Clip", "Add", "Sub", "Mul", "Concat", "QuantizeLinear", "DequantizeLinear", "Cast"}
    | {"Abs", "Div", "ReduceMean", "Slice", "Sqrt"}  # over channels: the contract of graphs checks that
)


@dataclass(frozen=True)
class ReceptiveField:
    """What a graph needs of the tiles that it is given."""

    halo_px: int
    """Largest distance, in input pixels, from an output pixel to an input pixel that it depends on."""
    multiple_of: int
    """Side of the blocks of input pixels that a network with strides treats as one."""
    reads_whole_image: bool = False
    """Whether the output depends on means of the whole image besides; the halo is that of all other paths."""


@dataclass(frozen=True)
class _Reach:
    """Element i of a tensor depends on the input pixels from `step` i + `first` to `step` i + `last`."""

    step: Fraction
    first: Fraction
    last: Fraction


@damage_reported("the ONNX graph")
def receptive_field(model: onnx.ModelProto) -> ReceptiveField | None:
    """Compute the receptive field of a float or QDQ graph; None for operators that are not known here.

    Rows and columns are followed together: of two different kernels, the larger one counts.
    """
    sizes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    reach = {model.graph.input[0].name: _Reach(Fraction(1), Fraction(0), Fraction(0))}
    largest = Fraction(1)
    pooled: set[str] = set()
    """Tensors that depend on means of the whole image alone, and have one pixel."""
    for node in model.graph.node:
        known = [reach[name] for name in node.input if name in reach]
        if node.op_type == "DequantizeLinear" and not known:
            sizes[node.output[0]] = sizes.get(node.input[0], [])  # a quantized weight
            continue
        if node.op_type == "GlobalAveragePool" or (not known and pooled.intersection(node.input)):
            pooled.update(node.output)
            continue
        if not known:
            continue
        joined = _joined(known)
        if joined is None:
            return None
        if node.op_type == "Conv":
            found = _convolved(node, joined, sizes.get(node.input[1], [])[2:])
        elif node.op_type in ("AveragePool", "MaxPool"):
            found = _convolved(node, joined, attribute(node, "kernel_shape", []))
        elif node.op_type == "DepthToSpace":
            found = _spread(joined, int(attribute(node, "blocksize", 1)))
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
    return ReceptiveField(-(-radius.numerator // radius.denominator), int(largest), bool(pooled))


def _joined(known: Iterable[_Reach]) -> _Reach | None:
    """Return what a node depends on whose inputs lie on one grid; None if they do not."""
    several = list(known)
    if len({one.step for one in several}) > 1:
        return None
    return _Reach(several[0].step, min(one.first for one in several), max(one.last for one in several))


def _convolved(node: onnx.NodeProto, before: _Reach, kernel: list[int]) -> _Reach | None:
    """Return the reach of a window that is moved over a tensor; None for kinds that are not known here."""
    if len(kernel) != 2:
        return None
    strides, dilations = attribute(node, "strides", [1, 1]), attribute(node, "dilations", [1, 1])
    top, left, *_ = attribute(node, "pads", [0, 0, 0, 0])
    if strides[0] != strides[1] or attribute(node, "auto_pad", b"NOTSET") != b"NOTSET":
        return None
    spans = [dilation * (side - 1) for dilation, side in zip(dilations, kernel, strict=True)]
    behind = max(span - pad for span, pad in zip(spans, (top, left), strict=True))
    return _Reach(
        before.step * strides[0], before.first - before.step * max(top, left), before.last + before.step * behind
    )


def _spread(before: _Reach, block: int) -> _Reach:
    """Return the reach of the pixels that DepthToSpace makes of one element: they all depend on what it depends on."""
    step = before.step / block
    return _Reach(step, before.first - step * (block - 1), before.last)
