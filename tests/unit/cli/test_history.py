"""`edgedenoise history` shows trends, and fails on a regression."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from result_runs import EARLIER, FLOAT, made_run

from edgedenoise.errors import RegressionError, ResultFileError
from edgedenoise.evaluation.result_files import append_runs

if TYPE_CHECKING:
    from pathlib import Path

    from command_line import Run


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    append_runs(tmp_path / "baseline.json", EARLIER)
    return tmp_path / "baseline.json"


def test_the_trend_is_shown(run: Run, baseline: Path) -> None:
    done = run("history", baseline, "--wide")
    assert done.code == 0
    assert done.out.startswith("board, tiny\n")
    assert "speed against onnx-fp32, call, 100x100" in done.out
    assert "1000 1020 980" in done.out
    trends = run("history", baseline, "--json").json()
    assert {trend["verdict"] for trend in trends} == {"same"}
    assert [point["run"] for point in trends[0]["earlier"]] == ["board-1", "board-2"]


def test_a_regression_is_an_error(run: Run, baseline: Path, tmp_path: Path) -> None:
    append_runs(tmp_path / "now.json", [made_run(4, FLOAT)])
    done = run("history", baseline, "--check", tmp_path / "now.json")
    assert done.code == RegressionError.exit_code
    assert "onnx-int8: ms/MP, call, 100x100: expected 500 within" in done.err


def test_a_run_is_not_compared_with_itself(run: Run, baseline: Path) -> None:
    done = run("history", baseline, "--check", baseline)
    assert done.code == ResultFileError.exit_code
    assert "nothing was checked" in done.err
