"""How fast a run trains: steps per second, arithmetic per second, and the share of what the device reaches at best.

The arithmetic of a step is counted, not estimated: multiplications and additions of all convolutions, those of a
teacher included; a backward pass counts as two forward passes. The peak is the fastest of some square matrix
products in the precision of the training, on the same device and threads.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.modules.module import register_module_forward_hook

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from edgedenoise.training.objectives.objective import Objective

_CPU_SIDE, _GPU_SIDE = 1024, 8192
_PEAK_SECONDS = 0.15
_PEAK_REPEATS = 3


@dataclass(frozen=True)
class Throughput:
    """The speed of the steps of one call, on this process; validations and checkpoints are not counted."""

    steps_per_second: float
    """Updates of the weights per second, waiting for their patches included."""
    gflops: float
    """Arithmetic of the convolutions, in 10^9 operations per second."""
    peak_gflops: float
    """What a matrix product reaches on this device with as many threads, in 10^9 operations per second."""
    share_of_peak: float
    """`gflops` / `peak_gflops`."""


class StepTimer:
    """Measures the time of training steps, without what is done between them."""

    def __init__(self) -> None:
        self._steps, self._seconds, self._first_seconds = 0, 0.0, 0.0
        self._mark = time.perf_counter()

    def stop(self) -> None:
        """Count the time since the last `start` as one step."""
        seconds = time.perf_counter() - self._mark
        if self.has_steps:
            self._steps, self._seconds = self._steps + 1, self._seconds + seconds
        else:
            self._first_seconds = seconds  # allocations and compilation: counted only where there is no other step

    def start(self) -> None:
        """Begin the next step, with the wait for its patches."""
        self._mark = time.perf_counter()

    @property
    def has_steps(self) -> bool:
        """Whether a step was counted."""
        return self._first_seconds > 0

    def throughput(self, step_gflop: float, peak_gflops: float) -> Throughput:
        """Return the speed of the steps so far, of which there must be one."""
        rate = self._steps / self._seconds if self._steps else 1 / self._first_seconds
        gflops = rate * step_gflop
        return Throughput(rate, gflops, peak_gflops, gflops / peak_gflops)


def step_gflop(objective: Objective, network: nn.Module, samples: range) -> float:
    """Return the arithmetic of one step on some samples, in 10^9 operations; `network` is left alone."""
    trial = copy.deepcopy(network)
    device = next(network.parameters()).device
    batch = tuple(tensor.to(device) for tensor in objective.batch(0, samples[:1]))
    return len(samples) * gflop_of(lambda: objective.losses(trial, batch, 0))


def gflop_of(losses: Callable[[], object]) -> float:
    """Return the arithmetic of what `losses` computes and of its gradient, in 10^9 operations."""
    total = 0

    def count(module: nn.Module, _: Any, output: Any) -> None:
        nonlocal total
        weight = getattr(module, "weight", None)
        if isinstance(weight, torch.Tensor) and weight.ndim == 4:
            passes = 3 if torch.is_grad_enabled() else 1
            total += passes * 2 * output.numel() * weight[0].numel()

    hook = register_module_forward_hook(count)
    try:
        losses()
    finally:
        hook.remove()
    return total / 1e9


def peak_gflops(device: torch.device, dtype: torch.dtype = torch.float32) -> float:
    """Measure the fastest square matrix product of a device, in 10^9 operations per second."""
    side = _GPU_SIDE if device.type == "cuda" else _CPU_SIDE
    a = torch.full((side, side), 0.5, device=device, dtype=dtype)
    best, repeats, begun = 0.0, 0, time.perf_counter()
    while repeats <= _PEAK_REPEATS or time.perf_counter() - begun < _PEAK_SECONDS:
        start = time.perf_counter()
        torch.mm(a, a)[0, 0].item()  # reading a number waits for the device
        if repeats:  # the first one also allocates
            best = max(best, 2 * side**3 / (time.perf_counter() - start) / 1e9)
        repeats += 1
    return best
