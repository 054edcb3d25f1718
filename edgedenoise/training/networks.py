"""Networks by name: what each is, in numbers, and how it is built. No torch until one is built.

A network is added as one row of `FAMILIES`: the names that it answers to, and a function that describes a
size of it, with the class that builds it.
"""

from __future__ import annotations

import difflib
import importlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edgedenoise.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from edgedenoise.normalize import NormalizationKind


@dataclass(frozen=True)
class NetworkSpec:
    """One network of one size."""

    name: str
    """What configs and command lines call it, for example `cbsn-24x4`."""
    width: int
    """Channels of the trunk."""
    modules: int
    """Number of modules in each branch of the trunk."""
    parameters: int
    """Trainable numbers, exactly."""
    macs_per_px: int
    """Multiplications with an addition per output pixel of the deployed path, biases not counted."""
    halo_px: int
    """Receptive-field radius: context that a tile needs on each side to give the whole picture's pixels."""
    multiple_of: int
    """Height and width of an input must be divisible by it."""
    normalization: NormalizationKind
    """What the input is: whole-image statistics, or pixels in [0, 1]."""
    builder: str
    """`module:callable`, called with `width=` and `modules=`."""


@dataclass(frozen=True)
class NetworkFamily:
    """A kind of network that comes in sizes."""

    form: str
    """How its names look, for people."""
    example: str
    """A good first choice."""
    pattern: str
    """Regular expression of its names, with the groups `width` and `modules`."""
    describe: Callable[[str, int, int], NetworkSpec]
    """(name, width, modules) to spec."""


def _cbsn(name: str, width: int, modules: int) -> NetworkSpec:
    """Count a C-BSN: see `cbsn.py` for the layers in the same order."""
    c, hidden = width, 64
    module = 9 * c * c + c * c
    branch = 2 * c * c + modules * module + c * c
    tail = 2 * c * c + c * hidden + hidden * hidden + hidden * 3
    macs = 3 * c + (9 + 25) * c * c + 2 * branch + tail
    biases = c + 2 * (1 + 2 + 2 * modules + 1) * c + (c + hidden + hidden + 3)
    return NetworkSpec(
        name=name,
        width=width,
        modules=modules,
        parameters=macs + biases,
        macs_per_px=macs,
        # Masked kernel and dilated modules: 1 + 2 N in one branch, 2 + 3 N in the other; the larger counts.
        halo_px=2 + 3 * modules,
        multiple_of=1,
        normalization="whole-image",
        builder="edgedenoise.training.cbsn:CBSN",
    )


FAMILIES: Final = (
    NetworkFamily(
        form="cbsn-WxN (W channels, N modules per branch)",
        example="cbsn-24x4",
        pattern=r"cbsn-(?P<width>[1-9]\d{0,3})x(?P<modules>[1-9]\d?)",
        describe=_cbsn,
    ),
)
"""Every network that can be named."""

_WELL_KNOWN = ("cbsn-16x4", "cbsn-24x4", "cbsn-32x5", "cbsn-64x5", "cbsn-64x9", "cbsn-128x9")


def network_spec(name: str) -> NetworkSpec:
    """Return the network that `name` stands for.

    Raises:
        UsageError: no network has such a name.
    """
    for family in FAMILIES:
        match = re.fullmatch(family.pattern, name)
        if match:
            return family.describe(name, int(match["width"]), int(match["modules"]))
    accepted = "; ".join(f"{family.form}, for example {family.example}" for family in FAMILIES)
    close = difflib.get_close_matches(name, _WELL_KNOWN, n=1)
    suggestion = close[0] if close else FAMILIES[0].example
    raise UsageError(f"there is no network {name!r}; accepted: {accepted}", hint=f"Did you mean {suggestion}?")


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
        return builder(width=spec.width, modules=spec.modules)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return builder(width=spec.width, modules=spec.modules)
