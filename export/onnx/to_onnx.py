"""Export a trained network: trace its non-blind path to ONNX and compare the graph with PyTorch.

torch.export traces the graph with symbolic height and width. The graph is then brought to the opset and IR version of
the graph contract, each layer gets constants of its own, and the result is checked before it is written.

A network that takes a noise level is exported with its guard (`training/networks/guard.py`) as part of the graph.
"""

from __future__ import annotations

import copy
import logging
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnxscript  # noqa: F401  (torch's exporter needs it and reports its absence as a failed export)
import torch

import edgedenoise
from edgedenoise.bundles.manifest import Training
from edgedenoise.bundles.writer import check_replaceable
from edgedenoise.errors import ExportError, UsageError
from edgedenoise.exporting.onnx.float_bundle import EXPORT_STEPS, FloatGraph, write_float_bundle
from edgedenoise.exporting.onnx.graph import IR_VERSION, OPSET, check_graph, weights, with_own_constants
from edgedenoise.exporting.onnx.parity import check_parity
from edgedenoise.imaging.normalize import DEFAULT_LIMIT, UNIT, Normalization
from edgedenoise.progress import Progress, silent
from edgedenoise.runtimes.base import CHANNELS, INPUT_NAME, OUTPUT_NAME
from edgedenoise.runtimes.noise_plane import SHIPPED
from edgedenoise.runtimes.onnxruntime.reference import Reference
from edgedenoise.shell import command_line
from edgedenoise.training.checkpoint import kept_network, read_run
from edgedenoise.training.config.config import QATConfig, SelfQATConfig
from edgedenoise.training.loop.logs import LOG, read_columns
from edgedenoise.training.networks.fake_quant import float_layers_of, input_ranges, sum_ranges
from edgedenoise.training.networks.guard import Guarded, guarded_halo_px
from edgedenoise.training.networks.students import EdgeNetwork, fold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.calibration.histograms import Range
    from edgedenoise.imaging.normalize import NormalizationKind
    from edgedenoise.training.checkpoint import Which
    from edgedenoise.training.networks.families import NetworkSpec

_WRAPPED = "network"  # the attribute of NonBlind and of Guarded that holds the network, with which every path begins
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


def export(
    checkpoint: Path | str,
    out: Path | str,
    *,
    which: Which = "last",
    normalization: NormalizationKind | None = None,
    guard: bool = True,
    about: str = "",
    progress: Progress = silent,
) -> Bundle:
    """Export a trained network as a new bundle with a float ONNX variant.

    Args:
        checkpoint: folder made by `edgedenoise train`.
        out: the bundle folder to write; an existing bundle is replaced.
        which: the `last` state of the training, or the `best` one on images that were held out.
        normalization: `whole-image-bounded` limits the values that the network is given, which INT8 needs, and
            `whole-image` does not; None for what the network was trained with.
        guard: whether the graph of a network that takes a noise level includes the guard, which removes no more than
            the noise explains; other networks have none.
        about: Markdown for the model card: data and their licence, measured quality.
        progress: called after each of the steps trace, compare, write.

    Returns:
        The new bundle.

    Raises:
        TrainingError: `checkpoint` holds no readable checkpoint.
        ExportError: the graph breaks the contract or differs from PyTorch, or the training taught only the blind
            network, which no device runs.
        BundleError: `out` exists and is not a bundle.
        UsageError: the network does not take this normalization.

    Example:
        >>> import edgedenoise
        >>> bundle = edgedenoise.export("runs/mine", "new.edge")
        >>> [variant.name for variant in bundle.manifest.variants]
        ['onnx-fp32']
    """
    target = Path(out)
    check_replaceable(target)
    graph = export_graph(checkpoint, which, normalization, progress, guard=guard)
    bundle = write_float_bundle(target, graph, about=about)
    progress("export", EXPORT_STEPS, EXPORT_STEPS)
    return bundle


def export_graph(
    checkpoint: Path | str,
    which: Which = "last",
    normalization: NormalizationKind | None = None,
    progress: Progress = silent,
    *,
    guard: bool = True,
) -> FloatGraph:
    """Return the float graph of a trained network, compared with PyTorch, and what a bundle records about it.

    Args:
        checkpoint: folder made by `edgedenoise train`.
        which: the `last` or the `best` state.
        normalization: as in `export`.
        progress: called after the steps trace and compare.
        guard: whether the graph of a network that takes a noise level includes the guard.

    Raises:
        TrainingError: `checkpoint` holds no readable checkpoint.
        ExportError, UsageError: as `export`.
    """
    trained = read_run(checkpoint, which)
    config = trained.config
    if not config.trains_direct:
        raise ExportError(
            f"{checkpoint} was trained with objective = {config.objective!r}, which teaches only the blind network; "
            "devices run the non-blind path, which is still untrained",
            hint="Train it first on noisy images: "
            + command_line(
                "train", "--objective", "cbsn", "--init", checkpoint, "--out", f"{checkpoint}-2", "--data", "noisy"
            ),
        )
    network, spec = kept_network(trained, source=Path(checkpoint))
    chosen = _chosen_normalization(spec, normalization)
    progress("export", 0, EXPORT_STEPS, "tracing")
    module = deployed(network, spec, guard=guard)
    channels = CHANNELS + spec.level_planes
    traced = trace(module, channels)
    progress("export", 1, EXPORT_STEPS, "comparing with PyTorch")
    parity = check_parity(
        _answers(module, torch.float32),
        _answers(copy.deepcopy(module).double(), torch.float64),
        _graph_answers(traced.model),
        chosen,
        spec.multiple_of,
        channels,
    )
    progress("export", 2, EXPORT_STEPS, "writing")
    return FloatGraph(
        traced.model,
        name=spec.name,
        normalization=chosen,
        halo_px=guarded_halo_px(spec.halo_px) if isinstance(module, Guarded) else spec.halo_px,
        multiple_of=spec.multiple_of,
        noise_level=SHIPPED if spec.level_planes else None,
        parity=parity,
        training=Training(
            objective="qat" if config.quantization_aware else config.objective,  # one name in bundles
            steps=trained.step,
            hours=_hours(Path(checkpoint), trained.step),
            clean=bool(config.clean_images),
        ),
        scheme=config.scheme if isinstance(config, (QATConfig, SelfQATConfig)) else None,
        trained_ranges=trained_ranges(network, traced) if config.quantization_aware else None,
        float_layers=float_outputs(network, traced) if config.quantization_aware else (),
    )


