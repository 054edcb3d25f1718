"""Integer encodings as data. Every scheme is derived from the same measured ranges.

A scheme says how a float range becomes a scale and a zero-point; where Q/DQ pairs stand is in `export/quantize.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgedenoise.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Scheme:
    """How activations and weights become integers."""

    name: str
    activations: Literal["u8", "s8"]
    """u8: affine, the range is [lo, hi] with a zero-point. s8: symmetric around 0, zero-point 0."""
    weight_bits: int
    """Weights are signed, symmetric, per output channel; 7 bits keep |q| <= 63."""
    for_whom: str


SCHEMES = (
    Scheme(
        "u8s7",
        "u8",
        7,
        "any CPU: sums of two 8x7-bit products fit 16 bits, so kernels without VNNI are exact, and x86, ARM and"
        " WebAssembly agree bit for bit",
    ),
    Scheme(
        "u8s8",
        "u8",
        8,
        "x86 with VNNI and ARM; on other x86 ONNX Runtime is switched to slower saturation-free kernels",
    ),
)


def scheme_named(name: str | None) -> Scheme:
    """Return a scheme by name.

    Raises:
        UsageError: there is none of that name.
    """
    for scheme in SCHEMES:
        if scheme.name == name:
            return scheme
    raise UsageError(f"there is no scheme {name!r}; accepted are {', '.join(s.name for s in SCHEMES)}")


def encode_range(low: float, high: float, scheme: Scheme) -> tuple[np.float32, np.integer]:
    """Return (scale, zero_point) of an activation tensor whose values lie in [low, high].

    The range is widened to contain 0, because zero padding must be exact. A tensor that is always 0 gets a scale of
    1, which encodes it exactly and which every parser accepts (they refuse scale 0).
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if scheme.activations == "s8":
        reach = max(-low, high)
        return np.float32(reach / 127 if reach > 0 else 1.0), np.int8(0)
    scale = np.float32((high - low) / 255 if high > low else 1.0)
    return scale, np.uint8(np.clip(np.rint(-low / scale), 0, 255))


def encode_weight(weight: NDArray[np.float32], scheme: Scheme) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantize a convolution's weight per output channel.

    Args:
        weight: (out, in, kh, kw).
        scheme: gives the number of bits.

    Returns:
        The integers, same shape, and the scales, (out,). A channel of zeros gets scale 1.
    """
    limit = 2 ** (scheme.weight_bits - 1) - 1
    reach = np.abs(weight).reshape(weight.shape[0], -1).max(axis=1)
    scale = np.where(reach > 0, reach / limit, 1.0).astype(np.float32)
    integers = np.rint(weight / scale.reshape(-1, 1, 1, 1))
    return np.clip(integers, -limit, limit).astype(np.int8), scale
