"""`edgedenoise import-onnx`: what it says, and what it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'edgedenoise[quantize]'")

from graphs import branched_graph

from edgedenoise.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from command_line import Run


def test_the_bundle_is_written_and_what_was_measured_is_said(run: Run, tmp_path: Path) -> None:
    onnx.save(branched_graph(), tmp_path / "foreign.onnx")
    done = run("import-onnx", tmp_path / "foreign.onnx", "-o", tmp_path / "foreign.edge")
    assert done.code == 0, done.err
    assert "halo: 4 px (measured: 4)" in done.out
    assert run("verify", tmp_path / "foreign.edge").code == 0
    value = run("import-onnx", tmp_path / "foreign.onnx", "-o", tmp_path / "foreign.edge", "--json").json()
    assert (value["halo_px"], value["measured_px"], value["multiple_of"]) == (4, 4, 1)


def test_a_halo_that_is_no_number_is_refused(run: Run, tmp_path: Path) -> None:
    done = run("import-onnx", tmp_path / "foreign.onnx", "-o", tmp_path / "foreign.edge", "--halo", "wide")
    assert done.code == UsageError.exit_code
    assert "expected auto or a number of pixels, got 'wide'" in done.err
