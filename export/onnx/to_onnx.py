"""Export a trained network: trace its non-blind path to ONNX and compare the graph with PyTorch.

`tracing` makes the graph. A network that takes a noise level is exported with its guard (`training/networks/guard.py`)
as part of the graph.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from edgedenoise.bundles.manifest import Training
from edgedenoise.bundles.writer import check_replaceable
from edgedenoise.errors import ExportError, UsageError
from edgedenoise.exporting.onnx.float_bundle import EXPORT_STEPS, FloatGraph, write_float_bundle
from edgedenoise.exporting.onnx.parity import check_parity
from edgedenoise.exporting.onnx.tracing import Trace, deployed, graph_answers, module_answers, trace
from edgedenoise.imaging.normalize import DEFAULT_LIMIT, UNIT, Normalization
from edgedenoise.progress import Progress, silent
from edgedenoise.runtimes.base import CHANNELS
from edgedenoise.runtimes.noise_plane import SHIPPED
from edgedenoise.shell import command_line
from edgedenoise.training.checkpoint import kept_network, read_run
from edgedenoise.training.config.config import QATConfig, SelfQATConfig
from edgedenoise.training.loop.logs import LOG, read_columns
from edgedenoise.training.networks.fake_quant import float_layers_of, input_ranges, sum_ranges
from edgedenoise.training.networks.guard import Guarded, guarded_halo_px

if TYPE_CHECKING:
    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.calibration.histograms import Range
    from edgedenoise.imaging.normalize import NormalizationKind
    from edgedenoise.training.checkpoint import Which
    from edgedenoise.training.networks.families import NetworkSpec

_WRAPPED = "network"  # the attribute of NonBlind and of Guarded that holds the network, with which every path begins


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
        module_answers(module, torch.float32),
        module_answers(copy.deepcopy(module).double(), torch.float64),
        graph_answers(traced.model),
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
