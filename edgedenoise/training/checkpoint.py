"""Checkpoints: weights, optimiser, step and config in one safetensors file, written whole or not at all.

Tensor names are `network/<parameter>` and `optimizer/<parameter>/<state>`; the header says what the file is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from edgedenoise.errors import TrainingError, UsageError
from edgedenoise.files import atomic_file
from edgedenoise.training.config import TrainConfig
from edgedenoise.training.networks import NetworkSpec, build_network, network_spec

if TYPE_CHECKING:
    from torch import nn

FORMAT: Final = "edgedenoise-checkpoint/1"
"""Of the header."""
LAST: Final = "checkpoint-last.safetensors"
"""Name of the newest checkpoint in a run folder."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory."""

    config: TrainConfig
    """Of the run that wrote it."""
    step: int
    """Number of steps that are done, and so the next step to do."""
    network: dict[str, torch.Tensor]
    """State of the network by parameter name, on the CPU."""
    optimizer: dict[str, dict[str, torch.Tensor]]
    """State of the optimiser by parameter name, on the CPU; empty in a file that only carries weights."""


def save_checkpoint(
    path: Path, *, config: TrainConfig, step: int, network: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Write a checkpoint of a run after `step` steps.

    Raises:
        TrainingError: the file cannot be written; one that was there before is still whole.
    """
    tensors = {f"network/{name}": value for name, value in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer/{name}/{key}"] = value
    header = {
        "format": FORMAT,
        "network": config.network,
        "step": str(step),
        "config": msgspec.json.encode(config).decode(),
    }
    try:
        with atomic_file(path) as temporary:
            save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, temporary, header)
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"the checkpoint {path} cannot be written: {error}",
            hint="Make room or mend the folder's permissions, then go on with --resume.",
        ) from error


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        TrainingError: there is no such file, it is damaged, or it is no checkpoint of ours.
    """
    if not path.is_file():
        raise TrainingError(f"there is no checkpoint {path}")
    try:
        with safe_open(path, framework="pt") as stream:
            header = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - it is no dict
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"the checkpoint {path} is damaged: {error}", hint="Take it from a backup, or train again."
        ) from error
    if header.get("format") != FORMAT:
        raise TrainingError(
            f"{path} is a safetensors file of another kind: its format is {header.get('format')!r}; "
            f"accepted: {FORMAT!r}"
        )
    try:
        config = msgspec.json.decode(header["config"], type=TrainConfig)
        step = int(header["step"])
    except (KeyError, ValueError, UsageError) as error:  # msgspec's errors are ValueErrors
        raise TrainingError(f"the header of the checkpoint {path} cannot be used: {error}") from error
    network: dict[str, torch.Tensor] = {}
    optimizer: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        kind, _, rest = name.partition("/")
        if kind == "network":
            network[rest] = value
        elif kind == "optimizer":
            parameter, _, key = rest.rpartition("/")
            optimizer.setdefault(parameter, {})[key] = value
    return Checkpoint(config, step, network, optimizer)


def restore_network(checkpoint: Checkpoint, network: nn.Module, *, source: Path) -> None:
    """Copy the checkpoint's weights into `network`.

    Raises:
        TrainingError: they are those of another network.
    """
    try:
        network.load_state_dict(checkpoint.network)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise TrainingError(
            f"the weights in {source} are not those of a {checkpoint.config.network}: {reason}"
        ) from error


def restore_optimizer(checkpoint: Checkpoint, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Copy the checkpoint's optimiser state; `network` has its weights already."""
    for name, parameter in network.named_parameters():
        for key, value in checkpoint.optimizer.get(name, {}).items():
            if value.shape == parameter.shape:
                # Laid out in memory as the parameter is, channels last or not; the fast paths want it so.
                optimizer.state[parameter][key] = torch.empty_like(parameter, requires_grad=False).copy_(value)
            else:
                optimizer.state[parameter][key] = value


def load_network(run: Path | str) -> tuple[nn.Module, NetworkSpec]:
    """Return the trained network of a run folder and what it is.

    Args:
        run: the folder that `train_model` made.

    Returns:
        The network in evaluation mode on the CPU, and its spec.

    Raises:
        TrainingError: the folder is no run, or its checkpoint is damaged or of another network.
    """
    run = Path(run)
    path = run / LAST
    if not run.is_dir():
        found = "it is a file" if run.exists() else "there is no such folder"
        raise TrainingError(f"{run} is no training run: {found}", hint=_TRAIN)
    if not path.is_file():
        raise TrainingError(f"{run} is no training run, or has no checkpoint yet: it holds no {LAST}", hint=_TRAIN)
    checkpoint = read_checkpoint(path)
    spec = network_spec(checkpoint.config.network)
    network = build_network(spec, seed=0)
    restore_network(checkpoint, network, source=path)
    return network.eval(), spec


_TRAIN = "Name the folder that `edgedenoise train --data DIR --out RUN` made."
