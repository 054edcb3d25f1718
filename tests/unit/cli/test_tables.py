"""Tables fit 80 columns; `--wide` shows the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgedenoise.cli import doctor
from edgedenoise.cli.build import _not_built_line
from edgedenoise.cli.verify import variants_table
from edgedenoise.doctor import diagnose
from edgedenoise.exporting.quantization.search_result import (
    Budget,
    Candidate,
    Fidelity,
    LayerCost,
    QuantizationPlan,
    plan_table,
)
from edgedenoise.exporting.verify import NotBuilt, VariantCheck, VerifyReport
from edgedenoise.tables import table

if TYPE_CHECKING:
    from pathlib import Path

LONG_VARIANT = "tensorrt-rtx-int8-s8s8"


def longest(text: str) -> int:
    return max(len(line) for line in text.splitlines())


def test_a_table_shows_the_columns_that_are_named() -> None:
    header, rows = ["a", "b", "c"], [["long", "1", "x"], ["s", "22", "y"]]
    assert table(header, rows) == "a      b  c\n----  --  -\nlong   1  x\ns     22  y"
    assert table(header, rows, columns=["c", "a"]) == "a     c\n----  -\nlong  x\ns     y"


@pytest.mark.parametrize("state", ["tested on hardware", "emulated", "not tested"])
def test_verify(state: str) -> None:
    check = VariantCheck(LONG_VARIANT, "tensorrt-rtx", "int8", "not run", "", state, 100.0, 255.0, 40.0, 100.0, 255.0)
    report = VerifyReport("my.edge", 9, (), (check,))
    assert longest(variants_table(report, wide=False)) <= 80
    assert "max LSB to W8A8" in variants_table(report, wide=True)


def test_quantize() -> None:
    quality = Fidelity(123.4, -0.123)
    candidate = Candidate("u8s7", "percentile-99.999", ("layer",) * 12, 0.987, quality, 0.62)
    layer = LayerCost(
        "/trunk/module.12/branch/conv/Conv_output_0", "trunk.module.12.branch.conv.weight", "Conv", 1, quality
    )
    plan = QuantizationPlan(Budget(min_psnr_db=50), "onnxruntime", 8, True, candidate, (candidate,), (layer,))
    text = plan_table(plan)
    assert longest(text.partition("budget:")[0]) <= 80
    assert "...module.12.branch.conv.weight" in text
    assert layer.layer in plan_table(plan, wide=True)


def test_doctor() -> None:
    text = doctor.text_of_diagnosis(diagnose())
    assert longest("\n".join(line for line in text.splitlines() if "to fix:" not in line)) <= 80


def test_build_names_in_one_line_what_was_not_built(tmp_path: Path) -> None:
    one = NotBuilt("coreml", "int8", "edgedenoise compile my.edge --target coreml --precision int8")
    two = NotBuilt("tensorrt", "fp16", "edgedenoise compile my.edge --target tensorrt --precision fp16")
    assert _not_built_line((one,), tmp_path) == f"not built: coreml int8; to build it: {one.command}"
    three = NotBuilt("tensorrt", "int8", "edgedenoise compile my.edge --target tensorrt --precision int8")
    line = _not_built_line((one, two, three), tmp_path / "my bundle.edge")
    assert line.startswith("not built: coreml (int8), tensorrt (fp16, int8); ")
    assert line.endswith(f"edgedenoise verify '{tmp_path}/my bundle.edge'")
