"""Layers that networks share."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Sum(nn.Module):
    """A sum inside a network, as a module of its own so that it can be computed in 8 bits."""

    def forward(self, skip: torch.Tensor, branch: torch.Tensor) -> torch.Tensor:
        """Add what is skipped to and what a branch made of it."""
        return skip + branch


def relu(convolved: torch.Tensor, training: bool) -> torch.Tensor:
    """Return relu of a convolution's output, which nobody else needs: in training it is overwritten, to be faster."""
    # Not in place for devices: the exported graph keeps to operators that change nothing.
    return functional.relu(convolved, inplace=training)
