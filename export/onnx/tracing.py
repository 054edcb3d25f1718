"""Trace a PyTorch module to an ONNX graph of the graph contract.

torch.export traces the graph with symbolic height and width. The graph is then brought to the opset and IR version of
the graph contract, each layer gets constants of its own, and the result is checked.
"""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx
import onnxscript  # noqa: F401  (torch's exporter needs it and reports its absence as a failed export)
import torch

import edgedenoise
from edgedenoise.errors import ExportError
from edgedenoise.exporting.onnx.graph import IR_VERSION, OPSET, check_graph, weights, with_own_constants
from edgedenoise.runtimes.base import CHANNELS, INPUT_NAME, OUTPUT_NAME
from edgedenoise.runtimes.onnxruntime.reference import Reference
from edgedenoise.training.networks.guard import Guarded
from edgedenoise.training.networks.students import EdgeNetwork, fold

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from edgedenoise.exporting.onnx.parity import Answer
    from edgedenoise.training.networks.families import NetworkSpec

_TRACE_SIDE_PX = 64
_TRACED_OPSET = 18
"""Opset that torch exports to. The allowed operators are the same in opset 17, but for the axes of ReduceMean."""


class NonBlind(torch.nn.Module):
    """The path that devices run: every mask open, every training branch folded."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = fold(network)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, 3, H, W)."""
        result: torch.Tensor = self.network(image)
        return result


def deployed(network: torch.nn.Module, spec: NetworkSpec, *, guard: bool = True) -> NonBlind | Guarded:
    """Return the module that devices run, in evaluation mode.

    Args:
        network: the trained network.
        spec: its description.
        guard: whether a network that takes a noise level is followed by the guard; others have none.
    """
    plain = NonBlind(network).eval()
    if guard and spec.level_planes and isinstance(plain.network, EdgeNetwork):
        return Guarded(plain.network).eval()
    return plain


@dataclass(frozen=True)
class Trace:
    """The ONNX graph of a module, and which layer of the module each tensor comes from."""

    model: onnx.ModelProto
    layers: dict[str, str]
    """Name of a tensor in the graph -> path of the layer that computes it, for example `network.tail1`."""


def trace(module: torch.nn.Module, channels: int = CHANNELS) -> Trace:
    """Return the ONNX graph of a module that maps (1, C, H, W) to (1, 3, H, W); it obeys the graph contract.

    Args:
        module: the network.
        channels: number of input channels.

    Raises:
        ExportError: the exporter fails, or leaves an operator that is not allowed.
    """
    example = torch.randn(1, channels, _TRACE_SIDE_PX, _TRACE_SIDE_PX + 8, generator=torch.Generator().manual_seed(0))
    sides = {2: torch.export.Dim("height", min=2), 3: torch.export.Dim("width", min=2)}
    program = _exported(module, (example,), dynamic_shapes={"image": sides})
    layers = _layers(program.exported_program)
    model = with_own_constants(at_contract_opset(_cleaned(program.model_proto)), layers)
    check_graph(model)
    return Trace(model, layers)


def program_graph(program: torch.export.ExportedProgram) -> onnx.ModelProto:
    """Return the ONNX graph of a torch.export program as torch writes it, in any operators.

    Raises:
        ExportError: the exporter fails.
    """
    model: onnx.ModelProto = _exported(program).model_proto
    return model


def _exported(
    network: torch.nn.Module | torch.export.ExportedProgram, example: tuple[torch.Tensor, ...] = (), **options: Any
) -> Any:
    """Return what torch.onnx exports of a network, with a `model_proto` and an `exported_program`.

    Raises:
        ExportError: the exporter fails.
    """
    try:
        with _quiet("torch.onnx"), _quiet("onnxscript"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside the exporter itself
            found = torch.onnx.export(
                network,
                example,
                dynamo=True,
                opset_version=_TRACED_OPSET,
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                external_data=False,
                verbose=False,
                **options,
            )
    except Exception as error:
        raise ExportError(f"torch could not export the network: {type(error).__name__}: {error}") from error
    if found is None or found.exported_program is None:  # only with export options that are not used here
        raise ExportError("torch exported nothing")
    return found


def _layers(program: torch.export.ExportedProgram) -> dict[str, str]:
    """Return the path of the layer that computes each tensor; ONNX tensors have the names of these nodes."""
    layers: dict[str, str] = {}
    for node in program.graph.nodes:
        stack = node.meta.get("nn_module_stack")
        if node.op == "call_function" and stack:
            layers[node.name] = next(reversed(stack.values()))[0]
        elif node.op == "output":  # the last tensor has the name of the output
            for last in node.all_input_nodes:
                if last.name in layers:
                    layers[OUTPUT_NAME] = layers[last.name]
    return layers


def at_contract_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a traced graph in the opset of the graph contract.

    Raises:
        ExportError: torch exported to an opset that is not `_TRACED_OPSET`.
    """
    found = {(entry.domain, entry.version) for entry in model.opset_import}
    if ("", _TRACED_OPSET) not in found:
        raise ExportError(f"expected a graph of opset {_TRACED_OPSET} from torch, got {sorted(found)}")
    result = onnx.ModelProto()
    result.CopyFrom(model)
    constants = weights(model)
    for node in result.graph.node:
        if node.op_type == "ReduceMean" and len(node.input) == 2:  # the axes became an input in opset 18
            axes = constants[node.input[1]].tolist()
            kept = [attribute for attribute in node.attribute if attribute.name == "keepdims"]
            del node.input[1], node.attribute[:]
            node.attribute.extend([*kept, onnx.helper.make_attribute("axes", axes)])
    next(entry for entry in result.opset_import if not entry.domain).version = OPSET
    return result


def module_answers(module: torch.nn.Module, dtype: torch.dtype) -> Answer:
    """Return a function that runs a module, whose weights are of `dtype`, on arrays (1, C, H, W)."""

    def answer(x: NDArray[np.float32]) -> NDArray[np.floating]:
        with torch.inference_mode():
            result: NDArray[np.floating] = module(torch.from_numpy(x).to(dtype)).numpy()
        return result

    return answer


def graph_answers(model: onnx.ModelProto) -> Answer:
    """Return a function that runs a graph of the graph contract on arrays (1, C, H, W)."""
    reference = Reference(model.SerializeToString())

    def answer(x: NDArray[np.float32]) -> NDArray[np.floating]:
        return reference.run({INPUT_NAME: x})[OUTPUT_NAME]

    return answer


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _cleaned(exported: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph without the exporter's notes, which hold paths and names of the author's machine."""
    model = onnx.ModelProto()
    model.CopyFrom(exported)
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "edgedenoise", edgedenoise.__version__
    del model.metadata_props[:]
    del model.graph.value_info[:]
    model.graph.name = "denoiser"
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
        node.name = node.output[0]
    for value in [*model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]
        value.doc_string = ""
    for output in model.graph.output:  # the exporter may write the same sides as expressions
        for dim, name in zip(output.type.tensor_type.shape.dim[2:], ("height", "width"), strict=True):
            dim.dim_param = name
    return model
