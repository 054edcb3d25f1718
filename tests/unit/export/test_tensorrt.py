"""TensorRT without a GPU: the real parser and builder of TensorRT-RTX take what we export, and refuse what they should.

The builder always runs in a process of its own, as it does for users.
"""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from broken_qdq import BROKEN, encoded, image_skip_quantized, student_graph
from measuring import measure_ranges
from tensorrt_api import SINCE, UNTIL, ever_used_names, missing, used_names

import edgedenoise
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.manifest import InputShapes
from edgedenoise.bundles.pretrained import shipped
from edgedenoise.bundles.writer import BundleWriter
from edgedenoise.calibration.schemes import scheme_named
from edgedenoise.errors import ExportError, IncompatibleError, ParityError, RuntimeUnavailableError, UsageError
from edgedenoise.exporting.build_options import backend_options
from edgedenoise.exporting.fp16 import to_fp16
from edgedenoise.exporting.onnx.float_bundle import FloatGraph, write_float_bundle
from edgedenoise.exporting.quantization.contracts import RULES
from edgedenoise.exporting.quantization.qdq import encode
from edgedenoise.exporting.tensorrt import builder as to_tensorrt
from edgedenoise.exporting.tensorrt.child import BuildSpec
from edgedenoise.imaging.normalize import UNIT
from edgedenoise.progress import silent
from edgedenoise.runtimes.base import Availability
from edgedenoise.runtimes.job import BuildJob, BuildOptions
from edgedenoise.runtimes.opening import open_emulation
from edgedenoise.runtimes.tensorrt.engine_record import read_record
from edgedenoise.runtimes.tensorrt.nvidia import gpus
from edgedenoise.shell import command_line, quoted

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgedenoise.bundles.manifest import Precision

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
API: dict[str, list[str]] = json.loads((FIXTURES / "tensorrt_api.json").read_text(encoding="utf-8"))

needs_rtx = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None, reason="needs tensorrt-rtx: pip install 'edgedenoise[tensorrt-rtx]'"
)
needs_no_gpu = pytest.mark.skipif(bool(gpus()), reason="this machine has a GPU: see tests/gpu")


def built(graph: onnx.ModelProto, scratch: Path, sides_px: tuple[int, ...] = (64,)) -> None:
    """Build a graph with TensorRT-RTX.

    Raises:
        ExportError: it is refused.
    """
    scratch.mkdir(exist_ok=True)
    onnx.save(graph, scratch / "graph.onnx")
    spec = BuildSpec(
        module="tensorrt_rtx",
        graph=str(scratch / "graph.onnx"),
        engine=str(scratch / "engine.plan"),
        result=str(scratch / "result.json"),
        strongly_typed=True,
        flags=[],
        sides_px=list(sides_px),
    )
    to_tensorrt.run_builder(spec, scratch, scratch / "build.log", 120, lambda *_: None)
    assert (scratch / "engine.plan").stat().st_size > 1000


# ---------------------------------------------------------------- what we export


