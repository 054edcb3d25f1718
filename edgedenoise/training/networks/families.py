"""Networks by name: their sizes, and how to build them. Torch is imported only when a network is built.

To add a network, add a row to `FAMILIES`: the pattern of its names, and a function that describes one of its sizes,
with the class that builds it.
"""

from __future__ import annotations

import difflib
import importlib
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from edgedenoise.errors import UsageError
from edgedenoise.imaging.normalize import UNIT, WHOLE_IMAGE, Normalization

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn


@dataclass(frozen=True)
class NetworkSpec:
    """One network of one size. All numbers are of the deployed network, with its branches folded."""

    name: str
    """Name in configs and command lines, for example `cbsn-24x4`."""
    parameters: int
    """Number of parameters."""
    macs_per_px: int
    """Multiplications with an addition per output pixel of the deployed path, rounded; biases not counted."""
    halo_px: int
    """Receptive-field radius: context that a tile needs on each side to give the pixels of the whole image."""
    multiple_of: int
    """Divisor of the height and width of an input."""
    normalization: Normalization
    """How the input is normalized. A run may bound it: see `TrainConfig.spec`."""
    has_blind_path: bool
    """Whether the network can be called with `blind=True`, which `cbsn` and `sdap` train."""
    builder: str
    """`module:callable`, called with `arguments`."""
    arguments: dict[str, int]
    """Arguments of the builder; `width` is always the number of channels."""
    level_planes: int = 0
    """Number of input planes after red, green and blue that hold the noise level: 0 or 1 (`noise/level.py`)."""


@dataclass(frozen=True)
class NetworkFamily:
    """A kind of network, of one size or of many."""

    form: str
    """Form of its names, for messages."""
    example: str
    """Name of a good first choice."""
    pattern: str
    """Regular expression of its names; the groups are integers."""
    describe: Callable[..., NetworkSpec]
    """Returns the spec from (name, *integers)."""


def _cbsn(name: str, width: int, modules: int) -> NetworkSpec:
    """Return the spec of a C-BSN; `cbsn.py` has the layers in the same order."""
    c, hidden = width, 64
    module = 9 * c * c + c * c
    branch = 2 * c * c + modules * module + c * c
    tail = 2 * c * c + c * hidden + hidden * hidden + hidden * 3
    macs = 3 * c + (9 + 25) * c * c + 2 * branch + tail
    biases = c + 2 * (1 + 2 + 2 * modules + 1) * c + (c + hidden + hidden + 3)
    return NetworkSpec(
        name=name,
        parameters=macs + biases,
        macs_per_px=macs,
        # Masked kernel and dilated modules: 1 + 2 N in one branch, 2 + 3 N in the other; the larger counts.
        halo_px=2 + 3 * modules,
        multiple_of=1,
        normalization=WHOLE_IMAGE,
        has_blind_path=True,
        builder="edgedenoise.training.networks.cbsn:CBSN",
        arguments={"width": width, "modules": modules},
    )


def _edge(name: str, *, width: int, convolutions: int, level_planes: int = 0) -> NetworkSpec:
    """Return the spec of an `EdgeNetwork`; `students.py` has the layers in the same order."""
    c, n = width, convolutions
    weights = 36 * (3 + level_planes) * c + n * 9 * c * c + 9 * c * 12
    return NetworkSpec(
        name=name,
        parameters=weights + c + n * c + 12,
        macs_per_px=round(weights / 4),  # everything runs on a quarter of the pixels
        # The head sees 2 pixels beyond its cell of 2x2, 3 from the far pixel in it; each 3x3 convolution, a cell more.
        halo_px=3 + 2 * (n + 1),
        multiple_of=2,
        normalization=UNIT,
        has_blind_path=False,
        builder="edgedenoise.training.networks.students:EdgeNetwork",
        arguments={"width": c, "convolutions": n} | ({"level_planes": level_planes} if level_planes else {}),
        level_planes=level_planes,
    )


def _edge_plus(name: str, *, width: int, inner_width: int, convolutions: int) -> NetworkSpec:
    """Return the spec of an `EdgePlusNetwork`; `students.py` has the layers in the same order."""
    c, d, n = width, inner_width, convolutions
    half = 36 * 3 * c + 4 * 9 * c * c + 9 * c * 12
    quarter = 16 * c * d + n * 9 * d * d + d * 4 * c
    return NetworkSpec(
        name=name,
        parameters=half + quarter + c + 4 * c + 12 + d + n * d + 4 * c,
        macs_per_px=round(half / 4 + quarter / 16),
        # In cells of 2x2 pixels: three 3x3 behind the inner scale, up to two for being off its grid and for the
        # 4x4 kernel, two for each 3x3 there, two 3x3 before it; and the head as above.
        halo_px=3 + 2 * (3 + 2 + 2 * n + 2),
        multiple_of=4,
        normalization=UNIT,
        has_blind_path=False,
        builder="edgedenoise.training.networks.students:EdgePlusNetwork",
        arguments={"width": c, "inner_width": d, "convolutions": n},
    )


FAMILIES: Final = (
    NetworkFamily(
        form="cbsn-WxN (W channels, N modules per branch)",
        example="cbsn-24x4",
        pattern=r"cbsn-([1-9]\d{0,3})x([1-9]\d?)",
        describe=_cbsn,
    ),
    NetworkFamily(
        form="edge-tiny (a student for slow devices)",
        example="edge-tiny",
        pattern="edge-tiny",
        describe=partial(_edge, width=32, convolutions=6),
    ),
    NetworkFamily(
        form="edge (a student for every device)",
        example="edge",
        pattern="edge",
        describe=partial(_edge, width=48, convolutions=8),
    ),
    NetworkFamily(
        form="edge-level (edge with the noise level as a fourth input plane)",
        example="edge-level",
        pattern="edge-level",
        describe=partial(_edge, width=48, convolutions=8, level_planes=1),
    ),
    NetworkFamily(
        form="edge-plus (a student for GPUs and NPUs)",
        example="edge-plus",
        pattern="edge-plus",
        describe=partial(_edge_plus, width=48, inner_width=96, convolutions=5),
    ),
)
"""All networks."""

_WELL_KNOWN = (
    "cbsn-16x4", "cbsn-24x4", "cbsn-32x5", "cbsn-64x5", "cbsn-64x9", "cbsn-128x9", "edge-tiny", "edge", "edge-level",
    "edge-plus",
)  # fmt: skip


def network_spec(name: str) -> NetworkSpec:
    """Return the spec of the network `name`.

    Raises:
        UsageError: no network has this name.

    Example:
        >>> network_spec("cbsn-24x4").halo_px
        14
    """
    for family in FAMILIES:
        match = re.fullmatch(family.pattern, name)
        if match:
            return family.describe(name, *map(int, match.groups()))
    accepted = "; ".join(family.form for family in FAMILIES)
    close = difflib.get_close_matches(name, _WELL_KNOWN, n=1)
    suggestion = close[0] if close else FAMILIES[0].example
    raise UsageError(f"there is no network {name!r}: expected {accepted}", hint=f"Did you mean {suggestion}?")


def build_network(spec: NetworkSpec, *, seed: int | None = None) -> nn.Module:
    """Build the network of `spec` with fresh weights, in training mode, on the CPU.

    Args:
        spec: from `network_spec`.
        seed: makes the weights a function of this number and leaves torch's own generator as it was;
            without it they come from torch's generator.
    """
    import torch

    module, _, name = spec.builder.partition(":")
    builder: Callable[..., nn.Module] = getattr(importlib.import_module(module), name)
    if seed is None:
        return builder(**spec.arguments)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return builder(**spec.arguments)
