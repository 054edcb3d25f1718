"""Rewrite the operators of a foreign graph as operators of the graph contract, so that every runtime takes the result.

The sides of the graph must be numbers while it is rewritten. No rewriting rests on a weight or a guess about a name,
and `import_onnx` compares the result with the original graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgedenoise.errors import ExportError
from edgedenoise.exporting.onnx.graph import FLOAT_OPERATORS, attribute, weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

_WHOLE_IMAGE: Final = frozenset(
    {"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "InstanceNormalization", "GroupNormalization", "Softmax"}
    | {"MatMul", "Gemm", "LayerNormalization", "LpNormalization", "Attention", "LSTM", "GRU"}
)
"""Operators by which a pixel depends on all others."""
_VIEWS: Final = frozenset({"Reshape", "Unsqueeze", "Squeeze"})
_RANK: Final = 4
_TILES_HINT: Final = "Images are denoised in tiles. Train the network without this layer, or with a local one."


class Rewriter:
    """The graph that is being written: nodes in order, and constants by name."""

    def __init__(self, model: onnx.ModelProto) -> None:
        """Begin with the constants of a model whose sides are numbers.

        Args:
            model: the model; it is not changed.
        """
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
        values = [*inferred.graph.input, *inferred.graph.output, *inferred.graph.value_info]
        self.shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
        """Sides of tensors, where they are known."""
        self.constants = weights(model)
        self.nodes: list[onnx.NodeProto] = []
        self.padding_moved = False
        """Whether a padding was replaced, which changes pixels near the border of the input."""
        self._makers = {name: node for node in self._model.graph.node for name in node.output}

    def rewrite(self) -> onnx.ModelProto:
        """Return the model with rewritten operators.

        Raises:
            ExportError: an operator cannot be rewritten; the message says why.
        """
        for node in self._model.graph.node:
            if node.op_type in _WHOLE_IMAGE:
                raise _reads_whole_image(node)
            rule = _RULES.get(node.op_type)
            if rule is not None:
                rule(self, node)
            else:
                self.nodes.append(node)
        result = onnx.ModelProto()
        result.CopyFrom(self._model)
        del result.graph.node[:], result.graph.initializer[:], result.graph.value_info[:]
        result.graph.node.extend(self._reached())
        used = {name for node in result.graph.node for name in node.input}
        result.graph.initializer.extend(
            numpy_helper.from_array(values, name) for name, values in self.constants.items() if name in used
        )
        return result

    def emit(self, op_type: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node, and return the name of its output."""
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, values: ArrayLike, kind: Any = np.float32) -> str:
        """Add a constant, and return its name."""
        self.constants[name] = np.asarray(values, kind)
        return name

    def affine(self, x: str, output: str, factors: NDArray[Any], offsets: NDArray[Any] | None = None) -> str:
        """Add a convolution that multiplies each channel by a factor and adds an offset."""
        channels = len(factors)
        inputs = [x, self.constant(f"{output}.weight", factors.reshape(channels, 1, 1, 1))]
        inputs.append(self.constant(f"{output}.bias", np.zeros(channels) if offsets is None else offsets))
        return self.emit("Conv", inputs, output, group=channels, kernel_shape=[1, 1])

    def scaled(self, x: str, output: str, factor: float) -> str:
        """Add a product with one number."""
        return self.emit("Mul", [x, self.constant(f"{output}.factor", factor)], output)

    def same(self, name: str, output: str) -> None:
        """Add nothing: let the readers of `output` read the tensor `name`; at the end of the graph, add zero."""
        if output in {value.name for value in self._model.graph.output}:
            self.affine(name, output, np.ones(self.channels(name)))
            return
        for node in self.readers(output):
            node.input[:] = [name if one == output else one for one in node.input]

    def channels(self, name: str) -> int:
        """Return the number of channels of a tensor."""
        return self.shape(name)[1]

    def shape(self, name: str) -> list[int]:
        """Return the sides of a tensor.

        Raises:
            ExportError: ONNX does not infer them.
        """
        shape = self.constants[name].shape if name in self.constants else self.shapes.get(name, [])
        if not shape or not all(shape):
            raise ExportError(f"the shape of the tensor {name} is not known: ONNX infers {list(shape) or 'none'}")
        return list(shape)

    def per_channel(self, name: str, channels: int) -> NDArray[Any] | None:
        """Return a constant that has one value per channel as (channels,); None for scalars and other constants."""
        values = self.constants.get(name)
        if values is None or values.size == 1:
            return None
        sides = (1,) * (_RANK - values.ndim) + values.shape
        return values.reshape(-1) if sides == (1, channels, 1, 1) else None

    def readers(self, name: str) -> list[onnx.NodeProto]:
        """Return the nodes that read a tensor, which may be changed."""
        return [node for node in self._model.graph.node if name in node.input]

    def source(self, name: str) -> str:
        """Return the image-like tensor that views and transpositions were made of."""
        while len(self.shape(name)) != _RANK:
            maker = self._makers.get(name)
            if maker is None or maker.op_type not in {*_VIEWS, "Transpose"}:
                raise ExportError(f"the tensor {name} has {len(self.shape(name))} dimensions; expected {_RANK}")
            name = maker.input[0]
        return name

    def _reached(self) -> list[onnx.NodeProto]:
        """Return the nodes that the output depends on, in order."""
        wanted = {value.name for value in self._model.graph.output}
        kept = []
        for node in reversed(self.nodes):
            if wanted.intersection(node.output):
                kept.append(node)
                wanted.update(node.input)
        return kept[::-1]


