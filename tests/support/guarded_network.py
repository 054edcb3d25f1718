"""A small network that takes the noise level, and its graph with the guard; needs torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from edgedenoise.exporting.onnx.tracing import deployed, trace
from edgedenoise.training.networks.families import network_spec
from edgedenoise.training.networks.students import EdgeNetwork

if TYPE_CHECKING:
    import onnx

SPEC = network_spec("edge-level")
WIDTH, CONVOLUTIONS = 12, 2
HALO_PX = 3 + 2 * (CONVOLUTIONS + 1)
"""Of the network alone."""


def level_network() -> EdgeNetwork:
    """Return a network of random weights whose residual is some 8-bit levels strong."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        result = EdgeNetwork(WIDTH, CONVOLUTIONS, level_planes=1).eval()
        torch.nn.init.normal_(result.tail.weight, std=0.01)
        for module in (*result.body, result.tail):
            torch.nn.init.normal_(module.bias, std=0.003)
    return result


def guarded_graph() -> onnx.ModelProto:
    """Return the graph of the network with its guard."""
    return trace(deployed(level_network(), SPEC), 4).model
