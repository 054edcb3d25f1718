"""Statistics of a report come from the raw samples, and a mean over fewer images is left out."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from reports import FLOAT_DB, INT8_CHANGES_DB, NOISY_DB, run, variant

from edgedenoise.evaluation.report.columns import image_columns, image_rows, variant_table
from edgedenoise.evaluation.report.plots import Axis, latency_plot, pareto, scatter
from edgedenoise.evaluation.report.summary import summarize_run


def test_speed_is_the_median_ratio_of_rounds_to_the_fastest_float() -> None:
    found = {one.name: one for one in summarize_run(run()).variants}
    assert found["openvino-int8"].compared_with == "openvino-fp32"
    assert found["openvino-int8"].speed == pytest.approx(1.9)
    assert found["openvino-int8"].p50 == pytest.approx(100)
    assert found["openvino-fp32"].speed == 1


def test_changes_are_per_image_and_against_the_float_variant_of_the_same_runtime() -> None:
    found = summarize_run(run()).variants[3].change
    assert found is not None
    assert found.against == "openvino-fp32"
    assert found.mean_db == pytest.approx(np.mean(INT8_CHANGES_DB))
    assert (found.worst_image, round(found.worst_db, 3)) == ("d.png", -0.3)
    assert found.interval is not None
    assert found.interval.low < found.mean_db < found.interval.high


def test_a_variant_that_misses_an_image_has_no_means() -> None:
    whole = run()
    cut = msgspec.structs.replace(whole.variants[3], images=whole.variants[3].images[:4])
    found = summarize_run(msgspec.structs.replace(whole, variants=(*whole.variants[:3], cut))).variants[3]
    assert found.change is None


def test_the_front_has_what_no_other_beats_in_time_and_quality() -> None:
    assert pareto([(1, 5), (2, 4), (3, 6), (3, 7), (9, 7)]) == [0, 3]
    assert pareto([]) == []


def test_circles_have_the_area_of_the_size_and_stand_where_the_axes_say() -> None:
    device = summarize_run(run())
    plot = scatter(device, "openvino-int8")
    assert plot is not None
    points = {point.name: point for point in plot.points}
    ratio = (points["onnx-fp32"].radius / points["onnx-int8"].radius) ** 2
    assert ratio == pytest.approx(200_000 / 60_000)
    assert points["openvino-int8"].x < points["openvino-fp32"].x
    assert points["openvino-int8"].y > points["openvino-fp32"].y, "lower quality is lower on the page"
    assert [point.name for point in plot.points if point.recommended] == ["openvino-int8"]
    assert points["openvino-int8"].on_front
    assert not points["onnx-int8"].on_front
    places = [(point.label_y, point.label_x) for point in plot.points]
    assert len(set(places)) == len(places)


def test_a_device_with_one_variant_or_no_quality_has_no_scatter_plot() -> None:
    assert scatter(summarize_run(run(variant("onnx-fp32", 10))), "") is None
    bare = msgspec.structs.replace(run(), images=(), variants=tuple(
        msgspec.structs.replace(one, images=()) for one in run().variants
    ))  # fmt: skip
    assert scatter(summarize_run(bare), "") is None
    assert latency_plot(summarize_run(bare)) is not None


@pytest.mark.parametrize("values", [(0.9, 1.1), (3.0, 700.0), (1e-3, 2e-3), (40.0, 40.0), (7000.0, 9000.0)])
def test_axes_have_round_ticks_inside(values: tuple[float, ...]) -> None:
    for axis in (Axis.of_times(values, 10, 390), Axis.around(values, 390, 10, least_span=0.2)):
        assert 2 <= len(axis.ticks) <= 12
        assert all(10 <= tick.at <= 390.1 for tick in axis.ticks)
        assert all(10 <= axis.at(value) <= 390 for value in values)
        assert len({tick.text for tick in axis.ticks}) == len(axis.ticks)


def test_every_image_of_every_variant_has_a_row_and_worse_ones_are_marked() -> None:
    device = summarize_run(run())
    rows = image_rows([device])
    assert len(rows) == 4 * len(NOISY_DB)
    assert {len(row.cells) for row in rows} == {len(image_columns([device]))}
    assert {row.image for row in rows if row.worse} == {"f.png"}
    table = variant_table(device)
    assert [row[0] for row in table.rows] == ["noisy input", "onnx-fp32", "onnx-int8", "openvino-fp32", "openvino-int8"]
    assert dict(zip(table.columns, table.rows[4], strict=True))["change to float dB"] == "-0.080"


def test_the_results_of_auto_are_those_of_the_variant_of_each_image() -> None:
    found = run(variant("onnx-fp32", 200), variant("onnx-int8", 100, (-0.5,) * 6, least_noise_lsb=7))
    taken = ("onnx-int8", "onnx-int8", "onnx-int8", "onnx-fp32", "onnx-fp32", "onnx-fp32")
    images = [msgspec.structs.replace(one, auto=name) for one, name in zip(found.images, taken, strict=True)]
    variants = [msgspec.structs.replace(one, compared_with="onnx-fp32") for one in found.variants]
    mixed = msgspec.structs.replace(found, images=tuple(images), variants=tuple(variants))
    auto = summarize_run(mixed).auto
    assert auto is not None
    assert auto.counts == {"onnx-int8": 3, "onnx-fp32": 3}
    assert auto.means["psnr_db"] == pytest.approx(np.mean(FLOAT_DB) - 0.25)
    assert auto.ms_per_mp == pytest.approx(150, rel=0.01)
    assert auto.speed == pytest.approx(4 / 3, rel=0.01)
    assert auto.max_error_lsb == 7
    assert auto.sentence.endswith(": onnx-int8 for 3 images, onnx-fp32 for 3 images")
    assert [row[0] for row in variant_table(summarize_run(mixed)).rows] == [
        "noisy input",
        "onnx-fp32",
        "onnx-int8",
        "auto",
    ]


def test_auto_is_not_known_where_a_variant_that_it_takes_failed() -> None:
    found = run()
    images = tuple(msgspec.structs.replace(one, auto="onnx-gone") for one in found.images)
    assert summarize_run(found).auto is None
    assert summarize_run(msgspec.structs.replace(found, images=images)).auto is None
