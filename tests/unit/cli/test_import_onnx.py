"""`edgedenoise import-onnx`: what it says, and what it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'edgedenoise[quantize]'")

from graphs import GraphBuilder, branched_graph

from edgedenoise.errors import ExportError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from command_line import Run


def test_the_bundle_is_written_and_what_was_measured_is_said(run: Run, tmp_path: Path) -> None:
    onnx.save(branched_graph(), tmp_path / "foreign.onnx")
    done = run("import-onnx", tmp_path / "foreign.onnx", "-o", tmp_path / "foreign.edge")
    assert done.code == 0, done.err
    assert "halo: 4 px (measured: 4 px)" in done.out
    assert run("verify", tmp_path / "foreign.edge").code == 0
    value = run("import-onnx", tmp_path / "foreign.onnx", "-o", tmp_path / "foreign.edge", "--json").json()
    assert (value["halo_px"], value["measured_px"], value["multiple_of"]) == (4, 4, 1)


def test_a_halo_that_is_no_number_is_refused(run: Run, tmp_path: Path) -> None:
    done = run("import-onnx", tmp_path / "foreign.onnx", "-o", tmp_path / "foreign.edge", "--halo", "wide")
    assert done.code == UsageError.exit_code
    assert "expected auto or a number of pixels, got 'wide'" in done.err


def test_blended_tiles_are_refused_offered_and_said(run: Run, tmp_path: Path) -> None:
    b = GraphBuilder()
    pooled = b.node("GlobalAveragePool", [b.conv("image", "body", (3, 3, 3))], "pooled")
    b.node("Add", ["image", pooled], "denoised")
    onnx.save(b.model(), tmp_path / "foreign.onnx")
    arguments = ("import-onnx", tmp_path / "foreign.onnx", "-o", tmp_path / "foreign.edge")
    refused = run(*arguments)
    assert refused.code == ExportError.exit_code
    assert "accept tiles that are blended and not exact: edgedenoise import-onnx" in " ".join(refused.err.split())
    done = run(*arguments, "--tiling", "blend")
    assert done.code == 0, done.err
    assert "(measured: the whole image)" in done.out
    assert "tiles are blended over 64 px and not exact: up to" in done.out
    assert "tiles are blended over 64 px and not exact" in run("inspect", tmp_path / "foreign.edge").out
    verified = run("verify", tmp_path / "foreign.edge")
    assert verified.code == 0
    assert "tiles are blended and not exact" in verified.out
