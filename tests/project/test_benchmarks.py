"""Every benchmark is in benchmarks/README.md with its command, and writes its results with their provenance."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py") if "__main__" in path.read_text(encoding="utf-8"))


def test_the_readme_lists_every_script_with_its_command() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\| `(\w+\.py)` \|.*\| `python benchmarks/(\w+\.py)", readme, re.MULTILINE)
    assert [name for name, _ in commands] == SCRIPTS
    assert all(name == command for name, command in commands)
    others = {path.name for path in FOLDER.glob("*.py")} - set(SCRIPTS)
    assert not [name for name in others if f"`{name}`" not in readme]


def test_a_benchmark_writes_its_results_with_their_provenance(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    bundle = Path(__file__).resolve().parents[1] / "fixtures" / "tiny.edge"
    command = [sys.executable, FOLDER / "tiles.py", bundle, "--side", "48", "--out", tmp_path / "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "tiles.json").read_text())
    made = found["provenance"]
    assert made["command"] == f"python benchmarks/tiles.py {bundle} --side 48 --out {tmp_path / 'out'}"
    assert datetime.fromisoformat(made["date"]).utcoffset() is not None
    assert made["environment"]["cpu"]
    assert made["environment"]["packages"]["onnxruntime"]
    assert {row["variant"] for row in found["results"]["rows"]} == {"onnx-fp32", "onnx-int8-u8s7"}


def test_an_error_has_the_exit_code_of_its_class(tmp_path: Path) -> None:
    command = [sys.executable, FOLDER / "tiles.py", tmp_path / "nowhere.edge", "--out", tmp_path / "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 20
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_the_benchmark_of_videos_takes_a_shorter_clip(tmp_path: Path) -> None:
    pytest.importorskip("av", reason='pip install "edgedenoise[video]"')
    bundle = Path(__file__).resolve().parents[1] / "fixtures" / "tiny.edge"
    short = ["--minutes", "0.05", "--size", "32", "32", "--seconds", "0.3", "--side", "32", "--out", tmp_path]
    command = [sys.executable, FOLDER / "stream.py", bundle, *short]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "stream.json").read_text())["results"]
    assert found["length"]["frames"] == 75
    assert [row["policy"] for row in found["live"]] == ["latest", "block"]
    assert all(row["captured"] == row["processed"] + row["dropped"] for row in found["live"])
    assert {row["clip"] for row in found["reuse"]} == {"still", "pan"}


def test_a_process_that_is_killed_ends_its_benchmark(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(
        f"import os, sys\nsys.path.insert(0, {str(FOLDER)!r})\nfrom harness import in_new_process\n"
        "if __name__ == '__main__':\n    print(in_new_process(pow, 2, 3), flush=True)\n"
        "    in_new_process(os._exit, 9)\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (1, "8\n")
    assert "BrokenProcessPool" in done.stderr


def test_the_page_of_videos_shows_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    stream = importlib.import_module("stream")
    record = json.loads(stream.PAGE.with_suffix(".json").read_text(encoding="utf-8"))
    page = stream.PAGE.read_text(encoding="utf-8")
    assert stream.text_of(record["results"]) in page
    assert record["provenance"]["command"] in page
