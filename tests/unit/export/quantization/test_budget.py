"""A budget of quality is kept by the fastest plan that can, or refused with the best one found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

import edgedenoise
from edgedenoise.bundles.bundle import Bundle, report_file
from edgedenoise.bundles.manifest import Limits
from edgedenoise.calibration.calibrate import float_graph, stored_ranges
from edgedenoise.calibration.calibrators import calibrator_named
from edgedenoise.calibration.graphs import load_onnx
from edgedenoise.calibration.schemes import scheme_named
from edgedenoise.errors import DatasetError, QuantizationError, UsageError
from edgedenoise.exporting.quantization import budget as budget_module
from edgedenoise.exporting.quantization.budget import LEAST_INT8_SHARE, quantize_to_budget
from edgedenoise.exporting.quantization.judge import judge_of
from edgedenoise.exporting.quantization.qdq import encode, quantized_layers
from edgedenoise.exporting.quantization.search_result import (
    Budget,
    Fidelity,
    QuantizationPlan,
    plan_table,
    stored_plan,
)
from edgedenoise.exporting.quantization.sensitivity import layer_costs
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.folders import list_images
from edgedenoise.imaging.image import Image
from edgedenoise.imaging.metrics import psnr_unit
from edgedenoise.runtimes.base import Availability
from edgedenoise.runtimes.openvino.backend import OpenVino

if TYPE_CHECKING:
    from pathlib import Path

    from edgedenoise.calibration.calibrators import Calibrator
    from edgedenoise.calibration.ranges import Ranges

ALL_IN_U8S7 = {"scheme": "u8s7", "calibrator": "minmax", "crops": 4}


@pytest.fixture
def calibrated(branched_bundle: Bundle, noisy_folder: Path) -> Bundle:
    return edgedenoise.calibrate(branched_bundle.root, noisy_folder, count=8, crop_px=64)


@pytest.fixture
def clean_folder(noisy_folder: Path, tmp_path: Path) -> Path:
    """What the noisy images would be without noise: here, a little smoother."""
    for path in list_images(noisy_folder):
        pixels = read_image(path).pixels.astype(np.float32)
        smooth = (pixels + np.roll(pixels, 1, 0) + np.roll(pixels, 1, 1)) / 3
        write_image(Image(smooth.astype(np.uint8)), tmp_path / "clean" / path.name)
    return tmp_path / "clean"


@pytest.fixture(autouse=True)
def integers_are_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on the clock: integers are taken to be twice as fast."""
    monkeypatch.setattr(budget_module, "speed_against", lambda *sessions, **options: 2.0)


def _whole(bundle: Bundle, data: Path, clean: Path | None = None) -> QuantizationPlan:
    """Return what all layers in integers give: a budget that anything keeps."""
    return quantize_to_budget(bundle.root, min_psnr_db=1, data=data, clean=clean, **ALL_IN_U8S7).plan


def test_each_layer_is_told_alone_and_all_the_work_is_shared_out(calibrated: Bundle, noisy_folder: Path):
    model, ranges = load_onnx(float_graph(calibrated)), stored_ranges(calibrated)
    judge = judge_of(calibrated, noisy_folder, None, 4)
    costs = [*layer_costs(model, ranges, scheme_named("u8s7"), judge)]
    assert [cost.layer for cost in costs] == [node.output[0] for node in quantized_layers(model)]
    assert sum(cost.macs_share for cost in costs) == pytest.approx(1)
    together = judge.judge(encode(model, ranges, scheme_named("u8s7"))).to_float_db
    assert all(together < cost.quality.to_float_db < 200 for cost in costs)
    everything = {node.output[0] for node in quantized_layers(model)}
    assert judge.judge(encode(model, ranges, scheme_named("u8s7"), everything)).to_float_db > 100


