"""Train in several processes: `torchrun --nproc-per-node 2 -m edgedenoise train ...`.

torchrun sets the rank of every process in environment variables. The batch of a step is divided among the ranks, and
DistributedDataParallel takes the mean of their gradients, so the losses are those of one process with the same batch.
Only rank 0 writes files; all ranks read them.
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
    """The processes of a training, as seen from one of them."""

    rank: int = 0
    """Rank of this process."""
    size: int = 1
    """Number of processes."""
    local_rank: int = 0
    """Rank of this process on its machine, which is also the index of its GPU."""

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def share_of(self, batch: int) -> range:
        """Return the samples of a batch that this process computes.

        Raises:
            UsageError: the batch cannot be divided evenly, which would weigh some samples more than others.
        """
        if batch % self.size:
            raise UsageError(
                f"batch = {batch} cannot be divided among {self.size} processes: expected a multiple of {self.size}",
                hint=f"Give --batch {-(-batch // self.size) * self.size}, or start {batch} processes.",
            )
        share = batch // self.size
        return range(self.rank * share, (self.rank + 1) * share)

    def first(self, function: Callable[[], T]) -> T:
        """Return what `function` returns on rank 0, on every rank; an error there is raised on every rank."""
        if self.size == 1:
            return function()
        shared: list[Any] = [None, None]  # result and error
        failure: EdgeDenoiseError | None = None
        if self.is_first:
            try:
                shared[0] = function()
            except EdgeDenoiseError as error:
                failure = shared[1] = error
        distributed.broadcast_object_list(shared, src=0)
        if failure is not None:
            raise failure
        if shared[1] is not None:
            raise shared[1]
        result: T = shared[0]
        return result

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """Return the mean of a tensor over the processes, without gradient."""
        value = value.detach().clone()
        if self.size > 1:
            distributed.all_reduce(value)
            value /= self.size
        return value

    def any(self, value: bool) -> bool:
        """Return whether a value is true in any of the processes."""
        return value if self.size == 1 else self.mean_of(float(value)) > 0

    def mean_of(self, number: float) -> float:
        """Return the mean of a number over the processes."""
        if self.size == 1:
            return number
        return self.mean(torch.tensor(number, dtype=torch.float64, device=_exchange_device())).item()

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return a module whose gradients are the mean over the processes after every backward pass."""
        if self.size == 1:
            return module
        return DistributedDataParallel(module, broadcast_buffers=False)


@contextmanager
def joined_world(device: str) -> Iterator[World]:
    """Join the processes that torchrun started inside a `with` block; one process without torchrun.

    Args:
        device: device of the config; GPUs communicate over NCCL, CPUs over gloo.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if on_gpu and local_rank < torch.cuda.device_count():
        torch.cuda.set_device(local_rank)  # NCCL exchanges objects through the current GPU, so each rank needs its own
    begun_here = not distributed.is_initialized()
    if begun_here:
        distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield World(distributed.get_rank(), distributed.get_world_size(), local_rank)
    finally:
        if begun_here:
            distributed.destroy_process_group()


def _exchange_device() -> str:
    """Return the device of tensors that processes exchange."""
    return "cuda" if distributed.get_backend() == "nccl" else "cpu"
