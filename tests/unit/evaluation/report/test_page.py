"""The page is one safe file: it escapes what users named, needs nothing else, and reads well whatever was measured."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from typing import TYPE_CHECKING

import msgspec
import pytest
from reports import run, variant

from edgedenoise.errors import OutputError, ResultFileError, UsageError
from edgedenoise.evaluation.report.columns import EXPLANATIONS
from edgedenoise.evaluation.report.layer_chart import Bar, PlanChart
from edgedenoise.evaluation.report.markdown import escaped
from edgedenoise.evaluation.report.page import compare_to_html, render, report_of, script_json
from edgedenoise.evaluation.report.view import shown_runs
from edgedenoise.evaluation.result_files import append_runs
from edgedenoise.evaluation.results import Check, ResultFile

if TYPE_CHECKING:
    from pathlib import Path

    from edgedenoise.evaluation.results import Run

pytest.importorskip("jinja2", reason='to render pages, install: pip install "edgedenoise[report]"')

PLANS = [
    PlanChart("onnx-int8-u8s7", "0.1 dB", "u8s7 minmax", 16, (Bar("head", "3.0%", "50.1", "-", "integers", 100.0),))
]
BROKEN = variant("onnx-broken", 1, error="its file is damaged")


def bare(run_: Run) -> Run:
    """Return a run that only timed the variants."""
    variants = tuple(msgspec.structs.replace(one, images=()) for one in run_.variants)
    return msgspec.structs.replace(run_, images=(), variants=variants, arguments=())


RUNS = {
    "with ground truth": [run(BROKEN, *run().variants)],
    "without ground truth": [run(variant("onnx-fp32", 9, truth=False), truth=False)],
    "times only": [bare(run())],
    "nothing measured": [run(BROKEN)],
    "two devices": [run(label="desk"), run(label="board", contended=True)],
}


def text_of(page: str) -> str:
    """Return the text of the page as a reader sees it."""
    body = re.sub(r"<script.*?</script>", "", page.partition("<body>")[2], flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", "\n", body))


@pytest.mark.parametrize("runs", RUNS.values(), ids=RUNS)
def test_the_text_of_the_page_has_no_gaps_and_no_missing_spaces(runs: list[Run]) -> None:
    text = text_of(render(runs, plans=PLANS))
    assert not re.findall(r"\b(?:None|nan|inf|Undefined)\b", text)
    assert not re.findall(r"[a-z][.;:,][A-Z]", text), "a space is missing between two sentences"
    assert not re.findall(r" [.,;:](?:\s|$)", text)
    for each in runs:
        assert each.machine.label in text
        for one in each.variants:
            assert one.name in text
            assert one.error in text


def test_names_of_users_are_escaped_everywhere() -> None:
    evil = '</script><img src=x onerror=alert(1)>"'
    found = run(label=evil)
    images = tuple(msgspec.structs.replace(image, name=f"{evil}{image.name}") for image in found.images)
    variants = tuple(
        msgspec.structs.replace(
            one, images=tuple(msgspec.structs.replace(each, image=f"{evil}{each.image}") for each in one.images)
        )
        for one in found.variants
    )
    page = render([msgspec.structs.replace(found, images=images, variants=variants, arguments=("compare", evil))])
    assert "<img src=x" not in page
    assert page.count("</script>") == 3
    assert evil in text_of(page)


@pytest.mark.parametrize("text", ["</script>", "a\u2028b\u2029c", "<!-- & -->", 'quote " and \\ and é'])
def test_text_in_a_script_element_cannot_end_it_and_is_unchanged(text: str) -> None:
    found = script_json(text)
    assert not re.search(r"[<>&\u2028\u2029]", found)
    assert msgspec.json.decode(found) == text


def test_the_page_needs_no_other_file_and_runs_no_other_script() -> None:
    page = render(RUNS["with ground truth"], plans=PLANS)
    assert not re.findall(r"(?:src|href|url)[=(]\"?(?!data:|\"data:)http", page)
    assert not re.findall(r"\s(?:style|on\w+)=", page.partition("<body>")[2].partition("<script")[0])
    policy = html.unescape(re.findall(r'Content-Security-Policy" content="([^"]+)"', page)[0])
    assert policy.startswith("default-src 'none'")
    for element, source in (("style", "style-src"), ("script", "script-src")):
        content = re.findall(rf"<{element}>(.*?)</{element}>", page, flags=re.DOTALL)[0]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{source} 'sha256-{digest}'" in policy


def test_the_raw_results_can_be_downloaded() -> None:
    runs = RUNS["two devices"]
    page = render(runs)
    content = re.findall(r'id="result-json">(.*?)</script>', page, flags=re.DOTALL)[0]
    assert msgspec.json.decode(msgspec.json.decode(content), type=ResultFile).runs == tuple(runs)
    markdown = msgspec.json.decode(re.findall(r'id="result-markdown">(.*?)</script>', page, flags=re.DOTALL)[0])
    assert "**Ship openvino-int8: 1.9x as fast as openvino-fp32 for 0.08 dB; worst image -0.30 dB.**" in markdown
    assert "edgedenoise compare 'my bundle.edge' --noisy photos" in markdown


def test_every_table_of_the_markdown_has_as_many_cells_in_each_row(tmp_path: Path) -> None:
    append_runs(tmp_path / "a.json", [run(label="a | b")])
    report_of([tmp_path / "a.json"], tmp_path / "a.md")
    text = (tmp_path / "a.md").read_text()
    rows = [re.sub(r"\\\|", "", line).count("|") for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 7
    assert len(set(rows)) == 1
    assert "## a \\| b" in text
    assert escaped("a_b*\nc") == "a\\_b\\* c"


def test_one_run_of_each_device_is_shown_and_images_are_preferred(tmp_path: Path) -> None:
    early, late = (
        msgspec.structs.replace(run(label="desk"), id=time, started=f"2026-11-27T0{time}:00:00Z") for time in "12"
    )
    only_times = msgspec.structs.replace(bare(run(label="desk")), id="3", started="2026-11-27T03:00:00Z")
    board = msgspec.structs.replace(bare(run(label="board")), id="4")
    assert [one.id for one in shown_runs([late, only_times, board, early])] == ["4", "2"]
    append_runs(tmp_path / "results" / "all.json", [early, late, only_times, board])
    shown = report_of([tmp_path / "results"], tmp_path / "devices.html")
    assert [one.machine.label for one in shown] == ["board", "desk"]
    assert "on 2 devices" in (tmp_path / "devices.html").read_text()


def test_the_tests_of_a_device_are_in_its_report_with_their_samples(tmp_path: Path) -> None:
    passed = Check(name="max_ms", passed=True, variant="openvino-int8", value=31.25, limit=40, unit="ms")
    failed = Check(name="tiles", passed=False, variant="onnx-int8", value=50, limit=60, unit="dB", at_least=True)
    tested = msgspec.structs.replace(bare(run(label="desk")), id="t", command="test", checks=(passed, failed))
    other = msgspec.structs.replace(tested, id="o", machine=run(label="board").machine)
    append_runs(tmp_path / "all.json", [run(label="desk"), tested, other])
    assert [one.id for one in report_of([tmp_path / "all.json"], tmp_path / "a.html")] == ["o", "run-desk"]
    page = (tmp_path / "a.html").read_text()
    text = " ".join(text_of(page).split())
    assert text.count("openvino-int8 max_ms passed 31.25 ms at most 40 ms") == 2
    assert text.count("onnx-int8 tiles failed 50 dB at least 60 dB") == 2
    assert "run t." in text
    content = re.findall(r'id="result-json">(.*?)</script>', page, flags=re.DOTALL)[0]
    runs = msgspec.json.decode(msgspec.json.decode(content), type=ResultFile).runs
    assert sorted(one.id for one in runs) == ["o", "run-desk", "t"]
    report_of([tmp_path / "all.json"], tmp_path / "a.md")
    assert "| onnx-int8 tiles | failed | 50 dB | at least 60 dB |" in (tmp_path / "a.md").read_text()


def test_a_report_overwrites_no_unrelated_file(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_text("image")
    with pytest.raises(UsageError, match=r"expected a name that ends in \.html, got photo\.png"):
        compare_to_html("edge-tiny", tmp_path, None, tmp_path / "photo.png")
    with pytest.raises(UsageError, match=r"expected a name that ends in \.html or \.md, got photo\.png"):
        report_of([tmp_path], tmp_path / "photo.png")
    (tmp_path / "data.json").write_text("{}")
    with pytest.raises(OutputError, match="exists and belongs to no report"):
        compare_to_html("edge-tiny", tmp_path, None, tmp_path / "data.html")
    with pytest.raises(ResultFileError, match="there are no results"):
        report_of([tmp_path], tmp_path / "data.html")
    assert sorted(path.read_text() for path in tmp_path.iterdir()) == ["image", "{}"]


def test_a_comparison_writes_a_page_with_crops_and_its_results(folder: Path, tmp_path: Path) -> None:
    report = compare_to_html(folder / "mixed.edge", folder / "noisy", folder / "clean", tmp_path / "r.html", repeats=1)
    page = (tmp_path / "r.html").read_text()
    assert page.count("data:image/webp;base64,") >= 4
    assert "Worst INT8 error" in page
    assert "onnx-nan was not measured" in text_of(page)
    written = msgspec.json.decode((tmp_path / "r.json").read_bytes(), type=ResultFile)
    assert written.runs == (report.run,)
    first = report.run.variants[0].images[0]
    assert {"residual_noise_lsb"} <= set(first.measures)
    assert first.quality is not None
    assert {"blotches_lsb"} <= set(first.quality.more)


def test_every_measure_is_explained() -> None:
    page = render(RUNS["with ground truth"])
    for name in ("psnr_db", "ms_ssim", "detail_kept"):
        assert EXPLANATIONS[name] in html.unescape(page)
    assert EXPLANATIONS["edges"] not in html.unescape(page)