def test_a_drop_is_the_difference_of_two_mean_psnrs_to_the_ground_truth(
    calibrated: Bundle, noisy_folder: Path, clean_folder: Path
):
    model = load_onnx(float_graph(calibrated))
    judge = judge_of(calibrated, noisy_folder, clean_folder, 4)
    encoded = encode(model, stored_ranges(calibrated), scheme_named("u8s7"))
    drops = []
    for crop in judge.crops:
        session = _exact(encoded)
        answer = np.clip(crop.stats.undo(session.run(None, {"image": crop.given})[0][0]), 0, 1)
        margin = judge.tiling.margin_px
        answer = answer[:, margin:-margin, margin:-margin]
        assert crop.truth is not None
        drops.append(psnr_unit(crop.float_answer, crop.truth) - psnr_unit(answer, crop.truth))
    assert judge.judge(encoded).drop_db == pytest.approx(np.mean(drops), abs=1e-9)


def _exact(model: onnx.ModelProto):
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), settings)


def test_the_truth_of_a_crop_is_the_same_place_of_the_clean_photograph(
    calibrated: Bundle, noisy_folder: Path, clean_folder: Path
):
    """Judged with the noisy images as their own ground truth, a crop's truth is its own input."""
    judge = judge_of(calibrated, noisy_folder, noisy_folder, 4)
    margin = judge.tiling.margin_px
    for crop in judge.crops:
        given = crop.stats.undo(crop.given[0])[:, margin:-margin, margin:-margin]
        assert crop.truth == pytest.approx(given, abs=1e-5)
    (clean_folder / "2.png").unlink()
    with pytest.raises(DatasetError, match="no ground truth"):
        judge_of(calibrated, noisy_folder, clean_folder, 4)


def test_a_budget_that_integers_keep_leaves_none_float(calibrated: Bundle, noisy_folder: Path):
    plan = _whole(calibrated, noisy_folder)
    assert plan.met
    assert (plan.chosen.float_layers, plan.chosen.int8_macs_share) == ((), 1)
    bundle = Bundle.open(calibrated.root)
    variant = bundle.variant("onnx-int8-u8s7")
    assert stored_plan(bundle, variant) == plan
    text = plan_table(plan)
    assert all(cost.layer in text for cost in plan.layers)


def test_a_tighter_budget_is_kept_by_putting_layers_back_to_float(calibrated: Bundle, noisy_folder: Path):
    whole = _whole(calibrated, noisy_folder).chosen.quality.to_float_db
    plan = quantize_to_budget(calibrated.root, min_psnr_db=whole + 0.3, data=noisy_folder, **ALL_IN_U8S7).plan
    assert plan.met
    assert plan.chosen.quality.to_float_db >= whole + 0.3
    assert plan.chosen.float_layers
    assert LEAST_INT8_SHARE <= plan.chosen.int8_macs_share <= 1
    bundle = Bundle.open(calibrated.root)
    variant = bundle.variant("onnx-int8-u8s7")
    assert variant.encoding is not None
    assert tuple(variant.encoding.float_layers) == plan.chosen.float_layers
    # What the plan says is what the file does.
    written = onnx.load(bundle.variant_file(variant))
    assert judge_of(bundle, noisy_folder, None, 4).judge(written) == plan.chosen.quality


def test_a_budget_that_nothing_keeps_is_refused_with_the_best_plan_and_nothing_is_changed(
    calibrated: Bundle, noisy_folder: Path
):
    before = {path: path.read_bytes() for path in calibrated.root.rglob("*") if path.is_file()}
    with pytest.raises(QuantizationError, match="no plan keeps the budget of at least 150 dB") as caught:
        quantize_to_budget(calibrated.root, min_psnr_db=150, data=noisy_folder, **ALL_IN_U8S7)
    plan = caught.value.plan
    assert isinstance(plan, QuantizationPlan)
    assert not plan.met
    assert plan.chosen.quality.to_float_db == max(one.quality.to_float_db for one in plan.tried)
    assert len(plan.tried) > 1
    assert {path: path.read_bytes() for path in calibrated.root.rglob("*") if path.is_file()} == before


