"""Layers that networks share."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Sum(nn.Module):
    """An Add inside a network, as a module so that it can be fake-quantized."""

    def forward(self, skip: torch.Tensor, branch: torch.Tensor) -> torch.Tensor:
        """Return the sum of the skip input and the output of a branch."""
        return skip + branch


def relu(convolved: torch.Tensor, training: bool) -> torch.Tensor:
    """Return the ReLU of the output of a convolution; in training the output is overwritten, which is faster."""
    # Not in place in evaluation: the exported graph has only operators without side effects.
    return functional.relu(convolved, inplace=training)
