"""The running mean of a network's weights (EMA), which is evaluated, previewed and exported.

Weights jitter from step to step; their mean over thousands of steps is better. Polyak and Juditsky, 'Acceleration of
Stochastic Approximation by Averaging' (1992); the warm-up is TensorFlow's.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import nn


class WeightAverage:
    """Running mean: mean <- d mean + (1 - d) weights after every step, with d growing to `decay` at first."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Start at the current weights of `network`; with a `decay` of 0 the mean is the weights themselves."""
        self.decay = decay
        self._names = [name for name, _ in network.named_parameters()]
        self._weights = [parameter.detach() for parameter in network.parameters()]
        self._means = [weight.clone() for weight in self._weights] if decay else []

    @torch.no_grad()
    def update(self, done: int) -> None:
        """Update the mean with the weights after `done` steps."""
        if self.decay:
            # Early weights are poor: a slow mean would keep them for thousands of steps.
            decay = min(self.decay, (1 + done) / (10 + done))
            torch._foreach_lerp_(self._means, self._weights, 1 - decay)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the means by parameter name; empty when there are none."""
        return dict(zip(self._names, self._means, strict=True)) if self.decay else {}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore means that `state` returned; without any, start again at the weights."""
        for name, mean, weight in zip(self._names, self._means, self._weights, strict=bool(self.decay)):
            mean.copy_(state.get(name, weight))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Replace the weights of the network by their means inside a `with` block."""
        if not self.decay:
            yield
            return
        own = [weight.clone() for weight in self._weights]
        with torch.no_grad():
            torch._foreach_copy_(self._weights, self._means)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self._weights, own)
