"""What `quantize` removes is reported and built again; trained ranges are never replaced in silence."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import pytest

import edgedenoise
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.manifest import InputShapes, Variant
from edgedenoise.bundles.writer import BundleWriter
from edgedenoise.calibration.calibrate import RANGES_FILE, TRAINED_RANGES_FILE, calibration_report, stored_ranges
from edgedenoise.calibration.calibrators import calibrator_named
from edgedenoise.errors import UsageError
from edgedenoise.exporting.quantization.quantize_report import Removed
from edgedenoise.exporting.rebuild import rebuild, rebuild_command

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def calibrated(branched_bundle: Bundle, noisy_folder: Path) -> Bundle:
    return edgedenoise.calibrate(branched_bundle.root, noisy_folder, count=2, crop_px=64)


@pytest.fixture
def trained(calibrated: Bundle) -> Bundle:
    """A bundle whose weights were trained with ranges that are half of the measured ones."""
    ranges = json.loads(calibrated.read(RANGES_FILE))
    for one in ranges["tensors"].values():
        one.update({side: value / 2 for side, value in one.items() if side in ("low", "high")})
    with BundleWriter.edit(calibrated) as draft:
        draft.write(TRAINED_RANGES_FILE, json.dumps(ranges).encode())
    return Bundle.open(calibrated.root)


def names(bundle: Path) -> list[str]:
    return [variant.name for variant in Bundle.open(bundle).manifest.variants]


def test_what_quantizing_again_removes_is_reported_and_can_be_built_again(calibrated: Bundle) -> None:
    pytest.importorskip("openvino", reason="pip install openvino")
    assert edgedenoise.quantize(calibrated.root).removed == (), "nothing was there"
    edgedenoise.compile(calibrated.root, target="openvino", precision="int8")
    report = edgedenoise.quantize(calibrated.root, calibrator="mse")
    assert [one.variant for one in report.removed] == ["openvino-int8-u8s7"]
    assert names(calibrated.root) == ["onnx-fp32", "onnx-int8-u8s7"]
    rebuilt = rebuild(calibrated.root, report.removed)
    assert names(calibrated.root) == ["onnx-fp32", "onnx-int8-u8s7", "openvino-int8-u8s7"]
    assert rebuilt.variant("openvino-int8-u8s7").encoding == rebuilt.variant("onnx-int8-u8s7").encoding


@pytest.mark.parametrize(
    ("shapes", "option"),
    [
        (None, ""),
        (InputShapes("fixed", [256]), " --tile 256"),
        (InputShapes("enumerated", [128, 256]), " --tiles 128,256"),
        (InputShapes("ranged", [128, 256, 512]), " --tile-range 128:256:512"),
    ],
)
def test_the_command_that_builds_it_again_has_the_same_sizes(shapes: InputShapes | None, option: str) -> None:
    removed = Removed("coreml-int8", "coreml", "int8", shapes)
    expected = f"edgedenoise compile my.edge --target coreml --precision int8{option}"
    assert rebuild_command("my.edge", removed) == expected


def test_a_calibrator_that_would_not_be_used_is_refused(trained: Bundle) -> None:
    for function in (edgedenoise.quantize, edgedenoise.quantize_to_budget):
        options = {} if function is edgedenoise.quantize else {"min_psnr_db": 1, "data": "nowhere"}
        with pytest.raises(UsageError, match="its trained ranges take precedence") as caught:
            function(trained.root, calibrator="mse", **options)
        assert f"quantize {trained.root} --calibrator mse --ignore-trained-ranges" in caught.value.hint


def test_the_record_states_which_ranges_were_used(trained: Bundle) -> None:
    count = len(stored_ranges(trained).tensors)
    report = edgedenoise.quantize(trained.root)
    encoding = Bundle.open(trained.root).variant(report.variant).encoding
    assert (report.trained_ranges, report.measured_ranges) == (count, 0)
    assert encoding.trained_ranges == count
    half = (trained.root / "onnx-int8-u8s7" / "model.onnx").read_bytes()
    report = edgedenoise.quantize(trained.root, calibrator="mse", ignore_trained_ranges=True)
    encoding = Bundle.open(trained.root).variant(report.variant).encoding
    assert (report.trained_ranges, report.measured_ranges) == (0, count)
    assert (encoding.calibrator, encoding.trained_ranges) == ("mse", 0)
    assert (trained.root / "onnx-int8-u8s7" / "model.onnx").read_bytes() != half
    measured = stored_ranges(trained, calibrator_named("mse"), ignore_trained=True)
    assert measured.tensors != stored_ranges(trained).tensors


def test_calibrating_again_reports_trained_ranges_and_what_it_removes(
    trained: Bundle, noisy_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    edgedenoise.quantize(trained.root)
    again = edgedenoise.calibrate(trained.root, noisy_folder, count=3, crop_px=64)
    assert calibration_report(again).trained_ranges == len(stored_ranges(again).tensors)
    assert (
        f"removed onnx-int8-u8s7, which had the ranges of the former set; to quantize again: edgedenoise quantize "
        f"{trained.root}" in caplog.text
    )


def test_bundles_of_earlier_versions_keep_their_bytes(committed_bundle: Path) -> None:
    manifest = Bundle.open(committed_bundle).manifest
    assert manifest.limits is None
    assert all(v.encoding is None or v.encoding.trained_ranges is None for v in manifest.variants)
    text = (committed_bundle / "manifest.json").read_text(encoding="utf-8")
    assert "trained_ranges" not in text
    assert "limits" not in text
    assert msgspec.json.decode(msgspec.json.encode(manifest.variants[1]), type=Variant) == manifest.variants[1]
