"""Half precision is computed within its rounding, and never where it would overflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from graphs import branched_graph, shuffling_graph

import edgedenoise
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.writer import BundleWriter
from edgedenoise.calibration.calibrate import RANGES_FILE, measured_ranges
from edgedenoise.calibration.histograms import Range
from edgedenoise.errors import CalibrationError, ExportError
from edgedenoise.exporting.fp16 import FLOAT16_MAX, MARGIN, check_fp16, to_fp16
from edgedenoise.imaging.metrics import psnr_unit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": x})[0])


def reach(bundle: Bundle, layer: str, high: float) -> Bundle:
    """Return the bundle as if a layer had reached `high` on its calibration set."""
    bundle = Bundle.open(bundle.root)
    ranges = measured_ranges(bundle)
    ranges = msgspec.structs.replace(ranges, tensors={**ranges.tensors, layer: Range(0.0, high)})
    with BundleWriter.edit(bundle) as draft:
        draft.write(RANGES_FILE, msgspec.json.encode(ranges))
    return Bundle.open(bundle.root)


@pytest.fixture
def graph() -> onnx.ModelProto:
    return branched_graph()


@pytest.fixture
def calibrated(make_bundle: Callable[..., Bundle], graph: onnx.ModelProto, noisy_folder: Path) -> Bundle:
    return edgedenoise.calibrate(make_bundle(graph).root, noisy_folder, count=4, crop_px=48)


@pytest.mark.parametrize("make", [branched_graph, shuffling_graph])
def test_a_converted_graph_computes_in_half_precision_with_float32_in_and_out(
    make: Callable[[], onnx.ModelProto],
) -> None:
    model = make()
    half = to_fp16(model)
    assert {t.data_type for t in half.graph.initializer if t.name.endswith(("weight", "bias"))} <= {
        onnx.TensorProto.FLOAT16
    }
    assert onnx.TensorProto.FLOAT16 in {t.data_type for t in half.graph.initializer}
    assert (half.opset_import[0].version, half.ir_version) == (model.opset_import[0].version, model.ir_version)
    x = np.random.default_rng(0).random((1, 3, 32, 48), np.float32)
    expected, found = run(model, x), run(half, x)
    assert found.dtype == np.float32
    assert 45 < psnr_unit(found, expected) < 110  # rounded, and only rounded


def test_a_network_within_its_range_passes(calibrated: Bundle, graph: onnx.ModelProto) -> None:
    check_fp16(calibrated, graph)


def test_a_layer_that_would_overflow_is_named(calibrated: Bundle, graph: onnx.ModelProto) -> None:
    layer = graph.graph.node[2].output[0]
    just = FLOAT16_MAX / MARGIN
    check_fp16(reach(calibrated, layer, just), graph)
    with pytest.raises(ExportError, match=f"the layer {layer} reaches 16384; float16 ends at 65504") as told:
        check_fp16(reach(calibrated, layer, just + 8), graph)
    assert "--precision fp32" in str(told.value)


def test_weights_that_would_be_clipped_are_named(calibrated: Bundle, graph: onnx.ModelProto) -> None:
    first = graph.graph.initializer[0]
    values = onnx.numpy_helper.to_array(first).copy()
    values.flat[0] = -1e6
    first.CopyFrom(onnx.numpy_helper.from_array(values, first.name))
    with pytest.raises(ExportError, match=f"the weights {first.name} reach 1000000; float16 ends at 65504"):
        check_fp16(calibrated, graph)


def test_without_measured_ranges_nobody_knows(make_bundle: Callable[..., Bundle], graph: onnx.ModelProto) -> None:
    with pytest.raises(CalibrationError, match="has not been calibrated"):
        check_fp16(make_bundle(graph), graph)
