"""Histograms forget nothing that matters, and calibrators choose from them what their names say."""

from __future__ import annotations

import numpy as np
import pytest

from edgedenoise.calibration.calibrators import LEVELS, calibrator_named
from edgedenoise.calibration.histograms import BINS, Histogram, Range, from_bytes, to_bytes
from edgedenoise.errors import UsageError


def histogram_of(*parts: np.ndarray) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.add(np.asarray(part, np.float32))
    return histogram


def values(count: int = 100_000, seed: int = 0) -> np.ndarray:
    """Mostly small values, and a few large ones: what activations look like."""
    random = np.random.default_rng(seed)
    return np.concatenate([random.laplace(0, 1, count), [40.0]]).astype(np.float32)


def error_of(chosen: Range, x: np.ndarray) -> float:
    step = (chosen.high - chosen.low) / (LEVELS - 1)
    rounded = np.clip(np.rint((x - chosen.low) / step), 0, LEVELS - 1) * step + chosen.low
    return float(np.square(rounded - x).mean())


def test_counts_do_not_depend_on_the_order_of_what_comes():
    small, large = np.linspace(-0.1, 0.1, 999), np.linspace(-50, 70, 1001)
    one, other = histogram_of(small, large), histogram_of(large, small)
    assert (one.reach, one.range) == (other.reach, other.range) == (128.0, Range(-50.0, 70.0))
    # A value on the border of two bins may fall into either, and nothing else may differ.
    assert np.abs(np.cumsum(one.counts) - np.cumsum(other.counts)).max() <= 2
    assert one.counts.sum() == small.size + large.size


def test_a_bin_holds_the_values_around_its_centre():
    x = values()
    histogram = histogram_of(x)
    assert np.average(histogram.centres, weights=histogram.counts) == pytest.approx(x.mean(), abs=1e-3)
    width = 2 * histogram.reach / BINS
    place = int(np.argmin(np.abs(histogram.centres - 1.0)))
    inside = np.abs(x - histogram.centres[place]) <= width / 2
    assert histogram.counts[place] == pytest.approx(inside.sum(), abs=3)


def test_what_is_stored_is_read_back():
    histograms = {"image": histogram_of(values()), "r/e,lu": histogram_of(np.zeros(3))}
    found = from_bytes(to_bytes(histograms))
    assert list(found) == list(histograms)
    for name, one in histograms.items():
        assert (found[name].range, found[name].reach) == (one.range, one.reach)
        assert np.array_equal(found[name].counts, one.counts)


def test_minmax_keeps_everything():
    x = values()
    assert calibrator_named("minmax").choose(histogram_of(x)) == Range(float(x.min()), float(x.max()))


def test_percentile_leaves_its_share_out():
    x = values()
    chosen = calibrator_named("percentile-99").choose(histogram_of(x))
    assert np.mean(x < chosen.low) == pytest.approx(0.005, abs=1e-3)
    assert np.mean(x > chosen.high) == pytest.approx(0.005, abs=1e-3)
    assert calibrator_named("percentile-100").choose(histogram_of(x)) == Range(float(x.min()), float(x.max()))


def test_mse_has_the_least_error_of_all_shrunken_ranges():
    x = values()
    whole = Range(float(x.min()), float(x.max()))
    chosen = calibrator_named("mse").choose(histogram_of(x))
    errors = [error_of(Range(whole.low * share, whole.high * share), x) for share in np.linspace(0.3, 1, 29)]
    assert error_of(chosen, x) <= min(errors) * 1.02
    assert error_of(chosen, x) < error_of(whole, x)


def test_mse_keeps_a_range_that_is_full():
    x = np.linspace(0, 1, 100_001)
    assert calibrator_named("mse").choose(histogram_of(x)).high == pytest.approx(1, abs=0.011)


def test_entropy_clips_a_lonely_value_and_keeps_an_even_range():
    assert calibrator_named("entropy").choose(histogram_of(values())).high < 30
    even = calibrator_named("entropy").choose(histogram_of(np.linspace(0, 1, 100_001)))
    assert even.high > 0.9


@pytest.mark.parametrize("name", ["minmax", "percentile-99.9", "mse", "entropy"])
@pytest.mark.parametrize("x", [np.zeros(10), np.full(10, 3.0), np.array([-1e-12, 1e-12])], ids=["0", "3", "tiny"])
def test_tensors_without_a_spread_have_a_range_too(name, x):
    chosen = calibrator_named(name).choose(histogram_of(x))
    assert np.isfinite([chosen.low, chosen.high]).all()
    assert chosen.low <= chosen.high


@pytest.mark.parametrize("name", ["max", "percentile-", "percentile-40", "percentile-101", "MSE"])
def test_an_unknown_calibrator_is_told_what_is_accepted(name):
    with pytest.raises(UsageError, match="percentile-P"):
        calibrator_named(name)
