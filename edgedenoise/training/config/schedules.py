"""Schedules of a training: the learning rate, and the weight of the non-blind losses. No torch here.

Both scale with the number of steps, so that a short run is a scaled copy of a long one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from edgedenoise.training.config.config import CBSNConfig

if TYPE_CHECKING:
    from edgedenoise.training.config.config import TrainConfig


HOLD_TAIL: Final = 0.3
"""Part of the steps, the last ones, over which the learning rate of the schedule `hold` falls."""


def learning_rate_at(config: TrainConfig, step: int) -> float:
    """Return the learning rate of step 0 ... steps - 1.

    `halving` is the schedule of the C-BSN authors (halved every 100k of 500k steps); `cosine` is half a cosine that
    ends just above zero; `hold` does not change, and then falls along half a cosine over the last `HOLD_TAIL` of the
    steps, so that the length of a run can be decided late; `constant` does not change. All rise linearly over the
    first `warmup` steps, which prevents channels from dying before they are useful.
    """
    rise = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    return rise * config.learning_rate * _fall(config, step)


def _fall(config: TrainConfig, step: int) -> float:
    """Return the factor by which the schedule has reduced the learning rate."""
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "halving":
        return float(0.5 ** (5 * step // config.steps))
    done = step / config.steps
    if config.schedule == "hold":
        done = max(0.0, (done - 1 + HOLD_TAIL) / HOLD_TAIL)
    return 0.5 * (1 + math.cos(math.pi * done))


def ramp_at(config: TrainConfig, step: int) -> float:
    """Return s of L_blind + s (L_self + lambda L_inv): min(step / ramp, 1); the official ramp is 200k.

    Other objectives have no ramp: 1.
    """
    if not isinstance(config, CBSNConfig):
        return 1.0
    ramp = config.ramp_fraction * config.steps
    return min(step / ramp, 1.0) if ramp > 0 else 1.0
