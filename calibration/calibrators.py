"""Calibrators: rules that turn a histogram into a range. All of them share one pass over the data.

`minmax` keeps all values and is the default: the rare large values of a denoiser are edges and lights, and clipping
them is visible. `percentile` clips a share of the values, `mse` clips where the mean square error of rounding and
clipping together is least, `entropy` where the 8-bit histogram keeps most of the float one (as in TensorRT: Migacz,
'8-bit Inference with TensorRT', GTC 2017).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgedenoise.calibration.histograms import Histogram, Range
from edgedenoise.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

LEVELS = 256
"""Number of values of 8 bits."""
_SHARES = np.linspace(0.3, 1.0, 71)  # shares of the whole range that `mse` and `entropy` try


@dataclass(frozen=True)
class Calibrator:
    """A way of choosing a range."""

    name: str
    choose: Callable[[Histogram], Range]


def minmax(histogram: Histogram) -> Range:
    """Return the whole range."""
    return histogram.range


def percentile(histogram: Histogram, percent: float) -> Range:
    """Return the range that holds `percent` of the values and leaves out as many above as below."""
    share = (1 - percent / 100) / 2
    sums = np.cumsum(histogram.counts) / max(1, histogram.counts.sum())
    width = 2 * histogram.reach / len(sums)
    low = -histogram.reach + width * int(np.searchsorted(sums, share, side="right"))
    high = -histogram.reach + width * (int(np.searchsorted(sums, 1 - share, side="left")) + 1)
    return Range(max(histogram.low, low), min(histogram.high, high))


def mse(histogram: Histogram) -> Range:
    """Return the range, shrunk equally on both sides, with the smallest mean squared error in 256 levels."""
    tried = [_shrunk(histogram, share) for share in _SHARES]
    return min(tried, key=lambda chosen: _square_error(histogram, chosen))


def entropy(histogram: Histogram) -> Range:
    """Return the range, shrunk equally on both sides, whose 256 levels lose least information (Kullback-Leibler)."""
    tried = [_shrunk(histogram, share) for share in _SHARES]
    return min(tried, key=lambda chosen: _divergence(histogram, chosen))


MINMAX = Calibrator("minmax", minmax)
"""The default."""


def calibrator_named(name: str) -> Calibrator:
    """Return a calibrator by its name: minmax, mse, entropy, or percentile-P, for example percentile-99.99.

    Raises:
        UsageError: there is none of that name.
    """
    plain = {one.name: one for one in (MINMAX, Calibrator("mse", mse), Calibrator("entropy", entropy))}
    if name in plain:
        return plain[name]
    match = re.fullmatch(r"percentile-(\d+(?:\.\d+)?)", name)
    if match and 50 < float(match[1]) <= 100:
        percent = float(match[1])
        return Calibrator(name, lambda histogram: percentile(histogram, percent))
    raise UsageError(
        f"there is no calibrator {name!r}; expected {', '.join(plain)} or percentile-P with P above 50, up to 100",
        hint="For example: --calibrator percentile-99.99",
    )


def _shrunk(histogram: Histogram, share: float) -> Range:
    """Return a part of the whole range that contains zero: zero padding must be exact."""
    return Range(min(0.0, histogram.low) * share, max(0.0, histogram.high) * share)


def _square_error(histogram: Histogram, chosen: Range) -> float:
    """Return the sum of the squared errors of all values in 256 levels between the ends of a range."""
    values = histogram.centres
    step = max((chosen.high - chosen.low) / (LEVELS - 1), 1e-30)
    rounded = np.clip(np.rint((values - chosen.low) / step), 0, LEVELS - 1) * step + chosen.low
    return float((histogram.counts * np.square(rounded - values)).sum())


def _divergence(histogram: Histogram, chosen: Range) -> float:
    """Return KL(P || Q): P the values clipped to the range, Q what 256 levels keep of them."""
    values, counts = histogram.centres, histogram.counts.astype(np.float64)
    inside = (values >= chosen.low) & (values <= chosen.high)
    if not inside.any() or not counts[inside].any():
        return float("inf")
    kept = counts[inside]
    clipped = kept.copy()
    clipped[0] += counts[values < chosen.low].sum()
    clipped[-1] += counts[values > chosen.high].sum()
    # Bins of one level share its count evenly, as far as they have any: their own counts are no longer known.
    level = np.minimum(np.arange(len(kept)) * LEVELS // len(kept), LEVELS - 1)
    filled = kept > 0
    sums = np.bincount(level, kept, minlength=LEVELS)
    bins = np.bincount(level[filled], minlength=LEVELS)
    spread = np.where(filled, sums[level] / np.maximum(bins[level], 1), 0.0)
    return _kullback_leibler(clipped / clipped.sum(), spread / spread.sum())


def _kullback_leibler(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Return the divergence of two distributions; a small floor replaces zeros of Q."""
    seen = p > 0
    return float((p[seen] * np.log(p[seen] / np.maximum(q[seen], 1e-12))).sum())