def test_integers_that_are_slower_than_float_are_not_added(
    calibrated: Bundle, noisy_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(budget_module, "speed_against", lambda *sessions, **options: 0.8)
    with pytest.raises(QuantizationError, match=r"not faster than float here \(0.80x\)") as caught:
        _whole(calibrated, noisy_folder)
    assert caught.value.hint in (None, "Try another runtime: --runtime openvino")
    assert [v.name for v in Bundle.open(calibrated.root).manifest.variants] == ["onnx-fp32"]


def test_another_runtime_is_told_where_this_machine_has_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(OpenVino, "probe", lambda self: Availability(True, "1", ("cpu",)))
    assert budget_module._other_runtime("onnxruntime") == "Try another runtime: --runtime openvino"
    assert budget_module._other_runtime("openvino") == "Try another runtime: --runtime onnxruntime"
    monkeypatch.setattr(OpenVino, "probe", lambda self: Availability(False, reason="not installed"))
    assert budget_module._other_runtime("onnxruntime") is None


def test_a_runtime_that_opens_no_onnx_graphs_is_refused_before_any_work(
    calibrated: Bundle, noisy_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(budget_module, "judge_of", lambda *given: pytest.fail("the images were read"))
    with pytest.raises(UsageError, match=r"expected .*onnxruntime.*, got coreml") as caught:
        quantize_to_budget(calibrated.root, min_psnr_db=1, data=noisy_folder, runtime="coreml")
    assert caught.value.hint is not None
    assert "--runtime coreml" not in caught.value.hint


def test_the_ranges_of_a_calibrator_are_chosen_once(
    calibrated: Bundle, noisy_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    chosen: list[str] = []

    def counted(bundle: Bundle, calibrator: Calibrator, **options: bool) -> Ranges:
        chosen.append(calibrator.name)
        return stored_ranges(bundle, calibrator, **options)

    monkeypatch.setattr(budget_module, "stored_ranges", counted)
    with pytest.raises(QuantizationError) as caught:
        quantize_to_budget(calibrated.root, min_psnr_db=150, data=noisy_folder, **ALL_IN_U8S7)
    assert len(caught.value.plan.tried) > 1
    assert chosen == ["minmax"]


def test_every_calibrator_is_tried_and_the_best_is_recorded(calibrated: Bundle, noisy_folder: Path):
    report = quantize_to_budget(calibrated.root, min_psnr_db=1, data=noisy_folder, scheme="u8s7", crops=2)
    assert [one.calibrator for one in report.plan.tried] == list(budget_module.CALIBRATORS)
    best = max(report.plan.tried, key=lambda one: one.quality.to_float_db)
    encoding = Bundle.open(calibrated.root).variant("onnx-int8-u8s7").encoding
    assert encoding is not None
    assert encoding.calibrator == best.calibrator
    assert calibrator_named(best.calibrator).name == best.calibrator
    assert Bundle.open(calibrated.root).manifest.limits == Limits(min_psnr_db=1), "`edgedenoise test` reads them"


def test_quantizing_again_without_a_budget_forgets_the_plan(calibrated: Bundle, noisy_folder: Path):
    _whole(calibrated, noisy_folder)
    assert Bundle.open(calibrated.root).has(report_file("onnx-int8-u8s7"))
    edgedenoise.quantize(calibrated.root, scheme="u8s7")
    assert not Bundle.open(calibrated.root).has(report_file("onnx-int8-u8s7"))


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({}, "a budget is either"),
        ({"max_drop_db": 0.1, "min_psnr_db": 50}, "a budget is either"),
        ({"max_drop_db": -0.1}, "above 0, below 200"),
        ({"min_psnr_db": 300}, "above 0, below 200"),
    ],
)
def test_a_budget_is_one_sensible_limit(limits: dict[str, float], message: str):
    with pytest.raises(UsageError, match=message):
        Budget(**limits)


def test_the_worst_image_may_lose_three_times_the_mean():
    budget = Budget(max_drop_db=0.1)
    assert budget.spare_db(Fidelity(50, 0.02, 0.30)) == pytest.approx(0)
    assert budget.spare_db(Fidelity(50, 0.02, 0.36)) == pytest.approx(-0.02)
    assert budget.spare_db(Fidelity(50, 0.08, 0.09)) == pytest.approx(0.02)


def test_a_drop_without_ground_truth_and_no_photographs_at_all_are_refused(calibrated: Bundle, noisy_folder: Path):
    with pytest.raises(UsageError, match="needs the ground truth"):
        quantize_to_budget(calibrated.root, max_drop_db=0.1, data=noisy_folder, **ALL_IN_U8S7)
    with pytest.raises(UsageError, match="noisy images are missing"):
        quantize_to_budget(calibrated.root, min_psnr_db=50, **ALL_IN_U8S7)
