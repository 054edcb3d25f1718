"""`edgedenoise import-torch`: what it says, and what it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgedenoise[export]'")
pytest.importorskip("onnxscript", reason="needs onnxscript: pip install 'edgedenoise[export]'")

from cbsn_port import CentrePort

from edgedenoise.errors import ExportError, TrainingError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from command_line import Run


def test_weights_are_imported_and_what_was_measured_is_said(run: Run, tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(CentrePort(4, 1).state_dict(), tmp_path / "port.pt")
    done = run("import-torch", tmp_path / "port.pt", "-o", tmp_path / "port.edge")
    assert done.code == 0, done.err
    assert "halo: 5 px" in done.out
    assert f"calibrate {tmp_path / 'port.edge'} --data" in done.out
    shown = run("inspect", tmp_path / "port.edge")
    assert "port: cbsn-4x1" in shown.out
    assert "normalization unit" in shown.out


def test_programs_need_trust_and_weights_take_none(run: Run, tmp_path: Path) -> None:
    (tmp_path / "p.pt2").write_bytes(b"a program")
    refused = run("import-torch", tmp_path / "p.pt2", "-o", tmp_path / "p.edge")
    assert refused.code == ExportError.exit_code
    assert "--trust-program" in refused.err
    assert run("import-torch", tmp_path / "p.pt", "-o", tmp_path / "p.edge").code == TrainingError.exit_code
    wrong = run("import-torch", tmp_path / "p.pt", "-o", tmp_path / "p.edge", "--trust-program")
    assert wrong.code == UsageError.exit_code
