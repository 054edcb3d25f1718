"""How far a backend may be from the reference execution (unfused W8A8), scheme by scheme.

Each backend states its bounds in `Backend.error_bounds`; `verify` and the tests hold it to them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ReferenceBound:
    """Largest accepted distance between a backend and the reference execution on a bundle's self-test image."""

    min_psnr_db: float
    """Least PSNR, the peak being 1 (images in [0, 1])."""
    max_error_lsb: float
    """Maximum absolute error of one value, in 8-bit levels."""
    why: str
    """Cause of a difference that is within the bound."""

    def holds(self, psnr_db: float, max_error_lsb: float) -> bool:
        """Return whether a distance to the reference execution is within the bound."""
        return psnr_db >= self.min_psnr_db and max_error_lsb <= self.max_error_lsb


@dataclass(frozen=True)
class SchemeBounds:
    """Bounds of one scheme on one backend."""

    plain: ReferenceBound
    """Bound for networks that are one chain of convolutions, such as the students."""
    with_sums: ReferenceBound
    """Bound for networks with quantized Add or Concat nodes, such as C-BSN."""


ROUNDING_TIES = ReferenceBound(60.0, 8.0, "the integers are the same except where a value falls on a rounding tie")
FLOAT_SUMS = ReferenceBound(42.0, 24.0, "Add and Concat nodes are computed in float where the graph rounds them")
ROUNDED_BIASES = ReferenceBound(42.0, 24.0, "integer kernels round the biases that these schemes keep in float")
