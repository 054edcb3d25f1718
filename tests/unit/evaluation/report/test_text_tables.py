"""Tables name what was compared, fit a terminal, and say why a variant has no numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edgedenoise.evaluation.measurement import NOT_WORTH_IT
from edgedenoise.evaluation.report.text_tables import bench_table, compare_table

if TYPE_CHECKING:
    from edgedenoise.evaluation.compare import CompareReport


def test_a_mark_is_in_the_comparison(report: CompareReport) -> None:
    first, second, *others = report.rows
    slow = {"speed_vs_float": 0.5, "mark": NOT_WORTH_IT, "slower_because": "no VNNI"}
    slow |= {"compared_with": "onnx-fp32", "not_recommended": ""}
    marked = msgspec.structs.replace(second, measurement=msgspec.structs.replace(second.measurement, **slow))
    found = msgspec.structs.replace(report, rows=(first, marked, *others))
    words = "not worth it here: 0.50 times as fast as onnx-fp32; no VNNI"
    assert f"onnx-int8-u8s7: {words}" in compare_table(found)


def test_a_variant_that_loses_too_much_says_so_with_its_numbers(report: CompareReport) -> None:
    first, second, *others = report.rows
    words = "not recommended: 0.36 dB lost in the mean and 1.26 dB on the worst of 12 images"
    marked = msgspec.structs.replace(
        second, measurement=msgspec.structs.replace(second.measurement, not_recommended=words, mark="")
    )
    found = msgspec.structs.replace(report, rows=(first, marked, *others))
    assert f"onnx-int8-u8s7: {words}" in compare_table(found)
    assert f"onnx-int8-u8s7: {words}" in bench_table([marked.measurement])


def test_tables_fit_80_columns_unless_wide(report: CompareReport) -> None:
    measurements = [row.measurement for row in report.rows]
    for narrow, wide in (
        (compare_table(report), compare_table(report, wide=True)),
        (bench_table(measurements), bench_table(measurements, wide=True)),
    ):
        assert max(map(len, narrow.splitlines()[: 2 + len(report.rows)])) <= 80
        assert {"p99", "size KB"} <= set(wide.replace("  ", "\n").replace("\n ", "\n").split("\n"))


def test_a_variant_without_numbers_says_why(report: CompareReport) -> None:
    lines = compare_table(report).splitlines()
    assert any(line.startswith("onnx-broken: not measured: ") and "damaged" in line for line in lines)
    assert any(line.startswith("onnx-nan: not measured: ") and "not finite" in line for line in lines)


def test_one_image_and_one_run_are_counted_in_the_singular(report: CompareReport) -> None:
    assert "2 images, " in compare_table(report)
    assert ", 3 interleaved runs\n" in compare_table(report)
    single = msgspec.structs.replace(report, images=report.images[:1], repeats=1)
    assert "1 image, " in compare_table(single)
    assert ", 1 run\n" in compare_table(single)