@pytest.fixture(scope="module")
def edge_plus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The student that is not shipped, with random weights."""
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgedenoise[export]'")
    from edgedenoise.exporting.onnx.tracing import trace
    from edgedenoise.training.networks.families import build_network, network_spec
    from edgedenoise.training.networks.students import fold

    spec = network_spec("edge-plus")
    network = build_network(spec, seed=0).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    root = tmp_path_factory.mktemp("plus") / "edge-plus.edge"
    write_float_bundle(root, FloatGraph(trace(fold(network)).model, spec.name, UNIT, spec.halo_px, spec.multiple_of))
    return root


@pytest.fixture(params=["edge-tiny", "edge", "edge-plus", "C-BSN"])
def exported(request: pytest.FixtureRequest, tmp_path: Path, noisy_folder: Path) -> Path:
    """A bundle of every kind of network that is exported, with the QDQ graph that TensorRT is given."""
    if request.param == "edge-plus":
        source = request.getfixturevalue("edge_plus")
    else:
        source = FIXTURES / "tiny.edge" if request.param == "C-BSN" else shipped(request.param)
    root = Path(shutil.copytree(source, tmp_path / "net.edge"))
    if request.param in ("edge-plus", "C-BSN"):
        edgedenoise.calibrate(root, noisy_folder, count=4, crop_px=64)
    edgedenoise.quantize(root, scheme="s8s8")
    return root


@needs_rtx
def test_the_guard_is_built_in_float_in_float16_and_beside_8_bit_layers(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs torch: pip install 'edgedenoise[export]'")
    from guarded_network import guarded_graph

    model = guarded_graph()
    crop = np.random.default_rng(0).random((1, 4, 48, 48), np.float32)
    int8 = encode(model, measure_ranges(model, [crop], margin_px=0), scheme_named("s8s8"))
    for name, graph in (("fp32", model), ("fp16", to_fp16(model)), ("int8", int8)):
        built(graph, tmp_path / name)


@needs_rtx
def test_every_network_is_built_in_every_precision_and_its_numbers_are_checked(exported: Path) -> None:
    precisions: tuple[Precision, ...] = ("fp32", "fp16", "int8")
    for precision in precisions:
        bundle = edgedenoise.compile(
            exported, target="tensorrt-rtx", precision=precision, options=BuildOptions(tile=128)
        )
    variants = [v for v in bundle.manifest.variants if v.runtime == "tensorrt-rtx"]
    assert [v.precision for v in variants] == list(precisions)
    for variant in variants:
        assert variant.shapes == InputShapes("fixed", [128])
        record = read_record(bundle.model_files(variant))
        assert (record.module, record.gpu, record.precision) == ("tensorrt_rtx", None, variant.precision)
        assert record.flags == [*(["no TF32"] if variant.precision == "fp32" else []), "STRONGLY_TYPED"]
        log = (bundle.root / variant.name / "build.log").read_text(encoding="utf-8")
        assert "Engine generation completed" in log
    checks = {c.variant: c for c in edgedenoise.verify(exported).variants}
    for variant in variants:
        check = checks[variant.name]
        assert (check.status, check.state) == ("passed", "emulated"), check
    int8 = checks[variants[-1].name]
    assert int8.reference_max_error_lsb is None, "the graph is not compared with itself"
    assert "the engine itself was not read; to test it, on the device: edgedenoise verify" in int8.reason


@needs_rtx
def test_a_range_of_shapes_is_built_for_every_network(exported: Path) -> None:
    options = BuildOptions(tile_range=(96, 128, 256))
    for precision in ("fp32", "int8"):
        bundle = edgedenoise.compile(exported, target="tensorrt-rtx", precision=precision, options=options)
    variant = bundle.manifest.variants[-1]
    assert read_record(bundle.model_files(variant)).shapes == InputShapes("ranged", [96, 128, 256])


# ---------------------------------------------------------------- what it should refuse

REFUSED = {"symmetric", "scale-positive", "bias-float"}
"""Rules whose breach TensorRT-RTX 1.7 refuses by itself. All others it takes, and computes something else than was
meant, or more slowly: only our own lint stands before those."""


@needs_rtx
@pytest.mark.parametrize(
    ("spoil", "rule"),
    [(spoil, rule) for scheme, spoil, rule in BROKEN if scheme == "s8s8"],
    ids=[f"{rule}-{spoil.__name__}" for scheme, spoil, rule in BROKEN if scheme == "s8s8"],
)
def test_what_the_real_parser_refuses_and_what_only_our_lint_does(
    spoil: Callable[[onnx.ModelProto], None], rule: str, tmp_path: Path
) -> None:
    graph = encoded("s8s8")
    spoil(graph)
    if rule in REFUSED:
        with pytest.raises(ExportError, match=r"tensorrt_rtx (refused the graph|crashed)"):
            built(graph, tmp_path)
    else:
        built(graph, tmp_path)


@needs_rtx
def test_a_sound_graph_is_taken_and_one_of_another_scheme_is_not(tmp_path: Path) -> None:
    built(encoded("s8s8"), tmp_path / "sound")
    built(encoded("s8s8"), tmp_path / "dynamic", (32, 64, 128))
    spoilt = encoded("s8s8", student_graph)
    image_skip_quantized(spoilt)
    built(spoilt, tmp_path / "skip")  # taken, and half a level worse: only our lint tells
    with pytest.raises(ExportError, match="Non-zero zero point is not supported"):
        built(encoded("u8s8"), tmp_path / "unsigned")


def test_every_rule_is_either_refused_by_tensorrt_or_known_to_be_taken() -> None:
    held = {rule for scheme, _, rule in BROKEN if scheme == "s8s8"}
    assert held >= REFUSED
    # Rules of other schemes only: what TensorRT makes of weights as bytes is not asked of it.
    assert {rule.name for rule in RULES} - held == {
        "zero-point-present",
        "weight-per-channel",
        "bias-on-grid",
        "image-skip-float",
    }


# ---------------------------------------------------------------- what goes wrong is told


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / "tiny.edge", tmp_path / "tiny.edge"))


@needs_no_gpu
def test_without_a_gpu_the_message_is_what_to_run_on_the_device(tiny: Path) -> None:
    with pytest.raises(RuntimeUnavailableError, match="this machine cannot build one: the NVIDIA driver") as told:
        edgedenoise.compile(tiny, target="tensorrt", precision="fp32")
    for line in (
        f"scp -r {tiny} DEVICE:tiny.edge",
        "edgedenoise compile tiny.edge --target tensorrt --precision fp32",
        f"edgedenoise compile {tiny} --target tensorrt-rtx",
    ):
        assert line in str(told.value)


@needs_no_gpu
def test_the_commands_for_the_device_quote_a_name_with_spaces(tiny: Path) -> None:
    spaced = tiny.rename(tiny.with_name("my tiny.edge"))
    with pytest.raises(RuntimeUnavailableError) as told:
        edgedenoise.compile(spaced, target="tensorrt", precision="fp32")
    for line in (
        quoted("scp", "-r", spaced, "DEVICE:my tiny.edge"),
        command_line("compile", "my tiny.edge", "--target", "tensorrt", "--precision", "fp32"),
        command_line("compile", spaced, "--target", "tensorrt-rtx", "--precision", "fp32"),
    ):
        assert line in str(told.value)


@needs_rtx
def test_options_and_shapes_that_are_not_accepted_are_told(tiny: Path) -> None:
    def refused(options: BuildOptions) -> str:
        with pytest.raises(UsageError) as told:
            edgedenoise.compile(tiny, target="tensorrt-rtx", precision="fp32", options=options)
        return str(told.value)

    assert "timeout_s (default 1800)" in refused(BuildOptions(more={"timeout": "3"}))
    assert "--tile-range" in refused(BuildOptions(tiles=(128, 256)))
    assert "got 8 pixels" in refused(BuildOptions(tile=8))
    for option in ("version_compatible", "hardware_compatible"):  # the record would promise what the builder ignores
        assert f"has no option {option}" in refused(BuildOptions(more={option: "true"}))
    assert not [v for v in Bundle.open(tiny).manifest.variants if v.runtime == "tensorrt-rtx"]


def test_a_builder_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sleeping_tensorrt.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    words = r"took longer than 1 s and was ended \(use --option timeout_s=2 to allow more\)"
    with pytest.raises(ExportError, match=words):
        to_tensorrt.run_builder(
            _spec("sleeping_tensorrt", tmp_path), tmp_path, tmp_path / "b" / "build.log", 1, lambda *_: None
        )


@needs_rtx
def test_the_log_of_a_build_that_failed_is_kept(tiny: Path) -> None:
    options = BuildOptions(tile=96, more={"workspace_mb": "1"})
    with pytest.raises(ExportError, match=r"its log is .*tensorrt-rtx-fp32-any-[0-9.]+\.log, and ends:") as told:
        edgedenoise.compile(tiny, target="tensorrt-rtx", precision="fp32", options=options)
    log = Path(str(told.value).partition("its log is ")[2].partition(", and ends:")[0])
    assert "[TRT]" in log.read_text(encoding="utf-8")
    assert not [v for v in Bundle.open(tiny).manifest.variants if v.runtime == "tensorrt-rtx"]


@pytest.mark.parametrize(
    ("more", "words"),
    [({"optimization_level": "99"}, "<= 5"), ({"workspace_mb": "-5"}, ">= 1"), ({"timeout_s": "0"}, ">= 1")],
)
def test_numbers_that_make_no_sense_are_refused(more: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        backend_options(to_tensorrt.EngineOptions, BuildOptions(more=more), "tensorrt")


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_whatever_may_be_computed_in_float16_must_fit(
    tiny: Path, precision: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to TensorRT 10 an INT8 engine computes in float16 between integers."""
    monkeypatch.setattr("edgedenoise.exporting.fp16.MARGIN", 1e9)
    bundle = Bundle.open(tiny)
    variant = bundle.variant("onnx-fp32")
    by = to_tensorrt._Builder("tensorrt", "tensorrt", "10.3.0", None, strongly_typed=False)
    with BundleWriter.edit(bundle) as draft:
        job = BuildJob(bundle, draft.root, variant, bundle.variant_file(variant), precision)
        with pytest.raises(ExportError, match="float16 ends at 65504"):
            to_tensorrt._typed_graph(job, by, tmp_path)


