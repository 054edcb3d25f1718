"""Counts over a quantized graph as a backend runs it: integers are slow where rounding is not fused with a layer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fusion:
    """Counts over the graph as the backend runs it."""

    convolutions: int
    """Number of convolutions."""
    in_float: int
    """Number of convolutions that still multiply floats; the last one always may, because its output stays float."""
    conversions: int
    """Number of steps that only convert between floats and integers: Q/DQ nodes that were not fused with a layer."""
    dynamic_shape: bool
    """Whether height and width were left open, so that nothing was planned for one size."""
