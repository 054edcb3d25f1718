"""Bring a foreign ONNX graph into the form of the graph contract.

ONNX Runtime's basic optimisation folds constants, removes what does nothing and joins normalizations with convolutions.
It runs on a graph whose sides are numbers, so that everything that is computed from the shape of the image becomes
constant. What is left is rewritten by `rewriting`, and the sides become symbolic.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
from onnx import TensorProto, helper

import edgedenoise
from edgedenoise.errors import ExportError, InferenceError
from edgedenoise.exporting.onnx.graph import IR_VERSION, OPSET, check_graph, with_own_constants
from edgedenoise.exporting.onnx.rewriter import Rewriter
from edgedenoise.exporting.onnx.rewriting import RULES
from edgedenoise.runtimes.base import CHANNELS, INPUT_NAME, OUTPUT_NAME
from edgedenoise.runtimes.noise_plane import SHIPPED
from edgedenoise.runtimes.onnxruntime.backend import open_inference_session, unfused_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

WORK_SIDES: Final = (128, 192)
"""Height and width while a graph of any size is cleaned: multiples of what networks divide sides by."""


@dataclass(frozen=True)
class ForeignInterface:
    """Input and output of a foreign graph."""

    input: str
    output: str
    channels: int
    sides: tuple[int | None, int | None]
    """Height and width; None where any is accepted."""

    @property
    def work_sides(self) -> tuple[int, int]:
        """Height and width to clean the graph at."""
        return self.sides[0] or WORK_SIDES[0], self.sides[1] or WORK_SIDES[1]


@dataclass(frozen=True)
class CleanedGraph:
    """A graph that obeys the graph contract."""

    model: onnx.ModelProto
    padding_moved: bool
    """Whether a padding of its own became zeros around convolutions, which changes pixels near the border."""


def foreign_interface(model: onnx.ModelProto) -> ForeignInterface:
    """Return what a foreign graph takes and gives.

    Raises:
        ExportError: it is not a network from one image of 3 channels, or 4 with the noise, to one image.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        found = ", ".join(value.name for value in inputs), ", ".join(value.name for value in model.graph.output)
        raise ExportError(
            f"the graph has the inputs ({found[0]}) and the outputs ({found[1]}); expected one of each: an image",
            hint="Export it again with the image as the only input and output.",
        )
    tensor = inputs[0].type.tensor_type
    dims = [dim.dim_value for dim in tensor.shape.dim]
    if (
        tensor.elem_type != TensorProto.FLOAT
        or len(dims) != 4
        or dims[0] > 1
        or dims[1] not in (CHANNELS, CHANNELS + 1)
    ):
        kind = TensorProto.DataType.Name(tensor.elem_type).lower()
        raise ExportError(
            f"the input {inputs[0].name} is {kind} {dims}; expected float [1, 3, height, width], or 4 channels where"
            " the fourth is the noise level",
            hint="Export it again in float32, with images in the layout NCHW.",
        )
    return ForeignInterface(inputs[0].name, model.graph.output[0].name, dims[1], (dims[2] or None, dims[3] or None))


def cleaned(
    model: onnx.ModelProto, interface: ForeignInterface, *, blended: bool = False, blend_command: str = ""
) -> CleanedGraph:
    """Return a foreign graph in the form of the graph contract.

    The fourth channel of a network that takes the noise is the standard deviation, with white as 1; the host's plane
    is a multiple of it, which a convolution in front of the network undoes. `blended` takes means of the whole image;
    `blend_command` is the command line that does, for hints.

    Raises:
        ExportError: it cannot be brought into that form; the message names the operator.
    """
    rewriter = Rewriter(_folded(_at_sides(_at_opset(model), interface)), blended=blended, blend_command=blend_command)
    result = _symbolic(rewriter.rewrite(RULES), interface)
    result = with_own_constants(result)
    check_graph(result)
    return CleanedGraph(result, rewriter.padding_moved)


def _at_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in opset 17 or later; later ones differ in nothing that is left when the graph is rewritten."""
    version = max((entry.version for entry in model.opset_import if not entry.domain), default=0)
    foreign = sorted({node.domain for node in model.graph.node if node.domain not in ("", "ai.onnx")})
    if foreign:
        raise ExportError(
            f"the graph has operators of {', '.join(foreign)}; expected operators of ONNX alone",
            hint="Export it again without optimisation for a runtime, and in float32.",
        )
    if version >= OPSET:
        return model
    try:
        return onnx.version_converter.convert_version(model, OPSET)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ExportError(
            f"the graph has opset {version}, and cannot be converted to {OPSET}: {reason}",
            hint=f"Export it again with opset {OPSET}.",
        ) from error


def _at_sides(model: onnx.ModelProto, interface: ForeignInterface) -> onnx.ModelProto:
    """Return a copy whose input has numbers as sides."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    constants = {tensor.name for tensor in model.graph.initializer}
    del result.graph.input[:], result.graph.output[:], result.graph.value_info[:]
    dims = [1, interface.channels, *interface.work_sides]
    result.graph.input.extend(value for value in model.graph.input if value.name in constants)
    result.graph.input.append(helper.make_tensor_value_info(interface.input, TensorProto.FLOAT, dims))
    result.graph.output.append(helper.make_tensor_value_info(interface.output, TensorProto.FLOAT, None))
    return result


def _folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph after ONNX Runtime's basic optimisation.

    Raises:
        ExportError: ONNX Runtime cannot open it.
    """
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        settings = unfused_settings()
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        settings.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        try:
            open_inference_session(model.SerializeToString(), settings)
        except InferenceError as error:
            raise ExportError(f"ONNX Runtime cannot read the graph: {error.message}", hint=error.hint) from error
        return onnx.load(settings.optimized_model_filepath)


def _symbolic(model: onnx.ModelProto, interface: ForeignInterface) -> onnx.ModelProto:
    """Return the rewritten graph with the names, the sides and the versions of the graph contract."""
    names = {interface.input: INPUT_NAME, interface.output: OUTPUT_NAME}
    nodes, constants = [], list(model.graph.initializer)
    if interface.channels > CHANNELS:
        names[interface.input] = "network.image"
        weight = np.diag([1, 1, 1, 1 / SHIPPED.gain]).astype(np.float32).reshape(4, 4, 1, 1)
        constants.append(onnx.numpy_helper.from_array(weight, "network.image.weight"))
        nodes.append(helper.make_node("Conv", [INPUT_NAME, "network.image.weight"], ["network.image"]))
    for old in model.graph.node:
        node = helper.make_node(
            old.op_type,
            [_renamed(name, names) for name in old.input],
            [_renamed(name, names) for name in old.output if name][:1],
        )
        node.attribute.extend(old.attribute)
        nodes.append(node)
    for tensor in constants:
        tensor.name = _renamed(tensor.name, names)
    for node in nodes:
        node.name = node.output[0]
    sides = ["height", "width"]
    graph = helper.make_graph(
        nodes,
        "denoiser",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, [1, interface.channels, *sides])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, [1, CHANNELS, *sides])],
        constants,
    )
    return helper.make_model(
        graph,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="edgedenoise",
        producer_version=edgedenoise.__version__,
    )


def _renamed(name: str, names: Mapping[str, str]) -> str:
    """Return the new name of a tensor; one that would collide with a name of the contract gets another."""
    if name in names:
        return names[name]
    return f"{name}.inner" if name in (INPUT_NAME, OUTPUT_NAME) else name
