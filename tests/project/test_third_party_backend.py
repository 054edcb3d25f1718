"""A backend of another package, found by its entry point, is used by every command as the built-in ones are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from images import write_pairs

if TYPE_CHECKING:
    from pathlib import Path

BACKEND = """
import shutil

import onnxruntime

from edgedenoise.bundles.manifest import Variant
from edgedenoise.runtimes.base import Availability, Backend, EffectiveDevice, Session


class AbacusSession(Session):
    def __init__(self, data):
        self._session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        self.effective = EffectiveDevice("abacus", "1.0", "beads", "wood")

    def run(self, x):
        return self._session.run(None, {"image": x})[0]


class Abacus(Backend):
    name = "abacus"
    label = "Abacus"
    runs_on = "wooden frames"
    precisions = ("fp16", "int8")  # there is no FP32: INT8 is compared with FP16
    default_precisions = ("fp16", "int8")
    schemes = ("u8s7",)
    builder = "abacus:build"

    def probe(self):
        return Availability(True, "1.0", ("beads",))

    def open_session(self, variant, model, device, options):
        return AbacusSession(model.data)


def build(job):
    name = f"abacus-{job.precision}"
    variant = Variant(
        name, "abacus", job.precision, f"{name}/model.abacus", job.source.encoding, job.source.fidelity_db
    )
    shutil.copy(job.graph, job.new_folder(variant) / "model.abacus")
    return variant
"""
NAMES = {"abacus-fp16", "abacus-int8"}


class Command(Protocol):
    def __call__(self, *arguments: object) -> Any:
        """Run a command with --json and return its result."""


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory, plain_environment: dict[str, str]) -> Command:
    """The command line of an environment with a third party's backend, and with one that cannot be imported."""
    site = tmp_path_factory.mktemp("site")
    (site / "abacus.py").write_text(BACKEND)
    info = site / "abacus-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: abacus\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[edgedenoise.runtimes]\nabacus = abacus:Abacus\nslate = slate_backend:Slate\n"
    )
    cache = tmp_path_factory.mktemp("cache")
    environment = plain_environment | {"PYTHONPATH": str(site), "XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1"}

    def run(*arguments: object) -> Any:
        program = shutil.which("edgedenoise", path=environment["PATH"])
        assert program is not None
        done = subprocess.run(
            [program, *map(str, arguments), "--json"],
            cwd=site,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        # `denoise` writes one record per line, the summary last; other commands write one value.
        return json.loads(done.stdout.splitlines()[-1] if arguments[0] == "denoise" else done.stdout)

    return run


@pytest.fixture(scope="module")
def bundle(command: Command, repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small bundle, compiled for the backend."""
    pytest.importorskip("onnx", reason='to compile, install: pip install "edgedenoise[quantize]"')
    bundle = shutil.copytree(repo_root / "tests" / "fixtures" / "tiny.edge", tmp_path_factory.mktemp("b") / "b.edge")
    command("compile", bundle, "--target", "abacus")
    return bundle


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders `noisy` and `clean`, with two images each."""
    folder = tmp_path_factory.mktemp("images")
    write_pairs(folder / "noisy", folder / "clean", 2, side_px=160)
    return folder


def test_doctor_lists_it_and_reports_one_that_is_broken(command: Command) -> None:
    backends = {one["backend"]: one for one in command("doctor")["backends"]}
    assert backends["abacus"]["available"]
    assert backends["abacus"]["devices"] == ["beads"]
    broken = backends["slate (slate_backend:Slate)"]
    assert not broken["available"]
    assert "No module named 'slate_backend'" in broken["reason"]


def test_it_is_verified_and_run(command: Command, bundle: Path, images: Path, tmp_path: Path) -> None:
    checks = {check["variant"]: check["status"] for check in command("verify", bundle)["variants"]}
    assert {name: checks[name] for name in NAMES} == dict.fromkeys(NAMES, "passed")
    found = command(
        "denoise", images / "noisy" / "0.png", "-o", tmp_path / "0.png", "-m", bundle, "--runtime", "abacus"
    )
    assert found["effective"] == {"runtime": "abacus", "version": "1.0", "device": "beads", "detail": "wood"}


def test_it_is_measured_and_int8_is_compared_with_its_fp16(command: Command, bundle: Path, images: Path) -> None:
    timed = {one["variant"]: one for one in command("bench", bundle, "--shape", 64, "--repeats", 3)["variants"]}
    report = command("compare", bundle, "--noisy", images / "noisy", "--clean", images / "clean", "--repeats", 1)
    compared = {row["measurement"]["variant"]: row["measurement"] for row in report["rows"]}
    for found in (timed, compared):
        assert {name: found[name]["error"] for name in NAMES} == dict.fromkeys(NAMES, "")
        assert found["abacus-int8"]["speed_vs_float"] > 0
        assert found["abacus-int8"]["compared_with"] == "abacus-fp16"
        assert found["abacus-fp16"]["speed_vs_float"] is None


def test_build_makes_its_variants_unasked(command: Command, images: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason='to export, install: pip install "edgedenoise[export]"')
    options = ["--steps", 2, "--patch", 40, "--set", "data_check=off", "--device", "cpu", "--network", "cbsn-6x1"]
    command("train", "--data", images / "noisy", "--out", tmp_path / "run", *options)
    quick = ["--count", 4, "--search-time", 0]
    command("build", tmp_path / "run", "--data", images / "noisy", "-o", tmp_path / "new.edge", *quick)
    variants = command("inspect", tmp_path / "new.edge")["variants"]
    assert {one["name"] for one in variants} >= NAMES
