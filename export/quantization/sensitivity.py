"""Measure what 8-bit integers cost in each layer: that layer quantized, all others in float."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedenoise.exporting.onnx.graph import conv_macs_per_px
from edgedenoise.exporting.quantization.qdq import encode, quantized_layers
from edgedenoise.exporting.quantization.search_result import LayerCost
from edgedenoise.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

    from edgedenoise.calibration.ranges import Ranges
    from edgedenoise.calibration.schemes import Scheme
    from edgedenoise.exporting.quantization.judge import Judge


def layer_costs(
    model: onnx.ModelProto, ranges: Ranges, scheme: Scheme, judge: Judge, progress: Progress = silent
) -> Iterator[LayerCost]:
    """Yield the cost of quantizing each layer alone, in the order of the graph.

    Args:
        model: the float graph.
        ranges: ranges of its activations.
        scheme: the encoding.
        judge: the images to measure on.
        progress: called after each layer.
    """
    layers = quantized_layers(model, scheme)
    macs = conv_macs_per_px(model)
    names = {node.output[0] for node in layers}
    for done, node in enumerate(layers):
        name = node.output[0]
        progress("layers", done, len(layers), name)
        quality = judge.judge(encode(model, ranges, scheme, names - {name}), scheme)
        share = float(macs.get(name, 0) / sum(macs.values()))
        weight = node.input[1].removesuffix(".weight") if node.op_type == "Conv" else ""
        yield LayerCost(name, weight, node.op_type, share, quality)
    progress("layers", len(layers), len(layers))
