"""The page reads well whatever was measured, and shows the same crop of every variant."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

import msgspec
import pytest

from edgedenoise.errors import OutputError, UsageError
from edgedenoise.evaluation.report.layer_chart import Bar, PlanChart
from edgedenoise.evaluation.report.page import Figure, FigureRow, compare_to_html, page_template, render

if TYPE_CHECKING:
    from pathlib import Path

    from edgedenoise.evaluation.compare import CompareReport

pytest.importorskip("jinja2", reason='to render pages, install: pip install "edgedenoise[report]"')

ROWS = [FigureRow("0.png", (Figure("noisy input", "data:image/png;base64,AA=="),))]
PLANS = [
    PlanChart("onnx-int8-u8s7", "0.1 dB", "u8s7 minmax", 16, (Bar("head", "3.0%", "50.1", "-", "integers", 100.0),))
]


def text_of(report: CompareReport) -> str:
    """Return the text of the page as a reader sees it."""
    page = render(page_template(), report, ROWS, PLANS)
    body = page.partition("<body>")[2]
    blocks = re.sub(r"</?(p|h\d|td|th|tr|dd|dt|dl|table|div|figure|figcaption|br|b|img|body)[^>]*>", "\n", body)
    return html.unescape(re.sub(r"<[^>]+>", "", blocks))


def without_truth_or_load(report: CompareReport) -> CompareReport:
    """Return a report without ground truth or recorded losses, from a system that reports no load."""
    machine = msgspec.structs.replace(report.environment, load_average=None, cpu_pressure=None)
    measured = [msgspec.structs.replace(row.measurement, not_recommended="") for row in report.rows]
    rows = tuple(
        msgspec.structs.replace(row, quality=None, measurement=measurement)
        for row, measurement in zip(report.rows, measured, strict=True)
    )
    return msgspec.structs.replace(report, noisy=None, rows=rows, environment=machine, images=report.images[:1])


@pytest.mark.parametrize("bare", [False, True])
def test_the_text_of_the_page_has_no_gaps_and_no_missing_spaces(report: CompareReport, bare: bool) -> None:
    text = text_of(without_truth_or_load(report) if bare else report)
    assert "None" not in text
    assert not re.findall(r"[a-zB][.;:,][A-Z]", text), "a space is missing between two sentences"
    assert not re.findall(r" [.,;:]", text)
    assert ("load at the end" in text) != bare
    assert ("no ground truth was given" in text) == bare
    assert ("2 images" in text, "1 image," in text) == (not bare, bare)


def test_every_variant_is_on_the_page_with_its_numbers_or_its_error(report: CompareReport) -> None:
    text = text_of(report)
    for row in report.rows:
        assert row.measurement.variant in text
        assert row.measurement.error in text if row.measurement.error else row.measurement.latency
    assert "Error of each layer of onnx-int8-u8s7" in text


def test_the_page_needs_no_other_file(report: CompareReport) -> None:
    page = render(page_template(), report, ROWS, PLANS)
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)


def test_a_report_overwrites_no_unrelated_file(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_text("image")
    with pytest.raises(UsageError, match=r"expected a name that ends in \.html, got photo\.png"):
        compare_to_html("edge-tiny", tmp_path, None, tmp_path / "photo.png")
    (tmp_path / "data.json").write_text("{}")
    with pytest.raises(OutputError, match="exists and belongs to no report"):
        compare_to_html("edge-tiny", tmp_path, None, tmp_path / "data.html")
    assert sorted(path.read_text() for path in tmp_path.iterdir()) == ["image", "{}"]
