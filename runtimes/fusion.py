"""What a runtime made of a quantized graph: integers cost time where it could not fuse the rounding with the work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    from edgedenoise.bundles.manifest import Variant


@dataclass(frozen=True)
class Fusion:
    """Counts over the graph as the runtime runs it on the CPU."""

    convolutions: int
    """All of them."""
    in_float: int
    """Of these, how many still multiply floats; the last one always may, its answer stays float."""
    conversions: int
    """Steps that only convert between floats and integers: Q/DQ nodes that were not fused with a layer."""
    dynamic_shape: bool
    """Whether the height and width were left open, so that nothing was planned for one size."""


@runtime_checkable
class TellsFusion(Protocol):
    """A runtime that can say what it made of a graph; a runtime need not."""

    def fusion(self, variant: Variant, path: Path) -> Fusion | None:
        """Count what became of a model file; None when it cannot be told here.

        Raises:
            InferenceError: the file cannot be opened.
        """
        ...
