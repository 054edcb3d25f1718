"""Define the integer encodings: every scheme is derived from the same measured ranges.

A scheme says how a float range becomes a scale and a zero-point, and where Q/DQ pairs stand.
`export/quantization/qdq.py` encodes any of them, `export/quantization/contracts.py` checks graphs against them.
`DEVICE_CLASSES` maps each kind of CPU to its schemes; each backend names its own (`Backend.schemes`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from edgedenoise.bundles.manifest import Encoding
from edgedenoise.errors import UsageError
from edgedenoise.runtimes.machine import is_x86, saturates_u8s8

if TYPE_CHECKING:
    from numpy.typing import NDArray

WeightClip = Literal["none", "mse"]
"""none: a channel's scale reaches its largest weight. mse: the scale of least squared error, which may clip it."""

# What weights are clipped to, as shares of their reach: below half of it, clipping costs more than steps save.
_CLIP_SHARES = np.linspace(1.0, 0.5, 51, dtype=np.float32)


@dataclass(frozen=True)
class Scheme:
    """How activations and weights become integers, and where Q/DQ pairs stand."""

    name: str
    activations: Literal["u8", "s8"]
    """u8: affine, the range is [lo, hi] with a zero-point. s8: symmetric around 0, zero-point 0."""
    weight_bits: int
    """Weights are signed, symmetric, per output channel; 7 bits keep |q| <= 63."""
    weights_as: Literal["integers", "float-qdq"]
    """integers: int8 constants behind a DequantizeLinear. float-qdq: float32 constants behind a Q/DQ pair."""
    bias: Literal["grid", "float"]
    """grid: rounded to activation scale times weight scale, where integer kernels put them. float: as trained."""
    sums: Literal["both", "skip"]
    """Which inputs of an Add have a pair: both; or only the skip, so that the branch's sum is fused with its Conv."""
    joins: Literal["inputs", "output"]
    """inputs: those of a Concat have pairs of one range, and joining is exact. output: only what is joined has one."""

    @property
    def encoding(self) -> Encoding:
        """Record of a variant that is encoded in this scheme, with default choices."""
        return Encoding(self.name, self.activations, "s8", self.weight_bits)


SCHEMES = (
    # Any CPU: sums of two 8x7-bit products fit 16 bits, so kernels without VNNI are exact, and x86, ARM and
    # WebAssembly agree bit for bit.
    Scheme(
        "u8s7",
        "u8",
        7,
        "integers",
        "grid",
        "both",
        "inputs",
    ),
    # For x86 with VNNI and ARM; on other x86 ONNX Runtime is switched to slower saturation-free kernels.
    Scheme(
        "u8s8",
        "u8",
        8,
        "integers",
        "grid",
        "both",
        "inputs",
    ),
    # TensorRT 8.5 to 11, which fuses a Conv with its Relu and with the sum behind it; slow on CPUs.
    Scheme(
        "s8s8",
        "s8",
        8,
        "float-qdq",
        "float",
        "skip",
        "output",
    ),
    # Core ML from iOS 17, W8A8 on the Neural Engine (A17 Pro, M4 and later); slow on CPUs.
    Scheme(
        "coreml",
        "s8",
        8,
        "integers",
        "float",
        "both",
        "inputs",
    ),
)


@dataclass(frozen=True)
class DeviceClass:
    """CPUs that are given the same integers."""

    name: str
    schemes: tuple[str, ...]
    """Names of schemes, the preferred one first; the others run, too."""
    why: str


ANY_CPU = "any-cpu"
DEVICE_CLASSES = (
    DeviceClass(
        ANY_CPU,
        ("u8s7",),
        "bundles travel: 7-bit weights are exact and fast on every CPU, and bit for bit the same on all",
    ),
    DeviceClass(
        "x86",
        ("u8s7", "u8s8"),
        "without VNNI, products of 8-bit pairs saturate: exact kernels for u8s8 take 1.7 times as long in ONNX Runtime,"
        " and OpenVINO has none; where 7 bits miss the budget, OpenVINO on u8s7 keeps some sums in float",
    ),
    DeviceClass("x86-vnni", ("u8s8", "u8s7"), "VNNI sums 8-bit products in 32 bits: the eighth bit costs nothing"),
    DeviceClass("arm", ("u8s8", "u8s7"), "NEON sums 8-bit products in 32 bits: the eighth bit costs nothing"),
)
"""What each device class is given, in order of preference, and why."""


def scheme_named(name: str | None) -> Scheme:
    """Return a scheme by name.

    Raises:
        UsageError: there is none of that name.
    """
    for scheme in SCHEMES:
        if scheme.name == name:
            return scheme
    raise UsageError(
        f"there is no scheme {name!r}; expected one of {', '.join(s.name for s in SCHEMES)}",
        hint=f"Take {DEVICE_CLASSES[0].schemes[0]}, the default, unless the bundle is for one kind of device.",
    )


def schemes_for(device_class: str) -> tuple[Scheme, ...]:
    """Return what a device class may be given, the preferred scheme first.

    Raises:
        UsageError: there is no such class.
    """
    for one in DEVICE_CLASSES:
        if one.name == device_class:
            return tuple(scheme_named(name) for name in one.schemes)
    known = ", ".join(one.name for one in DEVICE_CLASSES)
    raise UsageError(f"there is no device class {device_class!r}; expected one of {known}")


def class_of_this_cpu() -> str:
    """Return the name of the device class that this machine's CPU belongs to."""
    if saturates_u8s8():
        return "x86"
    return "x86-vnni" if is_x86() else "arm"


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


def encode_weight(
    weight: NDArray[np.float32], scheme: Scheme, *, clip: WeightClip = "none"
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantize a convolution's weight per output channel.

    Args:
        weight: (out, in, kh, kw).
        scheme: gives the number of bits.
        clip: whether the largest weights of a channel may be clipped for finer steps.

    Returns:
        The integers, same shape, and the scales, (out,). A channel of zeros gets scale 1.

    Raises:
        UsageError: there is no such way to clip.
    """
    if clip not in get_args(WeightClip):
        raise UsageError(f"there is no weight clipping {clip!r}; expected one of {', '.join(get_args(WeightClip))}")
    limit = 2 ** (scheme.weight_bits - 1) - 1
    rows = weight.reshape(weight.shape[0], -1)
    reach = np.abs(rows).max(axis=1)
    plain = np.where(reach > 0, reach / limit, 1.0).astype(np.float32)
    scale = plain if clip == "none" else _least_error_scale(rows, plain, limit)
    return _rounded(rows, scale, limit).astype(np.int8).reshape(weight.shape), scale


def _least_error_scale(rows: NDArray[np.float32], plain: NDArray[np.float32], limit: int) -> NDArray[np.float32]:
    """Return the scale of each row, (out,), whose rounding has the least squared error; never worse than `plain`."""
    scales = (plain * _CLIP_SHARES[:, None]).astype(np.float32)
    errors = [np.square(_rounded(rows, s, limit) * s[:, None] - rows).sum(axis=1) for s in scales]
    # argmin takes the first of equals, and the first share is 1: where clipping gains nothing, nothing is clipped.
    return np.asarray(scales[np.argmin(errors, axis=0), np.arange(len(rows))])


def _rounded(rows: NDArray[np.float32], scale: NDArray[np.float32], limit: int) -> NDArray[np.float32]:
    return np.asarray(np.clip(np.rint(rows / scale[:, None]), -limit, limit), np.float32)
