"""Schedules of a training: the learning rate, and the weight of the non-blind losses. No torch here.

Both scale with the number of steps, so that a short run is a scaled copy of a long one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgedenoise.training.config.config import CBSNConfig

if TYPE_CHECKING:
    from edgedenoise.training.config.config import TrainConfig


def learning_rate_at(config: TrainConfig, step: int) -> float:
    """Return the learning rate of step 0 ... steps - 1.

    `halving` is the schedule of the C-BSN authors (halved every 100k of 500k steps); `cosine` is half a cosine that
    ends just above zero; `constant` does not change.
    """
    if config.schedule == "constant":
        return config.learning_rate
    if config.schedule == "halving":
        return config.learning_rate * 0.5 ** (5 * step // config.steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * step / config.steps))


def ramp_at(config: TrainConfig, step: int) -> float:
    """Return s of L_blind + s (L_self + lambda L_inv): min(step / ramp, 1); the official ramp is 200k.

    Other objectives have no ramp: 1.
    """
    if not isinstance(config, CBSNConfig):
        return 1.0
    ramp = config.ramp_fraction * config.steps
    return min(step / ramp, 1.0) if ramp > 0 else 1.0
