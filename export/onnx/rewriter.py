"""What every rule of `rewriting` builds with: the graph that is being written, and the errors of what is not taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgedenoise.errors import ExportError
from edgedenoise.exporting.onnx.graph import weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_WHOLE_IMAGE: Final = frozenset(
    {"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "InstanceNormalization", "GroupNormalization"}
    | {"Attention", "LSTM", "GRU"}
)
"""Operators by which a pixel depends on all others."""
_MEAN: Final = "GlobalAveragePool"
"""The one among them that is taken where tiles are blended."""
VIEWS: Final = frozenset({"Reshape", "Unsqueeze", "Squeeze"})
"""Operators that only change how many dimensions there are."""
RANK: Final = 4
"""Dimensions of an image-like tensor."""
_TILES_HINT: Final = (
    "Images are denoised in tiles. Train the network without this layer, or with a local one; or accept tiles that are"
    " blended and not exact"
)
_NOT_BLENDED_HINT: Final = "--tiling blend takes means of each channel over the whole image alone, as in NAFNet."


class Rewriter:
    """The graph that is being written: nodes in order, and constants by name."""

    def __init__(self, model: onnx.ModelProto, *, blended: bool = False, blend_command: str = "") -> None:
        """Begin with the constants of a model whose sides are numbers.

        Args:
            model: the model; it is not changed.
            blended: whether means of the whole image are taken, because tiles will be blended.
            blend_command: command line that accepts blended tiles, for hints.
        """
        self.blended = blended
        self._whole_image_hint = _NOT_BLENDED_HINT if blended else f"{_TILES_HINT}: {blend_command}"
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

    def rewrite(self, rules: Mapping[str, Rule]) -> onnx.ModelProto:
        """Return the model with rewritten operators.

        Args:
            rules: what adds the nodes that replace one, by the operator; others are kept.

        Raises:
            ExportError: an operator cannot be rewritten; the message says why.
        """
        for node in self._model.graph.node:
            if node.op_type in _WHOLE_IMAGE and not (self.blended and node.op_type == _MEAN):
                raise self.reads_whole_image(node)
            rule = rules.get(node.op_type)
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
        sides = (1,) * (RANK - values.ndim) + values.shape
        return values.reshape(-1) if sides == (1, channels, 1, 1) else None

    def readers(self, name: str) -> list[onnx.NodeProto]:
        """Return the nodes that read a tensor, which may be changed."""
        return [node for node in self._model.graph.node if name in node.input]

    def source(self, name: str) -> str:
        """Return the image-like tensor that views and transpositions were made of."""
        while len(self.shape(name)) != RANK:
            maker = self._makers.get(name)
            if maker is None or maker.op_type not in {*VIEWS, "Transpose"}:
                raise ExportError(f"the tensor {name} has {len(self.shape(name))} dimensions; expected {RANK}")
            name = maker.input[0]
        return name

    def reads_whole_image(self, node: onnx.NodeProto) -> ExportError:
        """Return the error of an operator that tiles would change."""
        return ExportError(
            f"the network cannot be tiled exactly: {node.op_type} ({node.output[0]}) makes every pixel depend on the"
            " whole image, so that a tile would have other pixels than the image",
            hint=self._whole_image_hint,
        )

    def _reached(self) -> list[onnx.NodeProto]:
        """Return the nodes that the output depends on, in order."""
        wanted = {value.name for value in self._model.graph.output}
        kept = []
        for node in reversed(self.nodes):
            if wanted.intersection(node.output):
                kept.append(node)
                wanted.update(node.input)
        return kept[::-1]


def not_rewritten(node: onnx.NodeProto, what: str) -> ExportError:
    """Return the error of an operator that is not taken; `what` completes the sentence after its name."""
    return ExportError(
        f"{node.op_type} ({node.output[0]}) {what}",
        hint="Export the network with operators that docs/guides/bring-your-own.md lists.",
    )


Rule: TypeAlias = Callable[[Rewriter, onnx.NodeProto], None]
"""Adds the nodes that replace a node."""
