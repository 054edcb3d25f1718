"""Read and write checkpoints: weights, their mean, optimiser, step and config in one safetensors file.

A checkpoint is written atomically: it is complete or absent.

Tensor names are `network/<parameter>`, `mean/<parameter>` (see `averages.py`) and `optimizer/<parameter>/<state>`; the
header holds the format, the step and the config.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from edgedenoise.atomic import atomic_file
from edgedenoise.calibration.schemes import scheme_named
from edgedenoise.errors import OutputError, TrainingError, UsageError
from edgedenoise.system_errors import input_errors
from edgedenoise.training.config.config import QATConfig, SelfQATConfig, TrainConfig, config_of
from edgedenoise.training.networks.fake_quant import fake_quantized
from edgedenoise.training.networks.families import NetworkSpec, build_network

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

FORMAT: Final = "edgedenoise-checkpoint/1"
"""Format in the header."""
LAST: Final = "checkpoint-last.safetensors"
"""Name of the newest checkpoint in a run folder."""
BEST: Final = "checkpoint-best.safetensors"
"""Name of the checkpoint with the least loss on held-out images; weights only."""
_METADATA: Final = "__metadata__"
Which = Literal["last", "best"]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory."""

    config: TrainConfig
    """Settings of the run that wrote it."""
    step: int
    """Number of finished steps, which is the number of the next step."""
    network: dict[str, torch.Tensor]
    """State of the network by parameter name, on the CPU."""
    mean: dict[str, torch.Tensor]
    """Running means of the weights by parameter name; empty when none were kept."""
    optimizer: dict[str, dict[str, torch.Tensor]]
    """State of the optimiser by parameter name, on the CPU; empty in a file of weights only."""
    best: float = math.inf
    """Least loss on held-out images so far, or infinity."""

    @property
    def kept(self) -> dict[str, torch.Tensor]:
        """Weights that are evaluated and exported: the means, where there are some."""
        return self.network | self.mean


