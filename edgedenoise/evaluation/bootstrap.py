"""Confidence intervals by the bootstrap: how much a result depends on which images or rounds were measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FEWEST = 5
"""Smallest number of values that an interval is computed from: fewer do not show how values differ."""
CONFIDENCE = 0.95
_RESAMPLES = 4000


class Interval(NamedTuple):
    """The bounds of a confidence interval, in the unit of the values."""

    low: float
    high: float


def mean_interval(values: Sequence[float], *, confidence: float = CONFIDENCE, seed: int = 0) -> Interval | None:
    """Return the confidence interval of a mean by the percentile bootstrap (Efron 1979).

    For the difference of two variants, use the differences per image: images differ more than variants do.

    Args:
        values: one per image; all finite.
        confidence: probability that the interval contains the true mean, 0 to 1.
        seed: seed of the resampling, so that a report of the same results has the same intervals.

    Returns:
        The interval, or None for fewer than `FEWEST` values.

    Example:
        >>> low, high = mean_interval([0.05, 0.1, 0.06, 0.12, 0.07, 0.08])
        >>> low < 0.08 < high
        True
        >>> mean_interval([0.05, 0.1]) is None
        True
    """
    return _interval(values, np.mean, confidence, seed)


def median_interval(values: Sequence[float], *, confidence: float = CONFIDENCE, seed: int = 0) -> Interval | None:
    """Return the confidence interval of a median, as `mean_interval` does for a mean.

    For the speed of two variants, use the ratios per round: the speed of a machine drifts, the ratio does not.

    Args:
        values: one per round; all finite.
        confidence: probability that the interval contains the true median, 0 to 1.
        seed: seed of the resampling.

    Returns:
        The interval, or None for fewer than `FEWEST` values.

    Example:
        >>> low, high = median_interval([30.1, 29.8, 30.4, 47.0, 30.0, 30.2, 29.9])
        >>> 29.8 <= low <= 30.1 <= high < 47
        True
    """
    return _interval(values, np.median, confidence, seed)


def _interval(values: Sequence[float], statistic: Callable[..., Any], confidence: float, seed: int) -> Interval | None:
    if len(values) < FEWEST:
        return None
    given = np.asarray(values, np.float64)
    chosen = np.random.default_rng(seed).integers(0, len(given), (_RESAMPLES, len(given)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(statistic(given[chosen], axis=1), [tail, 1 - tail])
    return Interval(float(low), float(high))
