"""ONNX Runtime's telemetry is off wherever edgedenoise imports it, and nothing is written or looked up elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDERS = {
    "edgedenoise": "edgedenoise",
    "runtimes": "edgedenoise.runtimes",
    "export": "edgedenoise.exporting",
    "calibration": "edgedenoise.calibration",
}
IMPORT = re.compile(r"^\s*(import|from) onnxruntime\b", re.MULTILINE)
SCRIPT = """
import importlib, os, sys
try:
    importlib.import_module(sys.argv[1])
except ModuleNotFoundError as error:
    print("missing", error.name)
    sys.exit()
assert "onnxruntime" not in sys.modules
print(os.environ.get("ORT_DISABLE_TELEMETRY"))
"""


DENOISE = """
import sys, time
import numpy, edgedenoise
with edgedenoise.load("edge-tiny", threads=1, precision=sys.argv[1]) as denoiser:
    denoiser(numpy.zeros((64, 64, 3), numpy.uint8))
    time.sleep(2)
"""


def modules() -> list[str]:
    """The modules that import ONNX Runtime in one of their functions."""
    return [
        ".".join([package, *file.relative_to(ROOT / folder).with_suffix("").parts])
        for folder, package in FOLDERS.items()
        for file in sorted((ROOT / folder).rglob("*.py"))
        if IMPORT.search(file.read_text())
    ]


def variable_after(module: str, **environment: str) -> str:
    """The value of the variable once a module is imported in a process of its own."""
    given = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"} | environment
    command = [sys.executable, "-c", SCRIPT, module]
    return subprocess.run(command, env=given, capture_output=True, text=True, check=True).stdout.strip()


def test_the_modules_are_found() -> None:
    assert "edgedenoise.runtimes.onnxruntime.backend" in modules()


@pytest.mark.parametrize("module", modules())
def test_telemetry_is_off_before_onnx_runtime_is_imported(module: str) -> None:
    answer = variable_after(module)
    if answer in ("missing onnx", "missing openvino"):  # a device has the packages of its own runtime only
        pytest.skip(f"{module} needs a package that is not installed here: {answer}")
    assert answer == "1"


def test_the_choice_of_the_user_is_kept() -> None:
    assert variable_after("edgedenoise.runtimes", ORT_DISABLE_TELEMETRY="0") == "0"


def test_benchmarks_import_edgedenoise_first() -> None:
    """At the top of a file the sorted imports would put onnxruntime before edgedenoise."""
    top = re.compile(r"^(import|from) onnxruntime\b", re.MULTILINE)
    assert not [file.name for file in (ROOT / "benchmarks").glob("*.py") if top.search(file.read_text())]


@pytest.mark.skipif(sys.platform != "linux", reason="folders of users and strace are those of Linux")
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_nothing_is_written_and_no_address_is_looked_up(tmp_path: Path, precision: str) -> None:
    home, trace = tmp_path / "home", tmp_path / "trace"
    home.mkdir()
    given = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_"))}
    command = [sys.executable, "-c", DENOISE, precision]
    strace = shutil.which("strace")
    if strace is not None:
        command = [strace, "-f", "-e", "trace=socket,connect,sendto,sendmsg", "-o", str(trace), *command]
    subprocess.run(command, env={**given, "HOME": str(home)}, cwd=tmp_path, capture_output=True, check=True)
    assert [path.name for path in home.iterdir()] == [".cache"]
    assert [path.name for path in (home / ".cache").iterdir()] == ["edgedenoise"]
    if strace is None:
        pytest.skip("what is sent is seen with strace only; install it: apt-get install strace")
    calls = [line for line in trace.read_text().splitlines() if "(" in line.partition(" ")[2]]
    assert not [line for line in calls if "AF_INET" in line or "connect(" in line]
