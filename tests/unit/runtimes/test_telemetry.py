"""ONNX Runtime's telemetry is off wherever edgedenoise imports ONNX Runtime."""

from __future__ import annotations

import os
import re
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
