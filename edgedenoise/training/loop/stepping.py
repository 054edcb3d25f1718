"""Update the weights once: losses, gradients, their norm, Adam and the running mean, and the errors of a step."""

from __future__ import annotations

import math
import os
import shutil
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import nn

from edgedenoise.atomic import atomic_file
from edgedenoise.errors import TrainingError
from edgedenoise.shell import command_line
from edgedenoise.training.config.config import RUN_CONFIG
from edgedenoise.training.config.schedules import learning_rate_at
from edgedenoise.training.loop.averages import WeightAverage
from edgedenoise.training.loop.memory import is_out_of_memory, largest_that_fits

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgedenoise.training.config.config import TrainConfig
    from edgedenoise.training.loop.distributed import World
    from edgedenoise.training.objectives.objective import Batch, Objective


@dataclass(frozen=True)
class StepNumbers:
    """Values of a finished step; means over the processes."""

    total: float
    """Loss that was minimised."""
    gradient_norm: float
    """Norm of all gradients together, before clipping."""
    parts: torch.Tensor
    """Parts of the loss on this process, in the order of `Objective.parts`, still on the device."""


class Stepper:
    """A network, its optimiser and the running mean of its weights, updated step by step."""

    def __init__(self, config: TrainConfig, objective: Objective, network: nn.Module, world: World) -> None:
        """Prepare to train `network`, which is already on its device."""
        self.config, self.objective, self.network, self.world = config, objective, network, world
        self.optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
        self.average = WeightAverage(network, config.ema_decay)
        self._device = next(network.parameters()).device
        self._losses = world.wrap(_Losses(config, objective, network))

    def step(self, step: int, batch: Batch) -> StepNumbers:
        """Update the weights once.

        Raises:
            TrainingError: the loss or its gradient is not finite (the batch is saved, and no weight was changed),
                or memory is exhausted.
        """
        try:
            batch = tuple(tensor.to(self._device) for tensor in batch)
            value, parts = self._backward(step, batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            # The frames of the failed step hold its tensors; a smaller batch needs that memory.
            traceback.clear_frames(error.__traceback__)
            self.optimizer.zero_grad(set_to_none=True)
            raise self._out_of_memory(step, batch) from error
        norm = self._clip()
        self._check_finite("gradient's norm", norm, step, batch)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(self.config, step)
        self.optimizer.step()
        self.average.update(step + 1)
        return StepNumbers(value, norm, parts)

    def _backward(self, step: int, batch: Batch) -> tuple[float, torch.Tensor]:
        """Compute the gradients of a step; return the total loss, and its parts on this process."""
        total, parts = self._losses(step, *batch)
        value = self.world.mean(total).item()
        self._check_finite("loss", value, step, batch)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        return value, parts.detach()

    def _clip(self) -> float:
        """Scale gradients down to the allowed norm; return the norm before."""
        limit = self.config.clip_norm or math.inf
        return nn.utils.clip_grad_norm_(self.network.parameters(), limit).item()

    def _check_finite(self, what: str, value: float, step: int, batch: Batch) -> None:
        """Raise TrainingError for NaN and infinity, before the weights are changed."""
        if math.isfinite(value):
            return
        saved = self._save_batch(step, batch)
        run = self.config.out
        again = command_line(
            *("train", "--config", Path(run) / RUN_CONFIG, "--init", run, "--out", f"{run}-again"),
            *("--set", f"learning_rate={self.config.learning_rate / 2:g}"),
        )
        raise TrainingError(
            f"the {what} became {value} at step {step}; the batch is in {saved}",
            hint=f"Start another run from the last checkpoint with a lower learning rate: {again}",
        )

    def _save_batch(self, step: int, batch: Batch) -> Path:
        """Write the tensors of a batch for inspection, and return the file."""
        rank = f"-rank{self.world.rank}" if self.world.size > 1 else ""
        path = Path(self.config.out) / f"bad-batch-step-{step:06d}{rank}.safetensors"
        with atomic_file(path) as temporary:
            save_file({str(i): tensor.cpu().contiguous() for i, tensor in enumerate(batch)}, temporary)
        return path

    def _out_of_memory(self, step: int, batch: Batch) -> TrainingError:
        """Return the error for exhausted memory, after trying smaller batches."""
        size = len(batch[0])

        def attempt(samples: int) -> None:
            part = tuple(tensor[:samples] for tensor in batch)
            self.objective.losses(self.network, part, step).total.backward()  # type: ignore[no-untyped-call]
            self.network.zero_grad(set_to_none=True)

        fits = largest_that_fits(attempt, size)
        config = self.config
        where = f"out of memory on {self._device} with batch = {config.batch} and patch = {config.patch}"
        if fits is None:
            return TrainingError(f"{where}, and a single sample does not fit", hint="Train with a smaller patch.")
        fitting = fits * self.world.size
        return TrainingError(
            f"{where}; batch = {fitting} was tried and fits",
            hint=f"Train with --batch {fitting}, or with a smaller patch.",
        )


class _Losses(nn.Module):
    """The losses of a step as one module, which DistributedDataParallel and autocast wrap."""

    def __init__(self, config: TrainConfig, objective: Objective, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._config, self._objective = config, objective
        self._compiled = compiled(network) if config.compile else None

    def forward(self, step: int, *batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the total, and the parts as one tensor without gradient."""
        network = self._compiled if self._compiled is not None else self.network
        with torch.autocast(batch[0].device.type, torch.bfloat16, enabled=self._config.precision == "bf16"):
            losses = self._objective.losses(network, batch, step)  # type: ignore[arg-type]
        parts = [losses.parts[name].detach().float() for name in self._objective.parts]
        return losses.total, torch.stack(parts)


_COMPILERS = {"win32": "cl", "darwin": "clang++"}
"""C++ compiler that torch.compile calls by default; g++ on other systems."""


def compiled(network: nn.Module) -> Callable[..., torch.Tensor]:
    """Return the network compiled by torch.compile, with one program per shape: a step has three.

    Raises:
        TrainingError: there is no C++ compiler, which torch.compile needs on CPUs.
    """
    on_cpu = next(network.parameters()).device.type == "cpu"
    compiler = os.environ.get("CXX", _COMPILERS.get(sys.platform, "g++"))
    if on_cpu and shutil.which(compiler) is None:
        raise TrainingError(
            f"compile = true needs a C++ compiler on a CPU, and there is no {compiler!r} here",
            hint="Install one (for example: apt install g++), or train with --set compile=false.",
        )
    function: Callable[..., torch.Tensor] = torch.compile(network, dynamic=False)
    return function
