"""Layers that cost too much in integers are found, judged by the mean and by the worst of whole images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import edgedenoise
from edgedenoise.calibration.calibrate import float_graph, stored_ranges
from edgedenoise.calibration.drawing import SetOptions
from edgedenoise.calibration.graphs import load_onnx
from edgedenoise.calibration.histograms import Range
from edgedenoise.calibration.schemes import scheme_named
from edgedenoise.calibration.sets import draw_set
from edgedenoise.exporting.quantization import float_layers
from edgedenoise.exporting.quantization.float_layers import (
    affordable,
    excess,
    find_float_layers,
    smallest_prefix,
)
from edgedenoise.exporting.quantization.judge import Judge, judged_images, noisy_enough
from edgedenoise.exporting.quantization.qdq import encode
from edgedenoise.exporting.quantization.search_result import Fidelity
from edgedenoise.imaging.metrics import psnr_unit

if TYPE_CHECKING:
    from pathlib import Path

    from edgedenoise.bundles.bundle import Bundle

U8S7 = scheme_named("u8s7")


@pytest.fixture
def calibrated(branched_bundle: Bundle, noisy_folder: Path) -> Bundle:
    return edgedenoise.calibrate(branched_bundle.root, noisy_folder, count=8, crop_px=64)


@pytest.fixture
def judge(calibrated: Bundle, noisy_folder: Path) -> Judge:
    manifest = calibrated.manifest
    drawn = draw_set(noisy_folder, SetOptions(3, 1, 96), manifest.input_normalization, manifest.tiling)
    return Judge(float_graph(calibrated), drawn, replay=True)


def test_without_clean_images_the_noise_is_put_back_elsewhere(judge: Judge) -> None:
    assert judge.truth == "replayed"
    for crop in judge.crops:
        assert crop.truth is not None
        given = crop.stats.undo(crop.given[0])[:, 4:-4, 4:-4]
        assert 5 < psnr_unit(given, crop.truth) < 60, "there is noise, and the image is the same"
        assert np.isfinite(psnr_unit(crop.float_answer, crop.truth))


def test_the_mean_and_the_worst_image_are_judged(calibrated: Bundle, judge: Judge) -> None:
    model, ranges = load_onnx(float_graph(calibrated)), stored_ranges(calibrated)
    encoded = encode(model, ranges, U8S7)
    exact = judge.judge(encoded)
    drops = []
    for crop in judge.crops:
        alone = Judge.__new__(Judge)
        alone.tiling, alone.crops = judge.tiling, [crop]
        drops.append(alone.judge(encoded).drop_db)
    assert exact.drop_db == pytest.approx(np.mean(drops), abs=1e-9)
    assert exact.worst_drop_db == pytest.approx(max(drops), abs=1e-9)
    fused = judge.judge(encoded, U8S7)
    assert fused.drop_db == pytest.approx(exact.drop_db, abs=0.02), "fused kernels compute the same integers"
    assert fused.to_float_db == pytest.approx(exact.to_float_db, abs=0.1)


def test_the_middle_of_an_image_has_the_answers_of_the_whole(calibrated: Bundle, judge: Judge) -> None:
    middle = judge.middle(32)
    assert [crop.float_answer.shape for crop in middle.crops] == [(3, 32, 32)] * 3
    assert judge.crops[0].float_answer.shape[1] > 32
    in_float = middle.judge(load_onnx(float_graph(calibrated)))
    assert in_float.to_float_db > 100, "the margins of the middle are those of the whole"


def test_a_layer_with_a_useless_range_is_found_and_kept_in_float(calibrated: Bundle, judge: Judge) -> None:
    """The tail reads a range that is a hundred times too wide: 8 bits have nothing left for the values."""
    model, ranges = load_onnx(float_graph(calibrated)), stored_ranges(calibrated)
    wide = {name: ranges.tensors[name] for name in ranges.tensors}
    for name in ("summed", "right.relu", "joined"):
        wide[name] = Range(0.0, 100 * wide[name].high)
    spoilt = type(ranges)(ranges.graph_sha256, ranges.crops, wide)
    whole = judge.judge(encode(model, spoilt, U8S7), U8S7)
    assert excess(whole) > 1
    found = find_float_layers(model, spoilt, U8S7, judge, seconds=600)
    assert "denoised" in found.layers
    assert excess(found.fidelity) < excess(whole) / 2
    again = judge.judge(encode(model, spoilt, U8S7, frozenset(found.layers)), U8S7)
    assert again == found.fidelity


def test_nothing_is_searched_where_little_is_lost(
    calibrated: Bundle, judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(float_layers, "AIM", 1e9)
    model, ranges = load_onnx(float_graph(calibrated)), stored_ranges(calibrated)
    monkeypatch.setattr(float_layers, "layer_costs", lambda *_: pytest.fail("nothing is to be searched"))
    assert find_float_layers(model, ranges, U8S7, judge, seconds=600).layers == ()


def test_a_search_ends_with_its_time(
    calibrated: Bundle, judge: Judge, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(float_layers, "AIM", -1e9)
    measured = []
    real = float_layers.layer_costs

    def costs(*arguments):
        for cost in real(*arguments):
            measured.append(cost.layer)
            yield cost

    monkeypatch.setattr(float_layers, "layer_costs", costs)
    clock = iter(range(0, 10**6, 40))
    monkeypatch.setattr(float_layers.time, "monotonic", lambda: float(next(clock)))
    model, ranges = load_onnx(float_graph(calibrated)), stored_ranges(calibrated)
    find_float_layers(model, ranges, U8S7, judge, seconds=100)
    assert 1 <= len(measured) <= 3
    assert "ended after 100 s, unfinished" in caplog.text


@pytest.mark.parametrize(
    ("drops", "noise", "counted", "least"),
    [
        ([0.01, 0.02], [5.0, 9.0], [0.01, 0.02], 0.0),
        ([0.70, 0.01, 0.02, 0.03], [1.5, 4.05, 9.0, 9.0], [0.01, 0.02, 0.03], 4.1),
        ([0.70, 0.09, 0.02, 0.03], [1.5, 4.0, 9.0, 9.0], [0.09, 0.02, 0.03], 4.0),
        ([0.70, 0.16, 0.02, 0.03], [1.5, 4.0, 9.0, 9.0], [0.02, 0.03], 9.0),
        ([0.70, 0.16, 0.16, 0.03], [1.5, 4.0, 9.0, 9.5], [0.70, 0.16, 0.16, 0.03], 0.0),
        ([0.70, 0.01], [None, None], [0.70, 0.01], 0.0),
    ],
)
def test_images_with_little_noise_are_left_to_float(drops, noise, counted, least) -> None:
    assert noisy_enough(drops, noise) == (counted, pytest.approx(least))


def test_the_worst_image_counts_as_much_as_the_mean() -> None:
    assert excess(Fidelity(50, 0.05, 0.06)) == pytest.approx(0.5)
    assert excess(Fidelity(50, 0.05, 0.60)) == pytest.approx(2)
    assert excess(Fidelity(50, None)) == 0


@pytest.mark.parametrize("least", range(1, 9))
def test_the_shortest_beginning_that_holds_is_found(least: int) -> None:
    order = [str(number) for number in range(8)]
    asked = []

    def holds(kept):
        asked.append(len(kept))
        return len(kept) >= least

    assert smallest_prefix(order, holds) == order[:least]
    assert len(asked) <= 4
    assert smallest_prefix(order, lambda kept: False) is None
    assert smallest_prefix([], holds) is None


def test_layers_that_would_leave_too_little_in_integers_are_passed_over() -> None:
    macs = {"large": 60.0, "middle": 20.0, "small": 4.0, "tiny": 16.0}
    assert affordable(["middle", "large", "small", "tiny", "sum"], macs) == ["middle", "small", "sum"]


def test_large_networks_are_judged_on_fewer_images(calibrated: Bundle) -> None:
    import msgspec

    def of(macs: int) -> int:
        network = msgspec.structs.replace(calibrated.manifest.network, macs_per_px=macs)
        return judged_images(msgspec.structs.replace(calibrated.manifest, network=network))

    assert (of(1000), of(57_000), of(1_400_000)) == (12, 12, 4)
    assert 4 < of(200_000) < 12