def _reads_whole_image(node: onnx.NodeProto) -> ExportError:
    return ExportError(
        f"the network cannot be tiled exactly: {node.op_type} ({node.output[0]}) makes every pixel depend on the whole"
        " image, so that a tile would have other pixels than the image",
        hint=_TILES_HINT,
    )


def _not_rewritten(node: onnx.NodeProto, what: str) -> ExportError:
    return ExportError(
        f"{node.op_type} ({node.output[0]}) {what}",
        hint="Operators that are taken: " + ", ".join(sorted({*FLOAT_OPERATORS, *_RULES})),
    )


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
        raise _not_rewritten(node, "is a power that is not rewritten; expected the exponent 2 or 0.5")


def _leaky(new: Rewriter, node: onnx.NodeProto) -> None:
    """Compute a rectifier with slope from two plain ones: relu(x) - slope * relu(-x)."""
    x, output = node.input[0], node.output[0]
    slopes = np.array([attribute(node, "alpha", 0.01)])
    if node.op_type == "PRelu":
        slopes = new.constants.get(node.input[1], np.empty(0)).reshape(-1)
        if slopes.size not in (1, new.channels(x)):
            raise _not_rewritten(node, "has a slope that is not one constant per channel")
    positive = new.emit("Relu", [x], f"{output}.positive")
    negative = new.emit("Relu", [new.scaled(x, f"{output}.negated", -1)], f"{output}.negative")
    if slopes.size == 1:
        sloped = new.scaled(negative, f"{output}.sloped", -slopes.item())
    else:
        sloped = new.affine(negative, f"{output}.sloped", -slopes)
    new.emit("Add", [positive, sloped], output)


