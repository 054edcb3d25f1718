"""Two phones open the page of the device lab, which a real server brings; one report has both."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="to drive a browser, install: pip install playwright")
pytest.importorskip("uvicorn", reason='pip install "edgedenoise[serve]"')

from browsers import chromium_or_skip, skip_without_web_files
from serving import running

from edgedenoise.evaluation.joining import load_runs
from edgedenoise.evaluation.report.page import report_of

if TYPE_CHECKING:
    from pathlib import Path

CHROMIUM = chromium_or_skip()
skip_without_web_files()

pytestmark = pytest.mark.slow
PATIENCE_MS = 240_000


def test_two_phones_and_one_report(tmp_path: Path) -> None:
    with (
        running(tmp_path, "--limits", "max-ms=100000") as (server, address),
        playwright.sync_playwright() as drive,
    ):
        browser = drive.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        problems: list[str] = []
        for name in ("Pixel 7", "iPhone 14"):
            context = browser.new_context(**drive.devices[name])
            page = context.new_page()
            page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.goto(f"{address}test")
            page.locator("html[data-ready=yes]").wait_for(timeout=PATIENCE_MS)
            page.fill("#label", name)
            page.select_option("#seconds", "0")
            page.click("#run")
            page.locator("#verdict:not(:empty), #error:not(:empty)").first.wait_for(timeout=PATIENCE_MS)
            assert page.inner_text("#error") == ""
            assert page.inner_text("#verdict").startswith("Passed.")
            context.close()
        browser.close()
        assert problems == []
        server.send_signal(signal.SIGINT)
        out, _ = server.communicate(timeout=60)
    assert [line.split("  ")[1] for line in out.splitlines()[:2]] == ["Pixel 7", "iPhone 14"]
    assert out.splitlines()[-1] == "stopped: 2 results in lab"
    runs = load_runs([tmp_path / "lab"])
    assert {run.machine.label for run in runs} == {"Pixel 7", "iPhone 14"}
    assert all(run.client.name == "web" and run.variants[0].timings for run in runs)
    report_of([tmp_path / "lab"], tmp_path / "devices.html")
    text = (tmp_path / "devices.html").read_text(encoding="utf-8")
    assert "Pixel 7" in text
    assert "iPhone 14" in text
