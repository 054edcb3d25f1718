"""The device lab: results of phones, checked, judged, kept and shown."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from serving import phone

from edgedenoise.bundles.manifest import Limits
from edgedenoise.evaluation.report.page import report_of
from edgedenoise.evaluation.result_files import read_results

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import MakeClient
    from starlette.testclient import TestClient

    from edgedenoise.evaluation.results import Run
    from edgedenoise.serve.lab import Judged


def post(client: TestClient, *runs: Run) -> Any:
    return client.post("/api/results", content=msgspec.json.encode({"schema": "edgedenoise-result/1", "runs": runs}))


def test_a_result_is_kept_and_told(client: TestClient, received: list[Judged], tmp_path: Path) -> None:
    answer = post(client, phone())
    assert answer.status_code == 201
    (judged,) = answer.json()
    assert (judged["passed"], judged["device"], judged["number"]) == (True, "Pixel 7", 1)
    kept = read_results(tmp_path / "lab" / judged["file"])
    assert kept.runs == (phone(),)
    assert "passed  Pixel 7  edge-tiny" in received[0].line
    assert "onnx-fp32 200 ms, onnx-int8-u8s7 100 ms (512x512)" in received[0].line


def test_limits_decide(make_client: MakeClient, received: list[Judged]) -> None:
    client = make_client(limits=Limits(max_ms=150, max_error_lsb=8))
    assert client.get("/api/limits").json()["max_ms"] == 150
    (judged,) = post(client, phone()).json()
    failed = [(one["variant"], one["name"]) for one in judged["outcomes"] if one["status"] == "failed"]
    assert failed == [("onnx-fp32", "max_ms")]  # 200 ms
    (far,) = post(client, phone("Fold", ms=10, error_lsb=40)).json()
    assert {one["name"] for one in far["outcomes"] if one["status"] == "failed"} == {"max_error_lsb"}
    (wrong,) = post(client, phone("Old", ms=10, passed=False)).json()
    assert not wrong["passed"]
    assert [one.passed for one in received] == [False, False, False]
    assert "48 levels off" in received[2].line


def test_two_phones_and_one_report(client: TestClient, tmp_path: Path) -> None:
    post(client, phone("Pixel 7"))
    post(client, phone("iPhone 15", ms=40))
    post(client, phone("Pixel 7", ms=90))
    files = sorted((tmp_path / "lab").glob("*.json"))
    assert [len(read_results(file).runs) for file in files] == [1, 2]
    report_of([tmp_path / "lab"], tmp_path / "devices.html")
    page = (tmp_path / "devices.html").read_text()
    assert "Pixel 7" in page
    assert "iPhone 15" in page


def test_the_same_result_counts_once(client: TestClient, tmp_path: Path, received: list[Judged]) -> None:
    post(client, phone())
    (judged,) = post(client, phone()).json()
    assert len(read_results(tmp_path / "lab" / judged["file"]).runs) == 1
    assert len(received) == 1


def test_posts_at_the_same_time_lose_nothing(client: TestClient, tmp_path: Path) -> None:
    runs = [phone(ms=number) for number in range(1, 9)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda run: post(client, run), runs))
    assert {answer.status_code for answer in answers} == {201}
    (file,) = [file for file in (tmp_path / "lab").iterdir() if file.suffix == ".json"]
    assert len(read_results(file).runs) == 8


def test_a_result_with_one_wrong_run_is_refused_as_a_whole(client: TestClient, tmp_path: Path) -> None:
    assert post(client, phone("a"), phone("b", digest="0" * 64)).status_code == 400
    assert not list((tmp_path / "lab").glob("*"))


def test_limits_that_nobody_measured_are_named(make_client: MakeClient, received: list[Judged]) -> None:
    client = make_client(limits=Limits(max_drop_db=0.1))
    post(client, phone())
    assert "not checked: max_drop_db" in received[0].line


def test_results_of_another_bundle_are_refused(client: TestClient, tmp_path: Path) -> None:
    answer = post(client, phone(digest="0" * 64))
    assert (answer.status_code, answer.json()["error"]) == (400, "UsageError")
    assert not list((tmp_path / "lab").glob("*"))


def changed(**values: Any) -> bytes:
    run = {**msgspec.to_builtins(phone()), **values}
    return json.dumps({"schema": "edgedenoise-result/1", "runs": [run]}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"schema": "edgedenoise-result/9", "runs": []}',
        b'{"schema": "edgedenoise-result/1", "runs": []}',
        b"[" * 100_000,
        changed(id=7),
        changed(variants=[{"name": ""}]),
        changed(started="yesterday"),
        changed(id="x" * 1000),
        changed(command="x" * 3000),
    ],
)
def test_hostile_results_are_refused(client: TestClient, data: bytes, tmp_path: Path) -> None:
    answer = client.post("/api/results", content=data)
    assert answer.status_code in (400, 422)
    assert not list((tmp_path / "lab").glob("*"))


def test_large_results_are_refused(client: TestClient) -> None:
    assert client.post("/api/results", content=bytes(5 << 20)).status_code == 413


@pytest.mark.parametrize("label", ["../../etc/passwd", "/etc/passwd", "\x1b[31mred\n", "名前", "a" * 150, "CON"])
def test_names_of_devices_are_harmless(client: TestClient, label: str, tmp_path: Path, received: list[Judged]) -> None:
    (judged,) = post(client, phone(label)).json()
    assert [file.name for file in (tmp_path / "lab").iterdir() if file.suffix == ".json"] == [judged["file"]]
    assert (tmp_path / "lab" / judged["file"]).parent == tmp_path / "lab"
    assert "\x1b" not in received[0].line
    assert "\n" not in received[0].line


def test_results_are_listed_from_a_number(client: TestClient) -> None:
    post(client, phone("a"))
    post(client, phone("b"))
    assert [one["device"] for one in client.get("/api/results?since=1").json()] == ["b"]
    assert client.get("/api/results?since=-1").status_code == 400