def _transposed(new: Rewriter, node: onnx.NodeProto) -> None:
    """Make a convolution and a shuffle of a transposed convolution whose windows do not overlap."""
    weight = new.constants.get(node.input[1])
    strides = attribute(node, "strides", [1, 1])
    block = strides[0]
    plain = not any([*attribute(node, "pads", [0] * 4), *attribute(node, "output_padding", [0, 0])])
    if weight is None or not plain or list(weight.shape[2:]) != [block, block] or strides != [block, block]:
        raise _not_rewritten(node, "has overlapping windows; expected a kernel as large as the stride, without padding")
    if attribute(node, "group", 1) != 1 or attribute(node, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise _not_rewritten(node, "has groups or automatic padding, which are not rewritten")
    inputs, outputs = weight.shape[:2]
    name = node.output[0]
    kernel = weight.transpose(1, 2, 3, 0).reshape(outputs * block**2, inputs, 1, 1)
    names = [node.input[0], new.constant(f"{name}.weight", kernel)]
    if len(node.input) == 3:
        names.append(new.constant(f"{name}.bias", np.repeat(new.constants[node.input[2]], block**2)))
    spread = new.emit("Conv", names, f"{name}.blocks", kernel_shape=[1, 1])
    new.emit("DepthToSpace", [spread], name, blocksize=block, mode="CRD")


def _resize(new: Rewriter, node: onnx.NodeProto) -> None:
    """Repeat pixels: enlarging by a whole number, the nearest pixel."""
    before, after = new.shape(node.input[0]), new.shape(node.output[0])
    block = after[2] // before[2]
    if attribute(node, "mode", b"nearest") != b"nearest" or after != [
        *before[:2],
        before[2] * block,
        before[3] * block,
    ]:
        raise _not_rewritten(node, "is not an enlargement by a whole number with the nearest pixel")
    channels, name = before[1], node.output[0]
    weight = new.constant(f"{name}.weight", np.ones((channels * block**2, 1, 1, 1)))
    repeated = new.emit("Conv", [node.input[0], weight], f"{name}.blocks", group=channels, kernel_shape=[1, 1])
    new.emit("DepthToSpace", [repeated], name, blocksize=block, mode="CRD")


def _gathered(new: Rewriter, x: str, output: str, block: int, *, blocks_first: bool) -> None:
    """Make a convolution with stride that moves blocks of pixels to channels."""
    channels = new.channels(x)
    kernel = np.zeros((channels * block**2, channels, block, block))
    for channel, row, column in np.ndindex(channels, block, block):
        inside = row * block + column
        place = inside * channels + channel if blocks_first else channel * block**2 + inside
        kernel[place, channel, row, column] = 1
    weight = new.constant(f"{output}.weight", kernel)
    new.emit("Conv", [x, weight], output, kernel_shape=[block, block], strides=[block, block])


def _space_to_depth(new: Rewriter, node: onnx.NodeProto) -> None:
    _gathered(new, node.input[0], node.output[0], int(attribute(node, "blocksize", 1)), blocks_first=True)


def _view(new: Rewriter, node: onnx.NodeProto) -> None:
    """Recognize what reshapes and transpositions shuffle; what lies between is dropped."""
    after = new.shape(node.output[0])
    if len(after) != _RANK:
        return
    x = new.source(node.input[0])
    before = new.shape(x)
    if before == after:
        new.same(x, node.output[0])
    elif after[1] > before[1] and before[2] % after[2] == 0:
        _gathered(new, x, node.output[0], before[2] // after[2], blocks_first=False)
    elif after[2] > before[2] and after[2] % before[2] == 0:
        new.emit("DepthToSpace", [x], node.output[0], blocksize=after[2] // before[2], mode="CRD")
    else:
        raise _not_rewritten(node, f"turns {before} into {after}, which is not a shuffle of pixels")


def _expand(new: Rewriter, node: onnx.NodeProto) -> None:
    before, after = new.shape(node.input[0]), new.shape(node.output[0])
    if before == after:
        new.same(node.input[0], node.output[0])
    elif before[1] == 1 and [*before[:1], *before[2:]] == [*after[:1], *after[2:]]:
        weight = new.constant(f"{node.output[0]}.weight", np.ones((after[1], 1, 1, 1)))
        new.emit("Conv", [node.input[0], weight], node.output[0], kernel_shape=[1, 1])
    else:
        raise _not_rewritten(node, f"turns {before} into {after}; expected one channel to be repeated")


def _split(new: Rewriter, node: onnx.NodeProto) -> None:
    if attribute(node, "axis", 0) % _RANK != 1:
        raise _not_rewritten(node, "does not split channels")
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
    if len(axes) != 1 or axes[0] % _RANK != 1 or (len(rest) > 1 and rest[1] != [1]):
        raise _not_rewritten(node, f"turns {before} into {after}; expected neighbouring channels to be cut")
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
        raise _not_rewritten(node, "is a padding that no plain convolution reads alone")
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
    if axes is None or [axis % _RANK for axis in axes] != [1]:
        raise _reads_whole_image(node)
    if not attribute(node, "keepdims", 1):
        raise _not_rewritten(node, "drops the axis of the channels")
    new.emit("ReduceMean", [node.input[0]], node.output[0], axes=[1], keepdims=1)


def _negative(new: Rewriter, node: onnx.NodeProto) -> None:
    new.scaled(node.input[0], node.output[0], -1)


def _automatic(new: Rewriter, node: onnx.NodeProto) -> None:
    """State the padding of windows that have the size of the input."""
    automatic = attribute(node, "auto_pad", b"NOTSET")
    if automatic not in (b"SAME_UPPER", b"SAME_LOWER"):
        new.nodes.append(node)
        return
    if any(stride != 1 for stride in attribute(node, "strides", [1, 1])):
        raise _not_rewritten(node, "has a stride and automatic padding, which depends on the size of the image")
    spans = [d * (k - 1) for d, k in zip(attribute(node, "dilations", [1, 1]), _kernel(new, node), strict=True)]
    near = [span // 2 if automatic == b"SAME_UPPER" else span - span // 2 for span in spans]
    kept = {one.name: helper.get_attribute_value(one) for one in node.attribute if one.name != "auto_pad"}
    kept["pads"] = [*near, *(span - one for span, one in zip(spans, near, strict=True))]
    new.emit(node.op_type, list(node.input), node.output[0], **kept)


def _kernel(new: Rewriter, node: onnx.NodeProto) -> list[int]:
    return list(attribute(node, "kernel_shape", None) or new.shape(node.input[1])[2:])


_RULES: Final[dict[str, Callable[[Rewriter, onnx.NodeProto], None]]] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _arithmetic),
    **dict.fromkeys(("LeakyRelu", "PRelu"), _leaky),
    **dict.fromkeys(_VIEWS, _view),
    "BatchNormalization": _batch_norm,
    "Conv": _automatic,
    "ConvTranspose": _transposed,
    "Expand": _expand,
    "Identity": lambda new, node: new.same(node.input[0], node.output[0]),
    "Neg": _negative,
    "Pad": _pad,
    "Pow": _power,
    "ReduceMean": _reduce_mean,
    "Resize": _resize,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Transpose": _view,
}
