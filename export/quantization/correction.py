"""Correct quantized graphs by weight clipping and bias correction, kept only where they measure better.

Clipping takes the scale of least squared error for each channel (`schemes.encode_weight`). Bias correction restores the
mean of each channel, layer by layer, each behind the corrected layers before it (Nagel et al. 2019, "Data-Free
Quantization Through Weight Equalization and Bias Correction", empirical form, section 4.2.1 and appendix D). Weights
that were trained in 8 bits were trained for plain rounding, so both are off for them by default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from edgedenoise.calibration.ranges import without_margin
from edgedenoise.calibration.schemes import WeightClip
from edgedenoise.errors import UsageError
from edgedenoise.exporting.onnx.graph import with_own_constants
from edgedenoise.exporting.quantization.divergence import cut_behind
from edgedenoise.runtimes.onnxruntime.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import onnx
    from numpy.typing import NDArray

    Shifts = Mapping[str, NDArray[np.float32]]
    Encode = Callable[[WeightClip, Shifts], onnx.ModelProto]

BiasCorrection = Literal["none", "mean"]
"""`mean`: each output channel of a convolution keeps the mean that it has in float."""
Auto = Literal["auto"]
"""Measure with and without, and keep the better one."""

LEAST_GAIN_DB = 0.05
"""Smaller gains on a few crops are chance: the plain encoding is kept."""


@dataclass(frozen=True)
class Refined:
    """A QDQ graph, its corrections, and what they gained."""

    model: onnx.ModelProto
    weight_clip: WeightClip = "none"
    weight_clip_gain_db: float | None = None
    """PSNR to the float output with the clipping minus that without; None where it was not tried."""
    bias_correction: BiasCorrection = "none"
    bias_correction_gain_db: float | None = None


def refine(
    encode: Encode,
    distance_db: Callable[[onnx.ModelProto], float],
    shifts: Callable[[Callable[[Shifts], onnx.ModelProto]], Shifts],
    *,
    weight_clip: WeightClip | Auto,
    bias_correction: BiasCorrection | Auto,
) -> Refined:
    """Return a graph encoded with the corrections that were asked for, or with those that measure better.

    Args:
        encode: makes the QDQ graph, given how weights are clipped and what is added to each bias, by the bias's name.
        distance_db: PSNR of a QDQ graph to the float output.
        shifts: what is to be added to each bias, given what encodes the graph with such; see `mean_shifts`.
        weight_clip: `auto` keeps `mse` where it gains at least `LEAST_GAIN_DB`.
        bias_correction: likewise.

    Raises:
        UsageError: there is no such clipping or correction.
    """
    check_ways(weight_clip, bias_correction)
    best = Refined(encode("none", {}))
    if weight_clip == bias_correction == "none":
        return best
    before = distance_db(best.model)
    if weight_clip != "none":
        tried = encode("mse", {})
        gain = distance_db(tried) - before
        if weight_clip == "mse" or gain >= LEAST_GAIN_DB:
            best, before = Refined(tried, "mse", gain), before + gain
        else:
            best = Refined(best.model, "none", gain)
    if bias_correction != "none":
        clip = best.weight_clip
        tried = encode(clip, shifts(lambda known: encode(clip, known)))
        gain = distance_db(tried) - before
        kept = bias_correction == "mean" or gain >= LEAST_GAIN_DB
        model = tried if kept else best.model
        best = Refined(model, clip, best.weight_clip_gain_db, "mean" if kept else "none", gain)
    return best


def check_ways(weight_clip: str, bias_correction: str) -> None:
    """Check the names of a weight clipping and a bias correction.

    Raises:
        UsageError: a name is not accepted; the message lists those that are.
    """
    for what, found, accepted in (
        ("weight clipping", weight_clip, (*get_args(WeightClip), "auto")),
        ("bias correction", bias_correction, (*get_args(BiasCorrection), "auto")),
    ):
        if found not in accepted:
            raise UsageError(f"there is no {what} {found!r}; expected one of {', '.join(accepted)}")


def mean_shifts(
    model: onnx.ModelProto,
    encode: Callable[[Shifts], onnx.ModelProto],
    inputs: Sequence[NDArray[np.float32]],
    margin_px: int,
) -> dict[str, NDArray[np.float32]]:
    """Return the shifts of biases that give every convolution's output channel the mean that it has in float.

    Args:
        model: the float graph.
        encode: makes its QDQ graph, given the shifts so far.
        inputs: (1, 3, h, w) crops with their margin.
        margin_px: width of the border that is context only.

    Returns:
        (out,) by the name of the bias; convolutions without a bias have none.
    """
    found: dict[str, NDArray[np.float32]] = {}
    for node in with_own_constants(model).graph.node:
        if node.op_type == "Conv" and len(node.input) > 2:
            wanted, had = (_channel_means(g, node.output[0], inputs, margin_px) for g in (model, encode(found)))
            found[node.input[2]] = (wanted - had).astype(np.float32)
    return found


def _channel_means(
    graph: onnx.ModelProto, tensor: str, inputs: Sequence[NDArray[np.float32]], margin_px: int
) -> NDArray[np.float64]:
    """Return the mean of each channel of a tensor, (channels,), in exact arithmetic."""
    reference = Reference(cut_behind(graph, tensor).SerializeToString())
    means = []
    for x in inputs:
        (values,) = reference.run({graph.graph.input[0].name: x}).values()
        (inner,) = without_margin(values, x.shape[2], margin_px)
        means.append(inner.mean(axis=(1, 2), dtype=np.float64))
    return np.asarray(np.mean(means, axis=0))
