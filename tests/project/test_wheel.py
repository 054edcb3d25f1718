"""The wheel contains exactly the package, and works in an environment that has nothing else.

The source distribution contains what builds the wheel, and no tests.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from conftest import Environment, MakeEnvironment

TINY_BUNDLE = "tests/fixtures/tiny.edge"


@dataclass(frozen=True)
class Built:
    wheel: Path
    sdist: Path


@pytest.fixture(scope="module")
def built(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build both distributions in a copy, because setuptools leaves files in the source folder."""
    if int(importlib.metadata.version("setuptools").partition(".")[0]) < 77:
        pytest.skip("building needs setuptools >= 77 in this environment: pip install -U setuptools")
    tree = tmp_path_factory.mktemp("tree") / "edgedenoise"
    left_out = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "node_modules")
    shutil.copytree(repo_root, tree, ignore=left_out)
    shutil.rmtree(tree / "dist", ignore_errors=True)
    out = tree.parent / "dist"
    # Without isolation, because that would download setuptools. The wheel is built from the source distribution.
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, tree],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (wheel,) = out.glob("*.whl")
    (sdist,) = out.glob("*.tar.gz")
    return Built(wheel, sdist)


@pytest.fixture(scope="module")
def package_files(repo_root: Path) -> dict[str, str]:
    """Return path in the repository -> path as installed, for every module and data file."""
    table = tomllib.loads((repo_root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    files = {}
    for name, folder in table["package-dir"].items():
        root = repo_root / folder
        found = {file for file in root.rglob("*.py") if "__pycache__" not in file.parts}
        for package, patterns in table["package-data"].items():
            if package == name or package.startswith(f"{name}."):
                data = root.joinpath(*package.removeprefix(name).strip(".").split("."))
                found |= {file for pattern in patterns for file in data.glob(pattern) if file.is_file()}
        for file in found:
            installed = Path(*name.split("."), file.relative_to(root))
            files[file.relative_to(repo_root).as_posix()] = installed.as_posix()
    return files


def test_the_wheel_holds_the_package_and_nothing_else(built: Built, package_files: dict[str, str]) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        names = set(wheel.namelist())
    info = built.wheel.name.partition("-py3")[0] + ".dist-info"
    about = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt", "licenses/LICENSE"}
    assert names == set(package_files.values()) | {f"{info}/{name}" for name in about}
    assert "edgedenoise/py.typed" in names
    assert "edgedenoise/evaluation/report/templates/page.html.j2" in names
    assert "edgedenoise/noise/level_estimator.npz" in names
    assert "edgedenoise/runtimes/registry.py" in names, "export/ is not installed inside the package"


def test_the_source_distribution_holds_what_builds_the_wheel(built: Built, package_files: dict[str, str]) -> None:
    root = built.sdist.name.removesuffix(".tar.gz")
    with tarfile.open(built.sdist) as sdist:
        names = {member.name.removeprefix(f"{root}/") for member in sdist.getmembers() if member.isfile()}
    names = {name for name in names if not name.startswith("edgedenoise.egg-info/")}
    assert names == set(package_files) | {"LICENSE", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg"}


def test_the_wheel_requires_no_training_package(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        (metadata,) = [name for name in wheel.namelist() if name.endswith("METADATA")]
        lines = wheel.read(metadata).decode().splitlines()
    always = {
        line.removeprefix("Requires-Dist: ")
        for line in lines
        if line.startswith("Requires-Dist") and "extra ==" not in line
    }
    names = {want.partition(">")[0] for want in always}
    assert names == {
        "numpy",
        "pillow",
        "onnxruntime",
        "typer",
        "rich",
        "msgspec",
        "platformdirs",
        "filelock",
        "typing-extensions",
    }


@pytest.fixture(scope="module")
def device(
    built: Built, repo_root: Path, make_environment: MakeEnvironment, tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    """Make a clean environment with the wheel and its base dependencies, as on a device."""
    environment = make_environment(tmp_path_factory.mktemp("device") / "venv", sys.executable)
    environment.install("--quiet", "-c", repo_root / "constraints.txt", built.wheel, cwd=tmp_path_factory.mktemp("cwd"))
    return environment


def run_on(device: Environment, environment: dict[str, str], *words: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [device.scripts / "edgedenoise", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment | {"XDG_CACHE_HOME": str(cwd / "cache")},
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.network
def test_the_installed_wheel_shows_its_help(
    device: Environment, plain_environment: dict[str, str], tmp_path: Path
) -> None:
    assert "denoise" in run_on(device, plain_environment, "--help", cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.network
def test_the_installed_wheel_lists_what_the_machine_can_run(
    device: Environment, plain_environment: dict[str, str], tmp_path: Path
) -> None:
    report = json.loads(run_on(device, plain_environment, "doctor", "--json", cwd=tmp_path))
    assert report


@pytest.mark.slow
@pytest.mark.network
def test_the_installed_wheel_denoises_an_image(
    device: Environment, plain_environment: dict[str, str], repo_root: Path, tmp_path: Path
) -> None:
    noisy = np.random.default_rng(3).normal(128, 20, (75, 101, 3)).clip(0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(tmp_path / "in.png")
    run_on(
        device,
        plain_environment,
        "denoise",
        "in.png",
        "-o",
        "out.png",
        "-m",
        repo_root / TINY_BUNDLE,
        cwd=tmp_path,
    )
    with Image.open(tmp_path / "out.png") as image:
        denoised = np.asarray(image)
    assert denoised.shape == noisy.shape
    assert denoised.dtype == np.uint8
    assert (denoised != noisy).any()
