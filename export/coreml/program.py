"""Translate ONNX graphs that obey the graph contract to Core ML programs: one function per operator, in one table.

Float and QDQ graphs are built with the MIL builder of coremltools, so that the program has the scales and the integers
of the graph. docs/guides/iphone.md lists the operators of the program and the units that run them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedenoise.errors import ExportError
from edgedenoise.exporting.onnx.graph import weights
from edgedenoise.runtimes.base import INPUT_NAME, OUTPUT_NAME

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx
    from numpy.typing import NDArray

_SMALLEST_SCALE = 2.0**-14
"""Below this, float16 numbers lose bits: a scale that small would change what the integers mean."""


@dataclass
class Translation:
    """What is known while a graph is walked: the values of constants, and the program's variables."""

    builder: Any
    """coremltools' `Builder`."""
    constants: dict[str, NDArray[Any]]
    variables: dict[str, Any]
    last: str
    """What the graph's output is called in the program."""

    def read(self, name: str) -> Any:
        """Return a variable, or the value of a constant."""
        return self.variables[name] if name in self.variables else self.constants[name]

    def named(self, node: onnx.NodeProto) -> str:
        """Return what a node's result is called in the program."""
        return self.last if node.output[0] == OUTPUT_NAME else node.output[0].replace(".", "_")


def to_program(model: onnx.ModelProto, shape: tuple[Any, ...], target: Any, *, to_bytes: bool = False) -> Any:
    """Return a Core ML program (MIL, before coremltools' own passes) that computes what a graph does.

    Args:
        model: float graph, or QDQ graph of the scheme `coreml`.
        shape: (1, 3 or 4, height, width), sides numbers or symbols.
        target: of `coremltools.target`.
        to_bytes: answer 0 to 255 instead of 0 to 1, which is what an image output wants.

    Raises:
        ExportError: the graph has an operator that is not translated, or a scale that float16 cannot hold.
    """
    from coremltools.converters.mil import Builder

    constants = weights(model)

    @Builder.program(input_specs=[Builder.TensorSpec(shape=shape)], opset_version=target)  # type: ignore[untyped-decorator]
    def program(image: Any) -> Any:
        known = Translation(Builder, constants, {INPUT_NAME: image}, f"{OUTPUT_NAME}_unit" if to_bytes else OUTPUT_NAME)
        for node in model.graph.node:
            translate = OPERATORS.get(node.op_type)
            if translate is None:
                raise ExportError(
                    f"the operator {node.op_type} ({node.output[0]}) is not translated to Core ML; translated are"
                    f" {', '.join(OPERATORS)}"
                )
            known.variables[node.output[0]] = translate(known, node)
        answer = known.read(OUTPUT_NAME)
        return Builder.mul(x=answer, y=np.float32(255), name=OUTPUT_NAME) if to_bytes else answer

    return program


def _conv(known: Translation, node: onnx.NodeProto) -> Any:
    attributes = _attributes(node)
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    given = {"bias": known.read(node.input[2])} if len(node.input) == 3 else {}
    return known.builder.conv(
        x=known.read(node.input[0]),
        weight=known.read(node.input[1]),
        strides=attributes.get("strides", [1, 1]),
        dilations=attributes.get("dilations", [1, 1]),
        groups=attributes.get("group", 1),
        pad_type="custom",
        pad=[top, bottom, left, right],
        name=known.named(node),
        **given,
    )


def _relu(known: Translation, node: onnx.NodeProto) -> Any:
    return known.builder.relu(x=known.read(node.input[0]), name=known.named(node))


def _abs(known: Translation, node: onnx.NodeProto) -> Any:
    return known.builder.abs(x=known.read(node.input[0]), name=known.named(node))


def _average_pool(known: Translation, node: onnx.NodeProto) -> Any:
    attributes = _attributes(node)
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    return known.builder.avg_pool(
        x=known.read(node.input[0]),
        kernel_sizes=attributes["kernel_shape"],
        strides=attributes.get("strides", [1, 1]),
        pad_type="custom",
        pad=[top, bottom, left, right],
        exclude_padding_from_average=not attributes.get("count_include_pad", 0),
        name=known.named(node),
    )


def _max_pool(known: Translation, node: onnx.NodeProto) -> Any:
    attributes = _attributes(node)
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    return known.builder.max_pool(
        x=known.read(node.input[0]),
        kernel_sizes=attributes["kernel_shape"],
        strides=attributes.get("strides", [1, 1]),
        pad_type="custom",
        pad=[top, bottom, left, right],
        name=known.named(node),
    )


