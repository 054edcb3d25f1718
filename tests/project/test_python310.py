"""The base package runs on Python 3.10 (JetPack 6) without torch: its tests pass there."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import MakeEnvironment

pytestmark = [pytest.mark.slow, pytest.mark.network]


def runs_python310(command: str | Path) -> bool:
    """Return whether a command is a Python 3.10 with venv. A name on PATH may be a shim that does not run."""
    check = "import ensurepip, sys, venv; sys.exit(sys.version_info[:2] != (3, 10))"
    try:
        return subprocess.run([command, "-c", check], capture_output=True, check=False, timeout=30).returncode == 0
    except OSError:
        return False


@pytest.fixture(scope="module")
def python310() -> str:
    named = os.environ.get("EDGEDENOISE_PYTHON310")
    if named:
        assert runs_python310(named), f"EDGEDENOISE_PYTHON310={named} is not a Python 3.10 with venv"
        return named
    candidates: list[str | Path] = [
        "python3.10",
        *sorted(Path.home().glob(".pyenv/versions/3.10*/bin/python"), reverse=True),
    ]
    for candidate in candidates:
        if runs_python310(candidate):
            return str(candidate)
    pytest.skip("no Python 3.10 with venv on this machine; install one, or name it in EDGEDENOISE_PYTHON310")


@pytest.fixture(scope="module")
def scripts310(python310: str, repo_root: Path, make_environment: MakeEnvironment) -> Path:
    """Return the scripts folder of an environment with base, io and pytest; kept until the pins change."""
    wanted = b"".join((repo_root / name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))
    key = hashlib.sha256(python310.encode() + wanted).hexdigest()[:12]
    folder = repo_root / "build" / "test-venvs" / f"py310-{key}"
    ready = folder / ".ready"
    if not ready.exists():
        for old in folder.parent.glob("py310-*"):
            shutil.rmtree(old)
        folder.parent.mkdir(parents=True, exist_ok=True)
        environment = make_environment(folder, python310)
        environment.install("--quiet", "--upgrade", "pip", cwd=repo_root)
        environment.install("--quiet", "-c", "constraints.txt", "pytest", "-e", ".[io]", cwd=repo_root)
        ready.touch()
    return folder / ("Scripts" if os.name == "nt" else "bin")


BASE = tuple(
    f"tests/unit/{name}"
    for name in (
        "batch",
        "bundles",
        "cli",
        "datacheck",
        "evaluation",
        "imaging",
        "noise",
        "runtimes",
        "test_atomic.py",
        "test_printable.py",
        "test_denoiser.py",
    )
)


def test_the_base_suite_passes_on_python310(
    scripts310: Path, repo_root: Path, plain_environment: dict[str, str]
) -> None:
    done = subprocess.run(
        # The script, because `python -m pytest` would put the root of the repository first on the path.
        [scripts310 / "pytest", *BASE, "-q", "-p", "no:cacheprovider", "-m", "not gpu"],
        cwd=repo_root,
        env=plain_environment | {"PATH": os.pathsep.join([str(scripts310), os.environ.get("PATH", "")])},
        capture_output=True,
        text=True,
        check=False,
        timeout=540,
    )
    assert done.returncode == 0, f"on Python 3.10, the base suite:\n{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    assert " passed" in done.stdout


def test_python310_has_only_the_base_packages(scripts310: Path) -> None:
    """Otherwise the test above would say nothing about a device."""
    for package in ("torch", "onnx", "onnxscript", "openvino", "jinja2", "skimage"):
        done = subprocess.run([scripts310 / "python", "-c", f"import {package}"], capture_output=True, check=False)
        assert done.returncode != 0, package
