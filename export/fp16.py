"""Half precision: the float graph converted, after a check that its ranges fit.

The largest float16 is 65504; larger values become infinity, on some backends silently. The ranges of the calibration
set show beforehand whether a network comes near that limit, and at which layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgedenoise.calibration.calibrate import measured_ranges
from edgedenoise.errors import ExportError
from edgedenoise.exporting.onnx.graph import weights

if TYPE_CHECKING:
    import onnx

    from edgedenoise.bundles.bundle import Bundle

FLOAT16_MAX = float(np.finfo(np.float16).max)
"""65504."""
MARGIN = 4.0
"""Factor by which a value may be larger on other images than on the calibration set."""


def check_fp16(bundle: Bundle, model: onnx.ModelProto) -> None:
    """Check that neither weights nor activations of a bundle's network come near the largest float16 number.

    Args:
        bundle: holds the ranges that were measured on its calibration set.
        model: its float graph.

    Raises:
        CalibrationError: the bundle was never calibrated, so its ranges are unknown.
        ExportError: a layer does come near, and the message names it.
    """
    for name, found in measured_ranges(bundle).tensors.items():
        _check_reach(f"the layer {name} reaches", max(-found.low, found.high), FLOAT16_MAX / MARGIN)
    for name, weight in weights(model).items():
        if weight.dtype == np.float32 and weight.size:
            _check_reach(f"the weights {name} reach", float(np.abs(weight).max()), FLOAT16_MAX)


def _check_reach(what: str, reach: float, limit: float) -> None:
    if not reach <= limit:
        raise ExportError(
            f"{what} {reach:.0f}; float16 ends at {FLOAT16_MAX:.0f}, and at most {limit:.0f} is accepted"
            f" (activations may become {MARGIN:g} times as large on other images as on the calibration set)",
            hint="Use --precision fp32 or int8 for this network.",
        )


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a float graph that computes in float16, with float32 in and out, as ONNX Runtime's own converter makes it.

    `check_fp16` comes first: the converter clips what does not fit, silently.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    copy, converted = onnx.ModelProto(), onnx.ModelProto()
    copy.CopyFrom(model)
    graph = OnnxModel(convert_float_to_float16(copy, keep_io_types=True))
    graph.topological_sort()  # the converter appends its casts behind their users
    converted.CopyFrom(graph.model)
    onnx.checker.check_model(converted, full_check=True)
    return converted
