"""Core ML's runtime: what it gives a model and takes from it, by a stand-in; the true thing where macOS is."""

from __future__ import annotations

import platform
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

import edgedenoise
from edgedenoise.bundles.manifest import Variant
from edgedenoise.bundles.model_files import ModelFiles
from edgedenoise.errors import (
    DeviceFallbackError,
    DeviceMemoryError,
    DeviceNotFoundError,
    InferenceError,
    RuntimeUnavailableError,
    UsageError,
)
from edgedenoise.runtimes.base import SessionOptions
from edgedenoise.runtimes.checked import CheckedSession
from edgedenoise.runtimes.coreml import backend as cml
from edgedenoise.runtimes.coreml.backend import (
    UNITS,
    CoreML,
    coremltools_quietly,
    from_output,
    package_of,
    placements,
    to_input,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

X = np.random.default_rng(0).integers(0, 256, (1, 3, 8, 6)).astype(np.float32) / 255
VARIANT = Variant("coreml-fp16", "coreml", "fp16", "coreml-fp16/model.mlpackage/Manifest.json")
PACKAGE = Path("B.edge/coreml-fp16/model.mlpackage")
FILES = ModelFiles(PACKAGE / "Manifest.json", PACKAGE.parent, {"model.mlpackage/Manifest.json": b"{}"})


def usage(unit: str | None) -> Any:
    """As MLComputePlan answers: by the class of the device; None for constants."""
    if unit is None:
        return None
    return SimpleNamespace(preferred_compute_device=type(f"ML{unit}ComputeDevice", (), {})())


class Tools:
    """As much of coremltools as the runtime uses, with a model that adds a tenth."""

    __version__ = "9.0"

    def __init__(
        self, io: str = "multiArrayType", units: tuple[str | None, ...] = ("CPU", None, "NeuralEngine")
    ) -> None:
        self.io = io
        self.units = units
        self.opened: list[tuple[str, str]] = []
        self.fails: Exception | None = None
        self.ComputeUnit = SimpleNamespace(**{name: name for name in UNITS.values()})
        plan = SimpleNamespace(
            model_structure=SimpleNamespace(
                program=SimpleNamespace(
                    functions={"main": SimpleNamespace(block=SimpleNamespace(operations=list(range(len(units)))))}
                )
            ),
            get_compute_device_usage_for_mlprogram_operation=lambda index: usage(self.units[index]),
        )
        self.models = SimpleNamespace(
            MLModel=self.model,
            compute_plan=SimpleNamespace(
                MLComputePlan=SimpleNamespace(load_from_path=lambda path, compute_units: plan)
            ),
        )

    def model(self, path: str, compute_units: str) -> Any:
        self.opened.append((path, compute_units))
        array = SimpleNamespace(shape=[1, 3, 8, 6])
        kind = SimpleNamespace(WhichOneof=lambda group: self.io, multiArrayType=array)
        features = {name: [SimpleNamespace(name=name, type=kind)] for name in ("image", "denoised")}
        spec = SimpleNamespace(description=SimpleNamespace(input=features["image"], output=features["denoised"]))
        return SimpleNamespace(predict=self.predict, get_spec=lambda: spec, get_compiled_model_path=self.compiled_path)

    def compiled_path(self) -> str:
        """A package that did not load says so only here, as coremltools 9 does."""
        if self.fails is not None:
            raise self.fails
        return "model.mlmodelc"

    def predict(self, given: dict[str, Any]) -> dict[str, Any]:
        if self.fails is not None:
            raise self.fails
        if self.io == "imageType":
            return {"denoised": Image.fromarray(np.asarray(given["image"]) // 2).convert("RGBA")}
        return {"denoised": given["image"].astype(np.float64) + 0.1}


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Tools:
    """A Mac, with coremltools that stand in."""
    from contextlib import contextmanager

    found = Tools()

    @contextmanager
    def quietly() -> Iterator[Tools]:
        yield found

    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(cml, "coremltools_quietly", quietly)
    monkeypatch.setattr(cml, "is_installed", lambda package: True)
    monkeypatch.setattr(cml.metadata, "version", lambda name: "9.0")
    return found


def opened(device: str = "auto") -> CheckedSession:
    return CheckedSession(CoreML().open(VARIANT, FILES, device, SessionOptions()))


def test_arrays_go_in_and_come_out_as_float32(tools: Tools) -> None:
    with opened() as session:
        answer = session.run(X)
        ((path, units),) = tools.opened
        copy = Path(path)
        assert (copy.name, units) == (PACKAGE.name, "ALL")
        assert copy.parent != PACKAGE.parent, "Core ML gets a private copy of the files that were checked"
        assert [file.name for file in copy.rglob("*")] == ["Manifest.json"]
        assert copy.parent.stat().st_mode & 0o077 == 0
    assert not copy.exists()
    np.testing.assert_allclose(answer, X + 0.1, rtol=1e-6)


def test_images_go_in_and_come_out_in_8_bits(tools: Tools) -> None:
    tools.io = "imageType"
    with opened() as session:
        answer = session.run(X)
    np.testing.assert_allclose(answer, np.rint(X * 255) // 2 / 255, atol=1e-6)
    image = to_input(X, "image")
    assert (image.size, image.mode) == ((6, 8), "RGB")
    np.testing.assert_array_equal(from_output(image, "image"), X)


@pytest.mark.parametrize(("device", "units"), UNITS.items())
def test_compute_units_are_what_was_asked_for(tools: Tools, device: str, units: str) -> None:
    tools.units = ("CPU", "GPU", "NeuralEngine")
    with opened(device.upper()) as session:
        assert session.effective.device == device
        assert session.effective.detail == "1 operators on CPU, 1 operators on GPU, 1 operators on NeuralEngine"
    assert tools.opened[0][1] == units


def test_a_device_that_nothing_would_run_on_is_refused(tools: Tools) -> None:
    tools.units = ("CPU", None, "CPU")
    with pytest.raises(DeviceFallbackError, match="Core ML would run every operator on CPU; expected 'ane'"):
        opened("ane")
    opened("cpu").close()


def test_a_system_that_does_not_tell_placements_is_taken_at_its_word(tools: Tools) -> None:
    tools.models.compute_plan = None
    with opened("ane") as session:
        assert session.effective.detail == "this macOS does not report which unit runs what"
    assert placements(tools, "model.mlmodelc", "ALL") == Counter()


def test_failures_are_worded(tools: Tools) -> None:
    with opened() as session:
        tools.fails = Exception("no such kernel")  # coremltools has no class of its own
        with pytest.raises(InferenceError, match="Core ML cannot run a tile: no such kernel"):
            session.run(X)
        tools.fails = MemoryError()
        with pytest.raises(DeviceMemoryError, match="ran out of memory on a 8x6 tile"):
            session.run(X)
    tools.fails = Exception("This model was not loaded")
    with pytest.raises(InferenceError, match=r"Core ML cannot open B\.edge.*: This model was not loaded") as told:
        opened()
    assert "deployment_target" in str(told.value)


@pytest.mark.usefixtures("tools")
def test_devices_and_options_are_strict() -> None:
    with pytest.raises(DeviceNotFoundError, match="no device 'npu' here; it has all, cpu, gpu, ane"):
        opened("npu")
    with pytest.raises(UsageError, match=r"reference execution .* runs on ONNX Runtime"):
        CoreML().open(VARIANT, FILES, "cpu", SessionOptions(fused=False))


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    found = CoreML().probe()
    assert (found.available, found.devices, found.command) == (False, (), None)
    with pytest.raises(RuntimeUnavailableError, match="Core ML runs on Apple devices") as told:
        opened()
    assert "docs/guides/iphone.md" in str(told.value)
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(cml, "is_installed", lambda package: False)
    assert CoreML().probe().command == 'pip install "edgedenoise[coreml]"'


def test_bars_are_hidden_and_everything_else_reaches_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    stream = cml._WithoutBars(sys.stderr)
    for text in (
        "\rRunning passes:  10%|# ",
        "\rRunning passes: 100%|##",
        "\n",
        "error: no space left on device",
        "\n",
    ):
        stream.write(text)
    stream.flush()
    assert capsys.readouterr().err == "error: no space left on device\n"


@pytest.mark.skipif(find_spec("coremltools") is None, reason="needs coremltools: pip install 'edgedenoise[coreml]'")
def test_what_is_written_to_stderr_during_a_build_gets_there(capsys: pytest.CaptureFixture[str]) -> None:
    with coremltools_quietly():
        sys.stderr.write("the disk is full\n")
    assert capsys.readouterr().err == "the disk is full\n"


def test_a_package_is_found_from_its_manifest() -> None:
    assert package_of(PACKAGE / "Manifest.json") == PACKAGE
    assert package_of(PACKAGE) == PACKAGE


@pytest.mark.skipif(find_spec("coremltools") is None, reason="needs coremltools: pip install 'edgedenoise[coreml]'")
def test_coremltools_is_imported_without_a_word_and_without_torch() -> None:
    import subprocess

    code = (
        "import sys; from edgedenoise.runtimes.coreml.backend import coremltools_quietly\n"
        "with coremltools_quietly() as tools: print(tools.__version__)\n"
        "print([name for name in ('torch', 'tensorflow') if name in sys.modules])\n"
        "import importlib.util; print(importlib.util.find_spec('numpy') is not None)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    version, dragged, sound = done.stdout.splitlines()
    assert (dragged, sound, done.stderr) == ("[]", "True", "")
    assert version
    with coremltools_quietly() as tools:
        assert tools.__version__ == version


@pytest.mark.skipif(platform.system() != "Darwin", reason="Core ML runs on Apple's devices")
@pytest.mark.skipif(find_spec("coremltools") is None, reason="needs coremltools: pip install 'edgedenoise[coreml]'")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "w8a16"])
def test_on_a_mac_a_package_proves_itself(precision: Any, tmp_path: Path) -> None:
    import shutil

    from edgedenoise.bundles.pretrained import shipped
    from edgedenoise.runtimes.job import BuildOptions

    root = Path(shutil.copytree(shipped("edge-tiny"), tmp_path / "edge-tiny.edge"))
    edgedenoise.compile(root, target="coreml", precision=precision, options=BuildOptions(tile=128))
    check = next(c for c in edgedenoise.verify(root).variants if c.runtime == "coreml")
    assert (check.status, check.state) == ("passed", "tested on hardware"), check
