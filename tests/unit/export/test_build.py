"""A build writes one folder, and does nothing twice; what it prints works when it is typed."""

from __future__ import annotations

import shlex
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgedenoise[export]'")

import edgedenoise
from edgedenoise import atomic
from edgedenoise.bundles import writer
from edgedenoise.bundles.archive import pack
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.manifest_json import MANIFEST
from edgedenoise.bundles.pretrained import shipped
from edgedenoise.calibration import drawing, sets
from edgedenoise.calibration.images import images_of
from edgedenoise.cli import app
from edgedenoise.errors import BundleError, IncompatibleError, ParityError
from edgedenoise.exporting import build as build_module
from edgedenoise.exporting import verify as verify_module
from edgedenoise.exporting.commands import compile_command
from edgedenoise.exporting.compile import _sources
from edgedenoise.imaging.files import write_image
from edgedenoise.imaging.image import Image
from edgedenoise.runtimes.registry import registry
from edgedenoise.training.config.config import CBSNConfig

if TYPE_CHECKING:
    from edgedenoise.bundles.manifest import Precision


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(8):
        pixels = np.random.default_rng(seed).integers(0, 256, (96, 96, 3), dtype=np.uint8)
        write_image(Image(pixels), folder / f"{seed}.png")
    return folder


@pytest.fixture(scope="module")
def checkpoint(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that was trained for two steps."""
    run = tmp_path_factory.mktemp("run") / "run"
    config = CBSNConfig(network="cbsn-8x1", data=str(photos), out=str(run), steps=2, batch=1, patch=40)
    return edgedenoise.train(config).run


class Counters:
    """Count how often a build does what it should do once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.seals, self.copies, self.opens, self.exchanges = 0, 0, 0, 0
        self.decoded: Counter[str] = Counter()
        self.selftests: Counter[str] = Counter()
        self._count(writer, "write_manifest", lambda *_: self._add("seals"))
        self._count(shutil, "copytree", lambda source, *_: Path(source, MANIFEST).is_file() and self._add("copies"))
        self._count(atomic, "_take_the_place_of", lambda *_: self._add("exchanges"))
        self._count(verify_module, "run_selftest", lambda _, variant, __: self.selftests.update([variant.name]))
        for module in (drawing, sets):
            self._count(module, "read_image", lambda path: self.decoded.update([path.name]))

    def _add(self, name: str) -> None:
        setattr(self, name, getattr(self, name) + 1)

    def _count(self, module: Any, name: str, seen: Any) -> None:
        real = getattr(module, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            seen(*arguments)
            return real(*arguments, **options)

        self.monkeypatch.setattr(module, name, counted)


def test_a_build_does_nothing_twice(
    checkpoint: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counters(monkeypatch)
    targets = tuple(name for name in ("openvino",) if registry[name].can_build())
    report = edgedenoise.build(checkpoint, photos, tmp_path / "my.edge", count=12, targets=targets)
    assert report.verified.passed
    variants = {variant.name for variant in report.bundle.manifest.variants}
    assert {"onnx-fp32", "onnx-int8-u8s7"} <= variants
    assert len(variants) == 2 + 2 * len(targets)
    assert counted.seals <= 2
    assert counted.copies <= 1
    assert counted.exchanges == 1
    assert counted.selftests == dict.fromkeys(variants, 1)
    # Two sets, the calibration set and the held-out one, and no image is in both.
    assert set(counted.decoded.values()) == {1}
    assert len(counted.decoded) == len(images_of(photos))
    assert report.quantized.held_out_crops > 0
    losses = {variant.name: variant.loss for variant in report.bundle.manifest.variants if variant.precision == "int8"}
    assert set(losses.values()) == {report.quantized.loss}, "a compiled variant has the loss of its graph"
    assert Bundle.open(tmp_path / "my.edge").strays() == []


def test_a_single_command_seals_once(
    checkpoint: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "my.edge"
    steps = {
        "export": lambda: edgedenoise.export(checkpoint, root),
        "calibrate": lambda: edgedenoise.calibrate(root, photos, count=4),
        "quantize": lambda: edgedenoise.quantize(root, data=photos, weight_clip="auto", bias_correction="auto"),
    }
    for name, step in steps.items():
        with monkeypatch.context() as patch:
            counted = Counters(patch)
            step()
        assert (counted.seals, counted.exchanges) == (1, 1), name
        assert counted.copies <= 1, name
    edgedenoise.verify(root)


def test_a_build_gives_what_the_single_commands_give(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    stages: dict[str, tuple[int, int]] = {}

    def progress(stage: str, done: int, total: int, _: str = "") -> None:
        stages[stage] = (done, total)

    built = edgedenoise.build(checkpoint, photos, tmp_path / "my.edge", count=12, targets=(), progress=progress).bundle
    assert {"export", "calibrate", "quantize", "verify"} <= stages.keys()
    assert {stage: done for stage, (done, _) in stages.items()} == {
        stage: total for stage, (_, total) in stages.items()
    }
    single = tmp_path / "single" / "my.edge"
    edgedenoise.export(checkpoint, single)
    edgedenoise.calibrate(single, photos, count=12)
    edgedenoise.quantize(single, data=photos, excluded_layers=built.variant("onnx-int8-u8s7").encoding.float_layers)
    assert Bundle.open(single).manifest.files == built.manifest.files


def test_a_variant_that_fails_leaves_nothing(
    checkpoint: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_module, "run_selftest", lambda *_: _failed())
    with pytest.raises(ParityError, match="variants fail their self-test, so nothing was written"):
        edgedenoise.build(checkpoint, photos, tmp_path / "my.edge", count=4, targets=(), search_seconds=0)
    assert list(tmp_path.iterdir()) == []


def _failed() -> Any:
    from edgedenoise.runtimes.selftest import SelfTestResult

    return SelfTestResult(10.0, 100.0, 80.0, 100.0, 0.0, 90.0, np.zeros((3, 8, 8), np.float32))


def test_a_build_writes_over_bundles_only(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    with pytest.raises(BundleError, match="is not a bundle, so it is not overwritten"):
        edgedenoise.build(checkpoint, photos, tmp_path / "thesis")


def test_what_is_installed_includes_every_backend_that_can_build() -> None:
    expected = {backend.name for backend in registry.values() if backend.can_build()}
    assert set(build_module.buildable_targets()) == expected
    assert "onnxruntime" not in expected


# ---------------------------------------------------------------- the commands that verify prints


def typed(line: str) -> None:
    """Run a command line as a user would."""
    for step in line.split(" && "):
        program, *arguments = shlex.split(step)
        assert program == "edgedenoise"
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, f"{step}\n{result.output}"


@pytest.mark.parametrize(
    ("precision", "kept", "hint"),
    [
        ("int8", "onnx-fp32", "Quantize it first: "),
        ("fp32", "onnx-int8-u8s7", "Export it first: "),
        (None, "nothing", "Export it first: "),
    ],
)
def test_what_is_missing_for_a_build_is_told(precision: Precision | None, kept: str, hint: str) -> None:
    """Quantization cannot make a float graph, so it is told only where the INT8 graph is what is missing."""
    opened = Bundle.open("edge-tiny")
    variants = [variant for variant in opened.manifest.variants if variant.name == kept]
    bundle = replace(opened, manifest=msgspec.structs.replace(opened.manifest, variants=variants))
    with pytest.raises(IncompatibleError, match="has no ONNX variant to build") as caught:
        _sources(bundle, registry["openvino"], precision)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith(hint)


BUILDERS = [name for name in ("openvino", "coreml", "tensorrt-rtx") if registry[name].can_build()]


@pytest.mark.parametrize("name", BUILDERS)
def test_every_command_that_verify_prints_works_when_it_is_typed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INT8 for Core ML and TensorRT needs a graph of another scheme first."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "a name with spaces.edge"
    shutil.copytree(shipped("edge-tiny"), root)
    missing = [one for one in edgedenoise.verify(root).not_built if one.target == name]
    assert {one.precision for one in missing} == set(registry[name].default_precisions)
    for one in missing:
        typed(one.command)
    assert not [one for one in edgedenoise.verify(root).not_built if one.target == name]


def test_commands_for_archives_and_shipped_bundles_unpack_them_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not BUILDERS:
        pytest.skip("no backend can build here: pip install 'edgedenoise[openvino]'")
    monkeypatch.chdir(tmp_path)
    backend = registry[BUILDERS[0]]
    pack(shipped("edge-tiny"), tmp_path / "tiny.zip")
    for source, folder in (("edge-tiny", "my-edge-tiny.edge"), (tmp_path / "tiny.zip", "tiny.edge")):
        typed(compile_command(Bundle.open(source), backend, "int8"))
        assert any(v.runtime == backend.name for v in Bundle.open(tmp_path / folder).manifest.variants)
