"""Ranges of a graph for tests that have no calibration set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedenoise.calibration.ranges import Ranges, measure_histograms

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import onnx
    from numpy.typing import NDArray


def measure_ranges(model: onnx.ModelProto, inputs: Sequence[NDArray[np.float32]], *, margin_px: int) -> Ranges:
    """Return the whole range of every activation tensor over some inputs, halo included."""
    histograms = measure_histograms(model, inputs, margin_px=margin_px, total=len(inputs))
    return Ranges("", len(inputs), {name: histogram.range for name, histogram in histograms.items()})
