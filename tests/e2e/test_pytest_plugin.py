"""The pytest plugin tests a bundle on every backend that it has variants for."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "tiny.edge"
PLUGIN = "edgedenoise.pytest_plugin"


def run_pytest(folder: Path, *options: object) -> subprocess.CompletedProcess[str]:
    """Run pytest with the plugin, also where edgedenoise was installed before the plugin existed."""
    installed = any(entry.value == PLUGIN for entry in entry_points(group="pytest11"))
    words = [] if installed else ["-p", PLUGIN]
    return subprocess.run(
        [sys.executable, "-P", "-m", "pytest", *words, "-v", *map(str, options)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the fixtures, with variants for ONNX Runtime and OpenVINO."""
    pytest.importorskip("openvino", reason="pip install openvino")
    import edgedenoise

    copy = shutil.copytree(FIXTURE, tmp_path_factory.mktemp("plugin") / "tiny.edge")
    edgedenoise.compile(copy, target="openvino")
    return copy


def test_each_check_of_each_variant_is_a_test(bundle: Path, tmp_path: Path) -> None:
    done = run_pytest(tmp_path, "--edgedenoise-bundle", bundle, "--edgedenoise-min-psnr", 30)
    assert done.returncode == 0, done.stdout
    for variant in ("onnx-int8-u8s7", "openvino-int8-u8s7"):
        for check in ("selftest", "tiles", "max_error_lsb", "min_psnr_db"):
            assert f"{variant}::{check} PASSED" in done.stdout


def test_a_limit_that_is_exceeded_fails_one_test(bundle: Path, tmp_path: Path) -> None:
    done = run_pytest(tmp_path, "--edgedenoise-bundle", bundle, "--edgedenoise-max-levels", 1, "-k", "onnx-int8-u8s7")
    assert done.returncode == 1
    assert "onnx-int8-u8s7::max_error_lsb FAILED" in done.stdout
    assert "8-bit levels from float on self-test; expected at most 1 LSB" in done.stdout
    assert "Traceback" not in done.stdout
    assert "1 failed, 2 passed" in done.stdout


def test_the_plugin_loads_nothing_heavy_unless_it_is_used(tmp_path: Path) -> None:
    (tmp_path / "test_light.py").write_text(
        "import sys\n\ndef test_light():\n"
        "    assert 'edgedenoise.pytest_plugin' in sys.modules\n"
        "    assert not {'numpy', 'onnxruntime', 'msgspec', 'PIL', 'typer'} & set(sys.modules)\n",
        encoding="utf-8",
    )
    done = run_pytest(tmp_path, "test_light.py", "-p", "no:xdist", "-p", "no:anyio")
    assert "1 passed" in done.stdout, done.stdout


def test_a_bundle_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, "--edgedenoise-bundle", tmp_path / "nowhere.edge")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "there is no bundle at" in done.stdout + done.stderr