def _sqrt(known: Translation, node: onnx.NodeProto) -> Any:
    return known.builder.sqrt(x=known.read(node.input[0]), name=known.named(node))


def _reduce_mean(known: Translation, node: onnx.NodeProto) -> Any:
    attributes = _attributes(node)
    return known.builder.reduce_mean(
        x=known.read(node.input[0]),
        axes=attributes["axes"],
        keep_dims=bool(attributes.get("keepdims", 1)),
        name=known.named(node),
    )


def _global_average_pool(known: Translation, node: onnx.NodeProto) -> Any:
    return known.builder.reduce_mean(x=known.read(node.input[0]), axes=[2, 3], keep_dims=True, name=known.named(node))


def _slice(known: Translation, node: onnx.NodeProto) -> Any:
    """Cut channels, the only axis that the graph contract allows."""
    x = known.read(node.input[0])
    start, stop = (int(known.constants[name].item()) for name in node.input[1:3])
    stop = min(stop, x.shape[1])
    others = [True, False, True, True]
    return known.builder.slice_by_index(
        x=x, begin=[0, start, 0, 0], end=[0, stop, 0, 0], begin_mask=others, end_mask=others, name=known.named(node)
    )


def _concat(known: Translation, node: onnx.NodeProto) -> Any:
    values = [known.read(name) for name in node.input]
    return known.builder.concat(values=values, axis=_attributes(node)["axis"], name=known.named(node))


def _depth_to_space(known: Translation, node: onnx.NodeProto) -> Any:
    attributes = _attributes(node)
    x, block = known.read(node.input[0]), attributes["blocksize"]
    if attributes.get("mode", b"DCR") == b"CRD":
        return known.builder.pixel_shuffle(x=x, upscale_factor=block, name=known.named(node))
    return known.builder.depth_to_space(x=x, block_size=block, name=known.named(node))


def _clip(known: Translation, node: onnx.NodeProto) -> Any:
    low, high = (float(known.constants[name]) for name in node.input[1:3])
    return known.builder.clip(x=known.read(node.input[0]), alpha=low, beta=high, name=known.named(node))


def _arithmetic(operator: str) -> Callable[[Translation, onnx.NodeProto], Any]:
    def translate(known: Translation, node: onnx.NodeProto) -> Any:
        x, y = (known.read(name) for name in node.input)
        return getattr(known.builder, operator)(x=x, y=y, name=known.named(node))

    return translate


def _quantize(known: Translation, node: onnx.NodeProto) -> Any:
    scale = _scale(known, node)
    return known.builder.quantize(
        input=known.read(node.input[0]), scale=scale, output_dtype="int8", name=known.named(node)
    )


def _dequantize(known: Translation, node: onnx.NodeProto) -> Any:
    scale = _scale(known, node)
    if node.input[0] in known.variables:
        return known.builder.dequantize(input=known.read(node.input[0]), scale=scale, name=known.named(node))
    return known.builder.constexpr_affine_dequantize(
        quantized_data=known.constants[node.input[0]],
        scale=scale,
        zero_point=np.int8(0),
        axis=np.int32(_attributes(node).get("axis", 0)),
        name=known.named(node),
    )


OPERATORS: dict[str, Callable[[Translation, onnx.NodeProto], Any]] = {
    "Conv": _conv,
    "Relu": _relu,
    "Add": _arithmetic("add"),
    "Sub": _arithmetic("sub"),
    "Mul": _arithmetic("mul"),
    "Div": _arithmetic("real_div"),
    "Abs": _abs,
    "Sqrt": _sqrt,
    "AveragePool": _average_pool,
    "MaxPool": _max_pool,
    "ReduceMean": _reduce_mean,
    "GlobalAveragePool": _global_average_pool,
    "Slice": _slice,
    "Concat": _concat,
    "DepthToSpace": _depth_to_space,
    "Clip": _clip,
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
}
"""ONNX operator -> what translates it: all that the graph contract allows (docs/concepts/architecture.md)."""


def _scale(known: Translation, node: onnx.NodeProto) -> NDArray[np.float32]:
    scale = np.asarray(known.constants[node.input[1]], np.float32)
    if not (scale >= _SMALLEST_SCALE).all():
        raise ExportError(
            f"the scale of {node.input[0]} is {scale.min():.2g}; Core ML computes in float16 between integers, which"
            f" holds scales from {_SMALLEST_SCALE:.2g} on exactly enough",
            hint="Build it with --precision fp16 instead.",
        )
    return scale


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    import onnx

    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
