"""Several processes that train as one: `torchrun --nproc-per-node 2 -m edgedenoise train ...`.

torchrun tells every process its rank by environment variables. A step's batch is shared out among the ranks, and
DistributedDataParallel takes the mean of their gradients, so the losses are those of one process with the same
batch. Rank 0 alone writes files; everybody reads them.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from edgedenoise.errors import EdgeDenoiseError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """The processes of this training, seen from one of them."""

    rank: int = 0
    """Of this process among all."""
    size: int = 1
    """Number of processes."""
    local_rank: int = 0
    """Of this process on its machine, which is also the number of its GPU."""

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def share_of(self, batch: int) -> range:
        """Return which samples of a step's batch are this process's.

        Raises:
            UsageError: the batch cannot be shared out evenly, which would weigh some samples more than others.
        """
        if batch % self.size:
            raise UsageError(
                f"batch = {batch} cannot be shared out among {self.size} processes; accepted: a multiple of it",
                hint=f"Give --batch {-(-batch // self.size) * self.size}, or start {batch} processes.",
            )
        share = batch // self.size
        return range(self.rank * share, (self.rank + 1) * share)

    def first(self, function: Callable[[], T]) -> T:
        """Return what `function` returns on rank 0, on every rank; an error there is raised on every rank."""
        if self.size == 1:
            return function()
        told: list[Any] = [None, None]
        failure: EdgeDenoiseError | None = None
        if self.is_first:
            try:
                told[0] = function()
            except EdgeDenoiseError as error:
                failure = told[1] = error
        distributed.broadcast_object_list(told, src=0)
        if failure is not None:
            raise failure
        if told[1] is not None:
            raise told[1]
        result: T = told[0]
        return result

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """Return the mean over the processes of a tensor without gradient."""
        value = value.detach().clone()
        if self.size > 1:
            distributed.all_reduce(value)
            value /= self.size
        return value

    def mean_of(self, number: float) -> float:
        """Return the mean over the processes of a number."""
        if self.size == 1:
            return number
        return self.mean(torch.tensor(number, dtype=torch.float64, device=_talking_device())).item()

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return a module whose gradients are the mean over the processes after every backward pass."""
        if self.size == 1:
            return module
        return DistributedDataParallel(module, broadcast_buffers=False)


@contextmanager
def joined_world(device: str) -> Iterator[World]:
    """Join the processes that torchrun started, for the time of a `with` block; alone without torchrun.

    Args:
        device: of `TrainConfig`; GPUs talk over NCCL, CPUs over gloo.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if on_gpu and local_rank < torch.cuda.device_count():
        torch.cuda.set_device(local_rank)  # NCCL exchanges objects through the current GPU: to each rank its own
    begun_here = not distributed.is_initialized()
    if begun_here:
        distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield World(distributed.get_rank(), distributed.get_world_size(), local_rank)
    finally:
        if begun_here:
            distributed.destroy_process_group()


def _talking_device() -> str:
    """Return where tensors must lie that processes exchange."""
    return "cuda" if distributed.get_backend() == "nccl" else "cpu"
