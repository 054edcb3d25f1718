"""Trial steps on a copy, before the training: how many steps fit into the hours, and which precision is faster.

bfloat16 is emulated on devices that do not compute it natively: on a CPU with AVX2, a step then takes ten times as
long as in float32. So `auto` takes it only where it is native, and only after both were timed.
"""

from __future__ import annotations

import copy
import logging
import time
from typing import TYPE_CHECKING, Final, Literal

import msgspec
import torch

from edgedenoise.runtimes.machine import cpu_features
from edgedenoise.training.loop.distributed import World
from edgedenoise.training.loop.stepping import Stepper
from edgedenoise.training.torch_device import memory_layout

if TYPE_CHECKING:
    from torch import nn

    from edgedenoise.training.config.config import TrainConfig
    from edgedenoise.training.objectives.objective import Objective

_log = logging.getLogger(__name__)

Precision = Literal["fp32", "bf16"]

_TRIAL_STEPS = 3
_TRIAL_SECONDS = 3.0
_TRAINING_SHARE = 0.95
"""Of the hours; the rest is for validations, previews and checkpoints."""
_TIMED_STEPS: Final = 2
_NATIVE_FLAGS: Final = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Flags of CPUs that multiply bfloat16 in hardware: x86-64, and ARM (`bf16`)."""


def steps_in(config: TrainConfig, objective: Objective, network: nn.Module, world: World) -> int:
    """Return how many steps fit into `config.hours` here, by doing some on a copy of `network`.

    Every process calls this at the same time: they share the machine then as they will in training.
    """
    stepper = Stepper(config, objective, copy.deepcopy(network), World())
    batch = objective.batch(0, world.share_of(config.batch))
    stepper.step(0, batch)  # allocations and, maybe, compilation
    begun, steps = time.monotonic(), 0
    while steps < _TRIAL_STEPS or time.monotonic() - begun < _TRIAL_SECONDS:
        stepper.step(0, batch)
        steps += 1
    seconds = world.mean_of((time.monotonic() - begun) / steps)
    fitting = max(1, int(config.hours * 3600 * _TRAINING_SHARE / seconds))
    _log.info("%.3f seconds a step: %d steps in %g hours", seconds, fitting, config.hours)
    return fitting


def settled_precision(config: TrainConfig, objective: Objective, network: nn.Module, world: World) -> Precision:
    """Return the precision to train in, and log the reason.

    `auto` becomes `bf16` where the device computes it natively and two timed steps are faster than in float32, except
    with fake quantization, whose values bfloat16 does not hold exactly.
    `bf16` that was asked for is kept; where it is emulated, a warning holds the measured factor. Every process calls
    this at the same time, and all return the same.
    """
    device = next(network.parameters()).device
    native = world.mean_of(float(computes_bf16(device))) == 1.0
    if config.precision == "fp32" or (config.precision == "bf16" and native):
        return config.precision
    if config.quantization_aware and config.precision == "auto":
        _log.info("precision = fp32: bfloat16 would round the 8-bit values of objective = %s again", config.objective)
        return "fp32"
    if not native and config.precision == "auto":
        _log.info("precision = fp32: %s does not compute bfloat16 natively", device)
        return "fp32"
    seconds = {name: _step_seconds(config, name, objective, network, world) for name in ("fp32", "bf16")}
    took = f"a step takes {seconds['bf16']:.3f} s in bf16 and {seconds['fp32']:.3f} s in fp32"
    if config.precision == "bf16":
        _log.warning(
            "precision = bf16 takes %.1f times as long as fp32: %s emulates bfloat16, and %s. Train with "
            "--set precision=auto or --set precision=fp32",
            seconds["bf16"] / seconds["fp32"],
            device,
            took,
        )
        return "bf16"
    chosen: Precision = "bf16" if seconds["bf16"] < seconds["fp32"] else "fp32"
    _log.info("precision = %s: %s computes bfloat16 natively, and %s", chosen, device, took)
    return chosen


def computes_bf16(device: torch.device) -> bool:
    """Return whether a device computes bfloat16 natively; False where that cannot be known."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(cpu_features() & _NATIVE_FLAGS) or _torch_sees_bf16()
    return False


def _torch_sees_bf16() -> bool:
    """Return whether torch sees instructions for bfloat16, where the system lists no CPU flags."""
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(check() for check in checks if check is not None)


def _step_seconds(
    config: TrainConfig, precision: Precision, objective: Objective, network: nn.Module, world: World
) -> float:
    """Measure a step in a precision on a copy of `network`, in seconds: the faster of two, after one to warm up."""
    trial = msgspec.structs.replace(config, precision=precision, compile=False)
    layout = memory_layout(next(network.parameters()).device, precision)
    trained = copy.deepcopy(network).to(memory_format=layout)  # type: ignore[call-overload]
    stepper = Stepper(trial, objective, trained, World())
    batch = objective.batch(0, world.share_of(config.batch))
    stepper.step(0, batch)
    seconds = []
    for _ in range(_TIMED_STEPS):
        begun = time.perf_counter()
        stepper.step(0, batch)
        seconds.append(time.perf_counter() - begun)
    return world.mean_of(min(seconds))
