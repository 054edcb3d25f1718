"""Find the layers that cost most in integers, to keep them in float: what `build` does within a time limit.

Each layer is quantized alone to measure its error. The layers then return to float in the order of error for the time
that their integers save, until the held-out images lose little enough in the mean and on the worst image.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgedenoise.bundles.manifest import MOST_MEAN_LOSS_DB, MOST_WORST_LOSS_DB
from edgedenoise.exporting.onnx.graph import conv_macs_per_px, in_graph_order
from edgedenoise.exporting.quantization.judge import AIM
from edgedenoise.exporting.quantization.qdq import encode
from edgedenoise.exporting.quantization.sensitivity import layer_costs
from edgedenoise.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import onnx

    from edgedenoise.calibration.ranges import Ranges
    from edgedenoise.calibration.schemes import Scheme
    from edgedenoise.exporting.quantization.judge import Judge
    from edgedenoise.exporting.quantization.search_result import Fidelity, LayerCost

LEAST_INT8_SHARE = 0.75
"""Smallest accepted share of the multiply-accumulates in integers."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeptLayers:
    """The layers to keep in float."""

    layers: tuple[str, ...]
    """Names of their outputs, in the order of the graph."""
    fidelity: Fidelity
    """What the rest in integers loses."""


def find_float_layers(
    model: onnx.ModelProto,
    ranges: Ranges,
    scheme: Scheme,
    judge: Judge,
    *,
    seconds: float,
    progress: Progress = silent,
) -> KeptLayers:
    """Return the layers whose integers cost too much, none where all layers in integers lose little.

    Args:
        model: the float graph.
        ranges: ranges of its activations.
        scheme: the encoding.
        judge: held-out images with clean images, true or replayed.
        seconds: no new measurement begins after this time; 0 keeps no layer in float.
        progress: called after each measurement.
    """
    end = time.monotonic() + seconds

    def judged(kept: frozenset[str]) -> Fidelity:
        progress("search", len(tried), len(tried) + 1, f"{len(kept)} layers in float")
        found = judge.judge(encode(model, ranges, scheme, kept), scheme)
        tried[kept] = found
        progress("search", len(tried), len(tried))
        return found

    tried: dict[frozenset[str], Fidelity] = {}
    whole = judged(frozenset())
    if seconds and excess(whole) > AIM:
        costs = _until(end, layer_costs(model, ranges, scheme, judge.middle(), progress))
        macs = {name: float(one) for name, one in conv_macs_per_px(model).items()}
        order = affordable(by_dearness(costs), macs)
        smallest_prefix(order, lambda kept: excess(judged(frozenset(kept))) <= AIM, until=end)
        if time.monotonic() >= end:
            _log.warning("the search for layers to keep in float ended after %.0f s, unfinished", seconds)
    best = min(tried, key=lambda kept: (max(AIM, excess(tried[kept])), len(kept)))
    return KeptLayers(tuple(in_graph_order(model, best)), tried[best])


def _until(end: float, costs: Iterator[LayerCost]) -> list[LayerCost]:
    """Return the costs that are measured before an end of `time.monotonic()`; at least one."""
    found = []
    for cost in costs:
        found.append(cost)
        if time.monotonic() >= end:
            break
    return found


def excess(fidelity: Fidelity) -> float:
    """Return the loss as a multiple of the largest recommended one: the mean or the worst image, whichever is more."""
    return max(
        (fidelity.drop_db or 0.0) / MOST_MEAN_LOSS_DB,
        (fidelity.worst_drop_db or 0.0) / MOST_WORST_LOSS_DB,
    )


def by_dearness(costs: Iterable[LayerCost]) -> list[str]:
    """Return layers in the order of the squared error that they make, for each part of the time that integers save."""

    def dearness(cost: LayerCost) -> float:
        error = 10 ** (-cost.quality.to_float_db / 10)
        return float(error / (cost.macs_share + 0.01))  # an Add costs no multiplications, but is not free

    return [cost.layer for cost in sorted(costs, key=dearness, reverse=True)]


def affordable(order: Iterable[str], macs: dict[str, float]) -> list[str]:
    """Return the layers that can be in float together, in order: the others would leave too little in integers."""
    left = sum(macs.values()) * (1 - LEAST_INT8_SHARE)
    kept = []
    for name in order:
        if macs.get(name, 0.0) <= left:
            kept.append(name)
            left -= macs.get(name, 0.0)
    return kept


def smallest_prefix(
    order: Sequence[str], holds: Callable[[Sequence[str]], bool], *, until: float = float("inf")
) -> Sequence[str] | None:
    """Return the shortest beginning of a list that holds, by halving; None where the whole list does not.

    Args:
        order: a list of which longer beginnings hold where shorter ones do.
        holds: judges a beginning.
        until: `time.monotonic()` after which nothing more is judged.
    """
    if not order or time.monotonic() >= until or not holds(order):
        return None
    fails, found = 0, len(order)
    while found - fails > 1 and time.monotonic() < until:
        middle = (fails + found) // 2
        if holds(order[:middle]):
            found = middle
        else:
            fails = middle
    return order[:found]