def _chosen_normalization(spec: NetworkSpec, kind: NormalizationKind | None) -> Normalization:
    """Return the normalization to export with.

    Raises:
        UsageError: the network does not take it.
    """
    trained = spec.normalization
    if kind is None or kind == trained.kind:
        return trained
    accepted = ("unit",) if trained == UNIT else ("whole-image", "whole-image-bounded")
    if kind not in accepted:
        raise UsageError(
            f"{spec.name} does not take the normalization {kind!r}; expected {' or '.join(accepted)}",
            hint="Leave out --normalization to keep that of the training.",
        )
    return Normalization.whole_image(DEFAULT_LIMIT if kind == "whole-image-bounded" else None)


def trained_ranges(network: torch.nn.Module, traced: Trace) -> dict[str, Range]:
    """Return the ranges that a fake-quantized network was trained with, by the names of tensors in its graph.

    Args:
        network: the fake-quantized network.
        traced: the trace of what `deployed` returns.

    Raises:
        ExportError: a quantized layer of the network is not in the graph.
    """
    nodes = {node.output[0]: node for node in traced.model.graph.node}
    of_layer = {
        path.removeprefix(f"{_WRAPPED}."): nodes[tensor]
        for tensor, path in traced.layers.items()
        if tensor in nodes and nodes[tensor].op_type in ("Conv", "Add")
    }
    sums = sum_ranges(network)
    missing = sorted({*input_ranges(network), *sums} - set(of_layer))
    if missing:
        raise ExportError(f"the exported graph lacks quantized layers of the network: {', '.join(missing)}")
    tensors = {of_layer[path].input[0]: found for path, found in input_ranges(network).items()}
    for name, found in list(tensors.items()):
        if name in nodes and nodes[name].op_type == "Concat":  # its inputs are rounded before they are concatenated
            tensors |= dict.fromkeys(nodes[name].input, found)
    for path, (of_skip, of_branch) in sums.items():
        skip, branch = of_layer[path].input
        tensors[skip] = of_skip
        if of_branch is not None:
            tensors[branch] = of_branch
    return tensors


def float_outputs(network: torch.nn.Module, traced: Trace) -> tuple[str, ...]:
    """Return the outputs of the layers that a fake-quantized network keeps in float, in the order of its graph.

    A Concat that only such layers read stays in float, too.

    Args:
        network: the fake-quantized network.
        traced: the trace of what `deployed` returns.
    """
    paths = {f"{_WRAPPED}.{path}" for path in float_layers_of(network)}
    nodes = list(traced.model.graph.node)
    kept = {tensor for tensor, path in traced.layers.items() if path in paths}
    for node in nodes:
        readers = [reader.output[0] for reader in nodes if node.output[0] in reader.input]
        if node.op_type == "Concat" and readers and kept.issuperset(readers):
            kept.add(node.output[0])
    return tuple(
        node.output[0] for node in nodes if node.op_type in ("Conv", "Add", "Concat") and node.output[0] in kept
    )


def _hours(run: Path, step: int) -> float:
    """Return the hours that a training took until a step, by its log; 0 without a log."""
    rows = read_columns(run / LOG)
    done = [seconds for at, seconds in zip(rows.get("step", ()), rows.get("seconds", ()), strict=True) if at <= step]
    return round(float(max(done, default=0.0)) / 3600, 2)


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
    try:
        with _quiet("torch.onnx"), _quiet("onnxscript"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside the exporter itself
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                opset_version=_TRACED_OPSET,
                dynamic_shapes={"image": sides},
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                external_data=False,
                verbose=False,
            )
    except Exception as error:
        raise ExportError(f"torch could not export the network: {type(error).__name__}: {error}") from error
    if program is None or program.exported_program is None:  # only with export options that are not used here
        raise ExportError("torch exported nothing")
    layers = _layers(program.exported_program)
    model = with_own_constants(at_contract_opset(_cleaned(program.model_proto)), layers)
    check_graph(model)
    return Trace(model, layers)


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


def _answers(module: torch.nn.Module, dtype: torch.dtype) -> Callable[[NDArray[np.float32]], NDArray[np.floating]]:
    def answer(x: NDArray[np.float32]) -> NDArray[np.floating]:
        with torch.inference_mode():
            result: NDArray[np.floating] = module(torch.from_numpy(x).to(dtype)).numpy()
        return result

    return answer


def _graph_answers(model: onnx.ModelProto) -> Callable[[NDArray[np.float32]], NDArray[np.floating]]:
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
