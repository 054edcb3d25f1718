"""OpenVINO: made from our graphs, held to the float output and to exact W8A8, and never silently elsewhere."""

from __future__ import annotations

import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from cpus import AVX2, pretend

openvino = pytest.importorskip("openvino", reason="needs openvino: pip install 'edgedenoise[openvino]'")

import edgedenoise
from edgedenoise.bundles.model_files import ModelFiles
from edgedenoise.denoiser import load, load_variant
from edgedenoise.errors import (
    DeviceMemoryError,
    DeviceNotFoundError,
    IncompatibleError,
    InferenceError,
    ParityError,
    UsageError,
)
from edgedenoise.imaging.normalize import WHOLE_IMAGE
from edgedenoise.runtimes.base import Availability
from edgedenoise.runtimes.fusion import Fusion
from edgedenoise.runtimes.job import BuildOptions
from edgedenoise.runtimes.opening import open_variant
from edgedenoise.runtimes.openvino.backend import OpenVino
from edgedenoise.runtimes.openvino.core import shared_core
from edgedenoise.runtimes.pipeline import run_image
from edgedenoise.runtimes.registry import registry

if TYPE_CHECKING:
    from pathlib import Path

    from edgedenoise.bundles.bundle import Bundle


@pytest.fixture
def compiled(branched_bundle: Bundle, noisy_folder: Path) -> Bundle:
    edgedenoise.calibrate(branched_bundle.root, noisy_folder, count=8, crop_px=64)
    edgedenoise.quantize(branched_bundle.root)
    return edgedenoise.compile(branched_bundle.root, target="openvino")


def test_compiling_adds_a_variant_per_precision(compiled: Bundle) -> None:
    names = [v.name for v in compiled.manifest.variants if v.runtime == "openvino"]
    assert sorted(names) == ["openvino-fp32", "openvino-int8-u8s7"]


def test_verify_holds_it_to_the_float_answer_and_to_exact_arithmetic(compiled: Bundle) -> None:
    report = edgedenoise.verify(compiled.root)
    assert report.passed
    assert len(report.linted) == 2
    by_name = {check.variant: check for check in report.variants}
    assert by_name["openvino-fp32"].psnr_db > 100
    for runtime, prefix in (("openvino", "openvino"), ("onnxruntime", "onnx")):
        check = by_name[f"{prefix}-int8-u8s7"]
        bound = registry[runtime].error_bounds["u8s7"].with_sums
        assert bound.holds(check.reference_psnr_db, check.reference_max_error_lsb)
        assert check.divergence is None


def test_openvino_tells_what_it_fused(compiled: Bundle) -> None:
    def fusion(name: str) -> Fusion:
        variant = compiled.variant(name)
        return OpenVino().fusion(variant, compiled.model_files(variant))

    floats, integers = fusion("openvino-fp32"), fusion("openvino-int8-u8s7")
    assert floats == Fusion(convolutions=5, in_float=5, conversions=0, dynamic_shape=False)
    assert (integers.convolutions, integers.in_float, integers.dynamic_shape) == (5, 0, False)
    assert integers.conversions >= 1  # the image at least


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (65, 130), (201, 157), (530, 389)])
def test_tiles_equal_the_whole_within_one_level(compiled: Bundle, precision: str, size: tuple[int, int]) -> None:
    name = next(v.name for v in compiled.manifest.variants if v.runtime == "openvino" and v.precision == precision)
    session = load_variant(compiled, name).session
    x = np.random.default_rng(0).random((3, *size), np.float32)
    whole = run_image(session, x, WHOLE_IMAGE, compiled.manifest.tiling)
    for tile in (64, 96, 128, 256, 512):
        tiled = run_image(session, x, WHOLE_IMAGE, compiled.manifest.tiling, tile=tile)
        assert np.abs(np.rint(tiled * 255) - np.rint(whole * 255)).max() <= 1


def test_a_lone_ir_file_still_loads(compiled: Bundle) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    with load(compiled.root / "openvino-fp32" / "model.xml") as alone, load_variant(compiled, "onnx-fp32") as whole:
        assert alone.effective.runtime == "openvino"
        assert np.abs(alone(image).astype(int) - whole(image)).max() <= 1


def test_an_explicit_device_that_is_not_here_is_refused(compiled: Bundle) -> None:
    with pytest.raises(DeviceNotFoundError, match="it has cpu"):
        load(compiled.root, runtime="openvino", device="npu")