@needs_rtx
def test_progress_goes_from_nothing_to_all_once_and_names_what_goes_on(tiny: Path) -> None:
    told: list[tuple[int, int, str]] = []

    def progress(stage: str, done: int, total: int, note: str = "") -> None:
        if stage == "engine":
            told.append((done, total, note))

    edgedenoise.compile(tiny, target="tensorrt-rtx", precision="fp32", options=BuildOptions(tile=96), progress=progress)
    done = [d for d, _, _ in told]
    assert done == sorted(done)
    assert (done[0], told[-1][0]) == (0, told[-1][1])
    assert [d for d, total, _ in told[:-1] if d >= total] == []  # an end before the end would stop the clock
    assert any("Optimizing graph" in note for _, _, note in told)


def test_a_module_that_cannot_be_used_is_told_apart_from_one_that_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = "\n".join(f"print('[TRT] [I] line {i}')" for i in range(40))
    (tmp_path / "broken_tensorrt.py").write_text(
        f"print('[TRT] [E] the cause')\n{noise}\nraise OSError('libnvinfer.so.10')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ExportError, match="broken_tensorrt could not be used") as told:
        to_tensorrt.run_builder(_spec("broken_tensorrt", tmp_path), tmp_path, tmp_path / "build.log", 60, silent)
    assert "[E] the cause" in str(told.value)  # although forty lines follow it
    assert "OSError: libnvinfer.so.10" in str(told.value)
    assert "line 3\n" not in str(told.value)


def test_the_builder_imports_nothing_from_the_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users, scratch = tmp_path / "users", tmp_path / "scratch"
    users.mkdir()
    scratch.mkdir()
    (users / "msgspec.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(users)
    with pytest.raises(ExportError, match="No module named 'no_tensorrt'"):
        to_tensorrt.run_builder(_spec("no_tensorrt", scratch), scratch, scratch / "build.log", 60, silent)


def test_the_lean_runtime_alone_builds_nothing(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Availability(True, version="10.16.1", devices=("cuda",))
    monkeypatch.setattr(to_tensorrt.TensorRT, "probe", lambda self: found)
    monkeypatch.setattr(to_tensorrt.TensorRT, "module", lambda self: "tensorrt_lean")
    with pytest.raises(RuntimeUnavailableError, match="only tensorrt_lean is installed here"):
        edgedenoise.compile(tiny, target="tensorrt", precision="fp32")


def _spec(module: str, folder: Path) -> BuildSpec:
    return BuildSpec(
        module=module,
        graph=str(folder / "none.onnx"),
        engine=str(folder / "e.plan"),
        result=str(folder / "r.json"),
        strongly_typed=True,
        flags=[],
        sides_px=[64],
    )


def test_a_builder_that_crashes_takes_nobody_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "crashing_tensorrt.py"
    module.write_text("import os, signal\nprint('about to', flush=True)\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    spec = _spec("crashing_tensorrt", tmp_path)
    with pytest.raises(
        ExportError, match=r"crashing_tensorrt crashed with signal 11; its log is .*, and ends:\n  about to"
    ):
        to_tensorrt.run_builder(spec, tmp_path, tmp_path / "build.log", 60, lambda *_: None)
    assert not (tmp_path / "e.plan").exists()


@needs_rtx
def test_numbers_are_checked_only_against_the_graph_that_was_compiled(exported_tiny: Bundle) -> None:
    variant = exported_tiny.manifest.variants[-1]
    with BundleWriter.edit(exported_tiny) as draft:
        draft.drop_variants({"onnx-int8-s8s8"})
    changed = Bundle.open(exported_tiny.root)
    with pytest.raises(IncompatibleError, match="does not have this graph any more"):
        open_emulation(changed, variant)
    check = next(c for c in edgedenoise.verify(changed.root).variants if c.variant == variant.name)
    assert (check.status, check.state) == ("not run", "not tested")


@pytest.fixture
def exported_tiny(tiny: Path, noisy_folder: Path) -> Bundle:
    edgedenoise.calibrate(tiny, noisy_folder, count=4, crop_px=64)
    edgedenoise.quantize(tiny, scheme="s8s8")
    return edgedenoise.compile(tiny, target="tensorrt-rtx", precision="int8", options=BuildOptions(tile=96))


@needs_rtx
def test_an_engine_whose_numbers_are_off_is_not_kept(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(model: onnx.ModelProto) -> onnx.ModelProto:
        last = next(t for t in model.graph.initializer if t.name == model.graph.node[-1].input[2])
        last.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(last) + np.float32(0.1), last.name))
        return model

    monkeypatch.setattr(to_tensorrt, "to_fp16", wrong)
    calibrated_variants = Bundle.open(tiny).manifest.variants
    with pytest.raises(ParityError, match="the bundle was left as it was"):
        edgedenoise.compile(tiny, target="tensorrt-rtx", precision="fp16", options=BuildOptions(tile=96))
    assert Bundle.open(tiny).manifest.variants == calibrated_variants


# ---------------------------------------------------------------- names of the API


@pytest.mark.parametrize("version", API)
def test_every_name_that_is_used_exists_in_every_version_that_is_claimed(version: str) -> None:
    assert missing(version, ever_used_names(), set(API[version])) == set()


def test_the_table_covers_what_is_claimed_and_what_is_used() -> None:
    majors = {version.partition(" ")[2].split(".")[0] for version in API if version.startswith("tensorrt ")}
    assert {"8", "10", "11"} <= majors
    assert any(version.startswith("tensorrt 8.5") for version in API)
    assert any(version.startswith("tensorrt_rtx") for version in API)
    assert len(used_names()) > 50
    assert {"IExecutionContext.execute_async_v3", "Builder.build_serialized_network"} <= used_names()


def test_a_name_that_a_version_lacks_is_noticed() -> None:
    there = set(API["tensorrt 8.5.3.1"])
    assert missing("tensorrt 8.5.3.1", {"Builder.build_cuda_engine_please"}, there)
    assert missing("tensorrt 8.6.1", {"BuilderFlag.VERSION_COMPATIBLE"}, there)  # claimed from 8.6 on
    assert not missing("tensorrt 8.5.3.1", {"BuilderFlag.VERSION_COMPATIBLE"}, there)


@pytest.mark.parametrize("version", [version for version in API if version.startswith("tensorrt ")])
def test_what_is_said_to_have_come_or_gone_really_has(version: str) -> None:
    numbers = tuple(int(part) for part in version.partition(" ")[2].split(".")[:2])
    not_yet = {name for name, since in SINCE.items() if numbers < tuple(int(part) for part in since.split("."))}
    no_more = {name for name, until in UNTIL.items() if numbers[0] > int(until)}
    assert (not_yet | no_more) & set(API[version]) == set()
    if version in ("tensorrt 8.5.3.1", "tensorrt 11.4.0.106"):
        assert not_yet | no_more, "the ends of what is claimed lack something"