def save_checkpoint(
    path: Path,
    *,
    config: TrainConfig,
    step: int,
    network: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    mean: Mapping[str, torch.Tensor] | None = None,
    best: float = math.inf,
) -> None:
    """Write a checkpoint of a run after `step` steps; without an optimiser it holds weights only.

    Raises:
        TrainingError: the file cannot be written; an earlier file is intact.
    """
    tensors = {f"network/{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"mean/{name}": value for name, value in (mean or {}).items()}
    if optimizer is not None:
        for name, parameter in network.named_parameters():
            for key, value in optimizer.state[parameter].items():
                tensors[f"optimizer/{name}/{key}"] = value
    header = {
        "format": FORMAT,
        "network": config.network,
        "step": str(step),
        "best": best.hex(),
        "config": msgspec.json.encode(config).decode(),
    }
    try:
        data = save({name: value.cpu().contiguous() for name, value in tensors.items()}, header)
        with atomic_file(path, durable=True) as temporary, temporary.open("wb") as stream:
            stream.writelines(_in_fixed_order(data))
    except (OSError, OutputError, SafetensorError) as error:
        raise TrainingError(
            f"the checkpoint {path} cannot be written: {error}",
            hint=f"Free some space or fix the permissions of {path.parent}, then train again with --resume.",
        ) from error


def _in_fixed_order(data: bytes) -> tuple[bytes, memoryview]:
    """Return the header and the tensors of safetensors data, the metadata in the header in the order of their names.

    The library writes them in an order that changes from process to process: files of equal runs would differ.
    """
    length = int.from_bytes(data[:8], "little")
    header = msgspec.json.decode(data[8 : 8 + length], type=dict[str, Any])
    header[_METADATA] = dict(sorted(header[_METADATA].items()))
    text = msgspec.json.encode(header)
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text, memoryview(data)[8 + length :]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        TrainingError: there is no such file, it is damaged, or it is not a checkpoint of edgedenoise.
    """
    if not path.is_file():
        raise TrainingError(f"there is no checkpoint {path}")
    try:
        with input_errors(path, TrainingError, f"the checkpoint {path}"):
            path.open("rb").close()  # for the reason of the system: safe_open reports any as a missing file
            with safe_open(path, framework="pt") as stream:
                header = stream.metadata() or {}
                tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - it is no dict
    except (SafetensorError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise TrainingError(
            f"the checkpoint {path} is damaged: {error}", hint="Take it from a backup, or train again."
        ) from error
    if header.get("format") != FORMAT:
        raise TrainingError(
            f"{path} is a safetensors file of another kind: expected the format {FORMAT!r}, "
            f"got {header.get('format')!r}"
        )
    try:
        config = config_of(msgspec.json.decode(header["config"], type=dict[str, Any]), where="it")
        step = int(header["step"])
        best = float.fromhex(header.get("best", "inf"))
    except (KeyError, ValueError, OverflowError, RecursionError, UsageError) as error:  # msgspec's are ValueErrors
        raise TrainingError(f"the header of the checkpoint {path} cannot be used: {error}") from error
    weights: dict[str, dict[str, torch.Tensor]] = {"network": {}, "mean": {}}
    optimizer: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        kind, _, rest = name.partition("/")
        if kind in weights:
            weights[kind][rest] = value
        elif kind == "optimizer":
            parameter, _, key = rest.rpartition("/")
            optimizer.setdefault(parameter, {})[key] = value
    return Checkpoint(config, step, weights["network"], weights["mean"], optimizer, best)


def restore_network(weights: Mapping[str, torch.Tensor], network: nn.Module, *, source: Path) -> None:
    """Copy weights by name into `network`.

    Raises:
        TrainingError: the weights are those of another network.
    """
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise TrainingError(f"the weights in {source} are not those of this network: {reason}") from error


def restore_optimizer(checkpoint: Checkpoint, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Copy the optimiser state of a checkpoint; `network` already has its weights."""
    for name, parameter in network.named_parameters():
        for key, value in checkpoint.optimizer.get(name, {}).items():
            if value.shape == parameter.shape:
                # In the memory layout of the parameter, channels last or not: the fast paths need it.
                optimizer.state[parameter][key] = torch.empty_like(parameter, requires_grad=False).copy_(value)
            else:
                optimizer.state[parameter][key] = value


def load_network(checkpoint: Path | str, which: Which = "last") -> tuple[nn.Module, NetworkSpec]:
    """Return the trained network of a run folder, and its spec.

    Args:
        checkpoint: the folder that `train` made.
        which: the `last` state of the training, or the `best` one on images that were held out.

    Returns:
        The network in evaluation mode on the CPU, with the running means as its weights where the run kept
        some, and its spec.

    Raises:
        TrainingError: the folder is no run, or its checkpoint is damaged or of another network.

    Example:
        network, spec = load_network("runs/mine", "best")
    """
    return kept_network(read_run(checkpoint, which), source=Path(checkpoint) / _FILES[which])


def kept_network(checkpoint: Checkpoint, *, source: Path) -> tuple[nn.Module, NetworkSpec]:
    """Build the network of a checkpoint that was read from `source`; see `load_network`.

    Raises:
        TrainingError: the weights are those of another network.
    """
    spec = checkpoint.config.spec
    network = build_network(spec, seed=0)
    if isinstance(checkpoint.config, (QATConfig, SelfQATConfig)):
        network = fake_quantized(network, scheme_named(checkpoint.config.scheme), checkpoint.config.layers_in_float)
    restore_network(checkpoint.kept, network, source=source)
    return network.eval(), spec


def read_run(checkpoint: Path | str, which: Which = "last") -> Checkpoint:
    """Read a checkpoint of a run folder.

    Raises:
        TrainingError: the folder is no run, or its checkpoint is damaged.
    """
    folder = Path(checkpoint)
    if not folder.is_dir():
        found = "it is a file" if folder.exists() else "there is no such folder"
        raise TrainingError(f"{folder} is no training run: {found}", hint=_TRAIN)
    if not (folder / LAST).is_file():
        raise TrainingError(f"{folder} is no training run, or has no checkpoint yet: it holds no {LAST}", hint=_TRAIN)
    if not (folder / _FILES[which]).is_file():
        raise TrainingError(
            f"{folder} has no best checkpoint: it needs held-out images (held_out) and a validation after the ramp",
            hint="Take the last checkpoint, which is usually better where the learning rate falls to zero.",
        )
    return read_checkpoint(folder / _FILES[which])


_FILES: Final[dict[Which, str]] = {"last": LAST, "best": BEST}
_TRAIN = "Name a folder that was made by: edgedenoise train"