def test_a_file_that_is_no_model_is_refused(compiled: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "broken.xml"
    path.write_text("<net>")
    with pytest.raises(InferenceError, match="OpenVINO cannot"):
        OpenVino().metadata(ModelFiles.read(path))


def test_half_precision_is_half_the_size_and_close(compiled: Bundle) -> None:
    bundle = edgedenoise.compile(compiled.root, target="openvino", precision="fp16")
    sizes = {name: bundle.manifest.files[f"openvino-{name}/model.bin"].size_bytes for name in ("fp32", "fp16")}
    assert sizes["fp16"] < 0.6 * sizes["fp32"]
    check = next(c for c in edgedenoise.verify(bundle.root).variants if c.variant == "openvino-fp16")
    assert (check.status, check.state) == ("passed", "tested on hardware")
    assert check.psnr_db > 60
    with load_variant(bundle, "openvino-fp16") as denoiser:
        assert "float32 where not integer" in denoiser.effective.detail, "the CPU computes in float32 all the same"


def test_what_a_target_does_not_build_is_told(compiled: Bundle) -> None:
    with pytest.raises(UsageError, match="openvino has no precision w8a16; expected one of fp32, fp16, int8") as caught:
        edgedenoise.compile(compiled.root, target="openvino", precision="w8a16")
    assert f"edgedenoise compile {compiled.root} --target openvino" in str(caught.value.hint)
    with pytest.raises(UsageError, match=r"an --option for openvino is not accepted: .* expected none"):
        edgedenoise.compile(compiled.root, target="openvino", options=BuildOptions(more={"io": "image"}))
    with pytest.raises(UsageError, match="openvino takes inputs of any size"):
        edgedenoise.compile(compiled.root, target="openvino", options=BuildOptions(tile=256))
    with pytest.raises(UsageError, match="onnxruntime, openvino"):
        edgedenoise.compile(compiled.root, target="abacus")


def test_a_build_that_fails_its_self_test_leaves_the_bundle_as_it_was(
    branched_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(branched_bundle.root.rglob("*"))
    # A bound that nothing can meet stands for a backend that computes something else.
    monkeypatch.setattr("edgedenoise.runtimes.selftest.FLOAT_BOUND_DB", float("inf"))
    monkeypatch.setattr("edgedenoise.runtimes.selftest.psnr_unit", lambda a, b: 20.0)
    with pytest.raises(ParityError, match="left as it was"):
        edgedenoise.compile(branched_bundle.root, target="openvino")
    assert sorted(branched_bundle.root.rglob("*")) == before


# ---------------------------------------------------------------- a CPU that would compute it wrongly


def test_eight_bits_are_built_without_vnni_and_refused_at_opening(
    committed_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = shutil.copytree(committed_bundle, tmp_path / "b.edge")
    edgedenoise.quantize(root, scheme="u8s8")
    pretend(monkeypatch, AVX2)
    bundle = edgedenoise.compile(root, target="openvino", precision="int8")
    eight = bundle.variant("openvino-int8-u8s8")
    assert bundle.variant("openvino-int8-u8s7")
    assert "openvino-int8-u8s8 was built and" in caplog.text
    assert "openvino-int8-u8s7 was built and" not in caplog.text
    with pytest.raises(IncompatibleError, match="would saturate") as told:
        open_variant(bundle, eight)
    assert f"edgedenoise quantize {root} --scheme u8s7" in str(told.value)
    checks = {check.variant: check for check in edgedenoise.verify(root).variants}
    assert (checks[eight.name].status, checks["openvino-int8-u8s7"].status) == ("not run", "passed")


# ---------------------------------------------------------------- out of memory


class Full:
    """OpenVINO's core on a device that cannot hold shapes above a side, in one of its stages."""

    def __init__(self, stage: str, limit_px: int, says: str) -> None:
        self.stage, self.limit_px, self.says = stage, limit_px, says
        self.core = shared_core()
        self.shape: tuple[int, ...] = ()

    def read_model(self, model: bytes, weights: bytes) -> Any:
        return self.core.read_model(model, weights)

    def fail(self, stage: str, shape: Any) -> None:
        if stage == self.stage and max(list(shape)[2:]) > self.limit_px:
            raise RuntimeError(self.says)

    def compile_model(self, model: Any, device: str, config: Any) -> Any:
        shape = model.inputs[0].get_shape()
        self.fail("compile", shape)
        compiled = self.core.compile_model(model, device, config)

        def request() -> Any:
            self.fail("request", shape)
            found = compiled.create_infer_request()

            def infer(*arguments: Any, **options: Any) -> Any:
                self.fail("infer", shape)
                return found.infer(*arguments, **options)

            return SimpleNamespace(infer=infer)

        return SimpleNamespace(get_property=compiled.get_property, create_infer_request=request)


@pytest.fixture(scope="module")
def floats(committed_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    root = shutil.copytree(committed_bundle, tmp_path_factory.mktemp("memory") / "b.edge")
    return edgedenoise.compile(root, target="openvino", precision="fp32")


SAYS = (
    "Exception from src/inference/src/cpp/core.cpp:109: bad allocation",
    "could not create a memory object",
    "[GPU] Exceeded max size of memory object allocation: requested 4 GB",
    "[GPU] CL_OUT_OF_RESOURCES exception",
)


@pytest.mark.parametrize("stage", ["compile", "request", "infer"])
@pytest.mark.parametrize("says", SAYS)
def test_out_of_memory_makes_auto_use_smaller_tiles(floats: Bundle, stage: str, says: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 260, 3), dtype=np.uint8)
    with load_variant(floats, "openvino-fp32", selftest=False) as denoiser:
        expected = denoiser(image)
        session = denoiser.session._inner
        session._core = Full(stage, 100, says)  # type: ignore[union-attr]
        session._shape = ()  # type: ignore[union-attr]
        found = denoiser(image)
        assert denoiser.last_tile == 65
        np.testing.assert_allclose(found.astype(int), expected.astype(int), atol=1)
        with pytest.raises(DeviceMemoryError, match="OpenVINO ran out of memory on a 120x120 tile") as told:
            denoiser.session.run(np.zeros((1, 3, 120, 120), np.float32))
    assert told.value.suggested_tile == 60


def test_a_model_that_does_not_fit_is_a_memory_error(floats: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Full("compile", 10, "std::bad_alloc")
    monkeypatch.setattr("edgedenoise.runtimes.openvino.backend.shared_core", lambda: full)
    monkeypatch.setattr(OpenVino, "probe", lambda self: Availability(True, "1", ("cpu",)))
    with pytest.raises(DeviceMemoryError, match="OpenVINO ran out of memory while it opened the model"):
        open_variant(floats, floats.variant("openvino-fp32"))
