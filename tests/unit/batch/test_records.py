"""Records of a run hold what docs/reference/records.md lists."""

from __future__ import annotations

import re
from pathlib import Path

from edgedenoise.batch.records import file_record, summary_record
from edgedenoise.batch.results import BatchReport, Counts, FileResult, StageSeconds
from edgedenoise.runtimes.base import EffectiveDevice

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "records.md"
FILE = FileResult(
    Path("a.png"), Path("b.png"), variant="onnx-fp32", width=4000, height=3000, seconds=StageSeconds(0.12345, 1.0)
)


def test_a_file_has_its_size_and_seconds() -> None:
    record = file_record(FILE)
    assert (record["width"], record["height"], record["megapixels"]) == (4000, 3000, 12.0)
    assert record["seconds"] == {"read": 0.1235, "denoise": 1.0, "write": None}
    assert file_record(FileResult(Path("a.png"), None))["megapixels"] is None


def test_the_page_lists_the_fields_of_each_record() -> None:
    report = BatchReport("onnx-fp32", EffectiveDevice("onnxruntime", "1.23", "cpu"), (FILE,), (), Counts(1, 0, 0), 2.5)
    tables = PAGE.read_text(encoding="utf-8").split("\n## ")
    for record in (file_record(FILE), summary_record(report)):
        (section,) = (table for table in tables if table.startswith(f"`{record['record']}`"))
        assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(record)
