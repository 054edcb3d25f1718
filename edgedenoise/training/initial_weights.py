"""Build the network that a training starts with: fresh, or with the weights of a run or a bundle (`--init`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.calibration.graphs import load_onnx
from edgedenoise.calibration.schemes import scheme_named
from edgedenoise.errors import BundleError, TrainingError, UsageError
from edgedenoise.system_errors import is_file
from edgedenoise.training.checkpoint import kept_network, read_run, restore_network
from edgedenoise.training.config.config import RUN_CONFIG, BlindConfig, QATConfig, SelfQATConfig
from edgedenoise.training.networks.fake_quant import QuantizedConv2d, fake_quantized
from edgedenoise.training.networks.families import build_network, network_spec
from edgedenoise.training.networks.students import fold

if TYPE_CHECKING:
    from torch import nn

    from edgedenoise.training.config.config import TrainConfig


def initial_network(config: TrainConfig) -> nn.Module:
    """Build the network of a config with its first weights.

    Raises:
        UsageError: `init` holds another network.
        TrainingError: `init` is neither a run nor a bundle, or cannot be read.
        BundleError: `init` is a damaged bundle.
    """
    if not isinstance(config, (QATConfig, SelfQATConfig)):
        return float_network(config)
    network = fake_quantized(float_network(config), scheme_named(config.scheme), config.layers_in_float)
    known = config.spec.normalization.input_range
    if known is not None and isinstance(network.head, QuantizedConv2d):
        network.head.give_range(*known)  # a mean over batches would clip nearly white pixels
    return network


def float_network(config: TrainConfig) -> nn.Module:
    """Build the network of a config before any fake quantization; raises as `initial_network`."""
    spec = network_spec(config.network)
    network = build_network(spec, seed=config.seed)
    if config.init:
        name, weights = _weights_of(Path(config.init))
        if name != spec.name:
            raise UsageError(
                f"init = {config.init!r} is a {name}, and network = {config.network!r}",
                hint=f"Train with network = {name!r}, or without init.",
            )
        restore_network(weights, network, source=Path(config.init))
    elif isinstance(config, BlindConfig) and config.first_weights == "local-mean":
        network.start_as_local_mean()  # type: ignore[operator]
    return network


def network_of(init: Path | str) -> str:
    """Return the name of the network that a run or a bundle holds.

    Raises:
        TrainingError: it is neither.
        BundleError: it is a damaged bundle.
    """
    path = Path(init)
    return read_run(path).config.network if _is_run(path) else _opened(path).manifest.network.name


def _weights_of(path: Path) -> tuple[str, dict[str, torch.Tensor]]:
    """Return a network's name and its weights by parameter name."""
    if _is_run(path):
        checkpoint = read_run(path)
        network, spec = kept_network(checkpoint, source=path)
        folded = checkpoint.config.quantization_aware  # the ranges are dropped, and the branches are folded
        return spec.name, dict(fold(network).state_dict()) if folded else checkpoint.kept
    bundle = _opened(path)
    return bundle.manifest.network.name, _weights_of_graph(bundle)


def _weights_of_graph(bundle: Bundle) -> dict[str, torch.Tensor]:
    """Return the constants of a bundle's float graph, under the names that they have in PyTorch.

    Raises:
        IntegrityError: the graph is not the one that the manifest recorded.
        TrainingError: the bundle has no float ONNX graph.
    """
    from onnx import numpy_helper

    floats = [v for v in bundle.manifest.variants if v.runtime == "onnxruntime" and v.precision == "fp32"]
    if not floats:
        raise TrainingError(f"{bundle.source} has no float ONNX variant to take weights from")
    model = load_onnx(bundle.model_files(floats[0]).onnx_data, f"{bundle.source}: {floats[0].path}")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    # `export/onnx/tracing.py` traces the network as a part of a module; the bounds of a Clip are no part of it.
    return {
        name.removeprefix("network."): torch.from_numpy(array.copy())
        for name, array in constants.items()
        if name.startswith("network.")
    }


def _is_run(path: Path) -> bool:
    return is_file(path / RUN_CONFIG)


def _opened(path: Path) -> Bundle:
    """Open a bundle; the error for anything else names both things that init accepts."""
    try:
        return Bundle.open(path)
    except BundleError as error:
        error.hint = f"Set init to the folder of a training run, or a bundle. {error.hint or ''}".rstrip()
        raise
