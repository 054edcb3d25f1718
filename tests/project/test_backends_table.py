"""The README's table of backends states what was tested, emulated or not tested, and never more than that.

`pytest tests/project/test_backends_table.py --update-golden` writes the table.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest
from images import write_noisy_images

pytest.importorskip("onnx", reason="needs onnx: pip install 'edgedenoise[quantize]'")

import edgedenoise
from edgedenoise.errors import RuntimeUnavailableError
from edgedenoise.exporting.verify import State
from edgedenoise.runtimes.job import BuildOptions
from edgedenoise.runtimes.registry import registry

if TYPE_CHECKING:
    from edgedenoise.exporting.verify import VerifyReport

ROOT = Path(__file__).resolve().parents[2]
STATES: tuple[State, ...] = get_args(State)
"""How much is known about a variant, from most to least."""
PRECISIONS = ("fp32", "fp16", "int8")
BEGIN, END = "<!-- backends: written by tests/project/test_backends_table.py -->\n", "<!-- backends end -->\n"


@dataclass(frozen=True)
class Row:
    backend: str
    runs_on: str
    target: str
    device: str
    """Argument of `--device`; `auto` for the device that the target is made for."""
    precisions: tuple[str, ...]


ROWS = (
    Row("ONNX Runtime", "any CPU", "onnxruntime", "cpu", ("fp32", "int8")),
    Row("ONNX Runtime, `--device cuda`", "NVIDIA GPUs", "onnxruntime", "cuda", ("fp32",)),
    Row("OpenVINO", "x86 and ARM CPUs", "openvino", "cpu", ("fp32", "fp16", "int8")),
    Row("OpenVINO, `--device gpu`", "Intel GPUs", "openvino", "gpu", ("fp32", "fp16", "int8")),
    Row("OpenVINO, `--device npu`", "Intel NPUs", "openvino", "npu", ("fp16", "int8")),
    Row("[TensorRT](docs/guides/jetson.md)", "NVIDIA Jetson and GPUs", "tensorrt", "auto", ("fp32", "fp16", "int8")),
    Row("[TensorRT-RTX](docs/guides/jetson.md)", "NVIDIA RTX GPUs", "tensorrt-rtx", "auto", ("fp32", "fp16", "int8")),
    Row("[Core ML](docs/guides/iphone.md)", "iPhone, iPad, Mac", "coreml", "auto", ("fp32", "fp16", "int8")),
)

WEBSITE = "docs/guides/website.md"
BROWSERS = (
    [f"[Browser, WebAssembly]({WEBSITE})", "any browser", "tested on hardware", "-", "tested on hardware"],
    [f"[Browser, WebGPU]({WEBSITE})", "GPUs, in a browser", "emulated", "-", "-"],
)
"""Rows of the browser library, which is no backend of Python: tests/e2e/test_web_library.py compares its pixels."""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> VerifyReport:
    """Verify a small bundle with every variant that this machine can build."""
    folder = tmp_path_factory.mktemp("backends")
    root = Path(shutil.copytree(ROOT / "tests/fixtures/tiny.edge", folder / "tiny.edge"))
    edgedenoise.calibrate(root, write_noisy_images(folder / "noisy", 2), count=8, crop_px=64)
    wanted = {target.target for target in ROWS if registry[target.target].precisions}
    for scheme in sorted({registry[name].schemes[0] for name in wanted}):
        edgedenoise.quantize(root, scheme=scheme)
    for name in sorted(wanted):
        target = registry[name]
        for precision in (p for p in target.precisions if p in PRECISIONS):
            with suppress(RuntimeUnavailableError):
                options = BuildOptions(tile=None if name == "openvino" else 96)  # which takes any size
                edgedenoise.compile(root, target=name, precision=precision, options=options)
    return edgedenoise.verify(root)


def state(row: Row, precision: str, report: VerifyReport) -> str:
    if precision not in row.precisions:
        return "-"
    checks = [c for c in report.variants if c.runtime == row.target and c.precision == precision]
    if not checks:
        return "not tested"
    assert all(check.status != "failed" for check in checks), checks
    devices = registry[row.target].probe().devices
    if row.device not in ("auto", "cpu") and row.device not in devices:
        return "not tested"
    return min((check.state for check in checks), key=STATES.index)


def table(report: VerifyReport) -> list[list[str]]:
    rows = [[row.backend, row.runs_on, *(state(row, p, report) for p in PRECISIONS)] for row in ROWS]
    return [*rows, *BROWSERS]


def shown() -> list[list[str]]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert BEGIN in text
    lines = text.split(BEGIN)[1].split(END)[0].strip().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def markdown(rows: list[list[str]]) -> str:
    head = ["backend", "runs on", "float32", "float16", "INT8"]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [head, ["---"] * len(head), *rows])


def test_the_readme_claims_what_was_tested_and_no_more(report: VerifyReport, request: pytest.FixtureRequest) -> None:
    rows = table(report)
    readme = ROOT / "README.md"
    if request.config.getoption("--update-golden"):
        text = readme.read_text(encoding="utf-8")
        before, rest = text.split(BEGIN)
        readme.write_text(before + BEGIN + markdown(rows) + END + rest.split(END)[1], encoding="utf-8")
    claimed = shown()
    assert [cells[:2] for cells in claimed] == [cells[:2] for cells in rows]
    assert claimed[len(ROWS) :] == list(BROWSERS)
    for row, claim, found in zip(ROWS, claimed[: len(ROWS)], rows[: len(ROWS)], strict=True):
        for precision, says, is_ in zip(PRECISIONS, claim[2:], found[2:], strict=True):
            # A machine with a GPU may test more than the one that wrote the table.
            if row.device == "cpu" or is_ != "tested on hardware":
                assert says == is_, f"{row.backend} {precision}: the README says {says!r}, expected {is_!r}"


def test_the_rows_of_browsers_are_tested() -> None:
    tests = (ROOT / "tests" / "e2e" / "test_web_library.py").read_text(encoding="utf-8")
    assert "def test_pixels_are_those_of_python(" in tests
    assert '("edge-tiny", "int8"), ("edge-tiny", "fp32")' in tests
    assert "def test_webgpu_computes_the_same(" in tests
