"""Measure the values of every activation tensor over a calibration set, with one crop in memory at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgedenoise.calibration.histograms import Histogram, Range
from edgedenoise.errors import CalibrationError
from edgedenoise.progress import Progress, silent
from edgedenoise.runtimes.onnxruntime.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx
    from numpy.typing import NDArray


class Ranges(msgspec.Struct, frozen=True):
    """Measured ranges of one float graph; `calibration/ranges.json` in a bundle."""

    graph_sha256: str
    """SHA-256 of the float ONNX file that was measured: ranges of another graph are refused."""
    crops: int
    tensors: dict[str, Range]
    """ONNX tensor name -> range."""
    float_layers: tuple[str, ...] = ()
    """Outputs of the layers that stayed in float while the others were trained with these ranges."""


def measure_histograms(
    model: onnx.ModelProto,
    inputs: Iterable[NDArray[np.float32]],
    *,
    margin_px: int,
    total: int,
    progress: Progress = silent,
) -> dict[str, Histogram]:
    """Run the float graph over all inputs and return the histogram of every activation tensor, by its name.

    Args:
        model: float ONNX graph.
        inputs: (1, 3, h, w) arrays, halo included.
        margin_px: width of the border that is context only. Values there are left out: zero padding inside the
            network makes some that no kept pixel depends on.
        total: number of inputs, for the progress.
        progress: called after each input.

    Raises:
        CalibrationError: no input came, or a tensor holds NaN or infinity.
    """
    names = [model.graph.input[0].name, *(name for node in model.graph.node for name in node.output)]
    # Fusions would remove tensors that are measured: the reference execution has none.
    reference = Reference(_with_every_output(model, names).SerializeToString())
    found = {name: Histogram() for name in names}
    done = 0
    for x in inputs:
        for name, values in ({names[0]: x} | reference.run({names[0]: x}, names[1:])).items():
            found[name].add(_finite(name, without_margin(values, x.shape[2], margin_px)))
        done += 1
        progress("calibrate", done, total)
    if done == 0:
        raise CalibrationError("the calibration set is empty; at least one crop is needed")
    return found


def _with_every_output(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """Return a copy of the graph that has every activation tensor as an output."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    given = {output.name for output in copy.graph.output}
    copy.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in names[1:]
        if name not in given
    )
    return copy


def without_margin(values: NDArray[np.float32], input_height: int, margin_px: int) -> NDArray[np.float32]:
    """Return a tensor's values without the border that is context only.

    Args:
        values: (1, channels, h, w), the tensor.
        input_height: height of the input that the tensor was computed from.
        margin_px: width of the border of the input. That of a tensor behind a stride is smaller, rounded up.
    """
    if values.shape[2:] == (1, 1):  # the mean of the whole input
        return values
    margin = -(-margin_px * values.shape[2] // input_height)
    return values[:, :, margin : values.shape[2] - margin, margin : values.shape[3] - margin]


def _finite(name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(values).all():
        raise CalibrationError(
            f"the tensor {name} is not finite on a calibration crop",
            hint="The network itself is damaged: check its training log.",
        )
    return values
