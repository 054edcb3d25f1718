"""The saturation trap: on x86 without VNNI, products of 8-bit pairs saturate and cost whole decibels.

Measured where the CPU has the trap, or under `qemu-x86_64` emulating one that has; elsewhere skipped.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from saturation import Saturation, measure

from edgedenoise.runtimes.machine import is_x86, saturates_u8s8

SCRIPT = Path(__file__).resolve().parents[3] / "support" / "saturation.py"


@pytest.fixture(scope="module", params=["u8s8", "u8s7"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Saturation]:
    """What was measured for a scheme."""
    tmp_path = tmp_path_factory.mktemp("saturation")
    pytest.importorskip("openvino", reason="needs openvino: pip install 'edgedenoise[openvino]'")
    scheme = request.param
    if saturates_u8s8():
        return scheme, measure(scheme, tmp_path)
    if not is_x86() or shutil.which("qemu-x86_64") is None:
        pytest.skip("this CPU does not saturate, and there is no qemu-x86_64 (Debian: qemu-user) to emulate one")
    # Haswell: AVX2 and no VNNI.
    command = ["qemu-x86_64", "-cpu", "Haswell-noTSX", sys.executable, str(SCRIPT), scheme, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return scheme, Saturation(**json.loads(done.stdout))


@pytest.mark.slow
def test_protected_kernels_lose_nothing_where_unprotected_ones_lose_decibels(found: tuple[str, Saturation]) -> None:
    scheme, measured = found
    if scheme == "u8s8":  # the trap is really there
        assert measured.unprotected_db <= measured.oracle_db - 3
        assert measured.openvino_unprotected_db <= measured.oracle_db - 3
    assert measured.protected_db >= measured.oracle_db - 1
    assert measured.protected_max_error_lsb <= 2


@pytest.mark.slow
def test_openvino_refuses_what_would_saturate_and_runs_seven_bits_exactly(found: tuple[str, Saturation]) -> None:
    scheme, measured = found
    if scheme == "u8s8":
        assert measured.openvino_db is None
        return
    assert measured.openvino_db is not None
    assert measured.openvino_db >= measured.oracle_db - 1
    assert measured.openvino_max_error_lsb is not None
    assert measured.openvino_max_error_lsb <= 2
