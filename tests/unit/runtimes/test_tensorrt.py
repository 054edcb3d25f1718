"""TensorRT's runner over a CUDA library that is compiled here: tiles, order, memory given back, and engines refused.

The CUDA library and the engine are stand-ins; all of our own code is the real one. What real GPUs do is in tests/gpu.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from fake_nvidia import ORIN, RECORD, Cuda, opened, variant

from edgedenoise.bundles.manifest import InputShapes
from edgedenoise.bundles.model_files import ModelFiles
from edgedenoise.errors import (
    DeviceMemoryError,
    DeviceNotFoundError,
    IncompatibleError,
    InferenceError,
    IntegrityError,
    RuntimeUnavailableError,
    UsageError,
)
from edgedenoise.imaging.normalize import UNIT
from edgedenoise.imaging.tiling import Tiling
from edgedenoise.runtimes.base import SessionOptions
from edgedenoise.runtimes.fusion import Fusion
from edgedenoise.runtimes.pipeline import run_image
from edgedenoise.runtimes.tensorrt import backend as trt
from edgedenoise.runtimes.tensorrt.backend import TensorRT, TensorRTRTX, fusion_of
from edgedenoise.runtimes.tensorrt.cudart import ENVIRONMENT, Cudart
from edgedenoise.runtimes.tensorrt.engine_record import (
    mismatch,
    read_record,
    record_file,
    this_platform,
)
from edgedenoise.runtimes.tensorrt.nvidia import Gpu

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

X = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)


# ---------------------------------------------------------------- tiles


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("size", [(40, 40), (64, 64), (150, 90)], ids=str)
def test_tiles_of_an_engine_give_the_whole_picture(
    cuda: Cuda, engine: Callable[..., Path], size: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(1).random((3, *size), np.float32)
    with opened(engine()) as session:
        found = run_image(session, pixels, UNIT, Tiling(halo_px=5))
    np.testing.assert_array_equal(found, pixels + 1)
    assert cuda.live == 0


@pytest.mark.usefixtures("machine")
def test_an_engine_with_a_fourth_input_channel_returns_three(cuda: Cuda, engine: Callable[..., Path]) -> None:
    pixels = np.random.default_rng(1).random((4, 150, 90), np.float32)
    path = engine(msgspec.structs.replace(RECORD, input_channels=4))
    with opened(path) as session:
        assert session.inputs[0].shape == (1, 4, 64, 64)
        assert session.outputs[0].shape == (1, 3, 64, 64)
        found = run_image(session, pixels, UNIT, Tiling(halo_px=5))
    np.testing.assert_array_equal(found, pixels[:3] + 1)
    sizes = [int(line.split()[1]) for line in cuda.log if line.startswith("malloc")]
    assert sizes == [4 * 64 * 64 * 4, 3 * 64 * 64 * 4] * 2
    assert cuda.live == 0


@pytest.mark.usefixtures("machine")
def test_the_next_tile_is_on_its_way_before_the_present_one_is_waited_for(
    cuda: Cuda, engine: Callable[..., Path]
) -> None:
    with opened(engine()) as session:
        answers = list(session.stream(X + i for i in range(4)))
    for i, answer in enumerate(answers):
        np.testing.assert_array_equal(answer, X + i + 1)
    steps = [line.split()[0] for line in cuda.log if line.startswith(("upload", "host waits"))]
    assert steps == ["upload", "upload", "host", "upload", "host", "upload", "host", "host"]


@pytest.mark.usefixtures("machine")
def test_work_waits_for_its_copy_and_the_copy_back_for_the_work(cuda: Cuda, engine: Callable[..., Path]) -> None:
    with opened(engine()) as session:
        session.run(X)
    copies_in, work, copies_out = (line.split()[1] for line in cuda.log if line.startswith("stream"))
    assert len({copies_in, work, copies_out}) == 3
    kinds = ("upload", "record", "download", "host waits")
    steps = [line for line in cuda.log if line.startswith(kinds) or "waits for" in line]
    uploaded, computed, downloaded = (line.split()[1] for line in steps if line.startswith("record"))
    assert steps == [
        f"upload on {copies_in}",
        f"record {uploaded} on {copies_in}",
        f"{work} waits for {uploaded}",
        f"record {computed} on {work}",
        f"{copies_out} waits for {computed}",
        f"download on {copies_out}",
        f"record {downloaded} on {copies_out}",
        f"host waits for {downloaded}",
    ]


@pytest.mark.usefixtures("machine")
def test_memory_is_taken_once_per_size(cuda: Cuda, engine: Callable[..., Path]) -> None:
    shapes = InputShapes("ranged", [32, 64, 128])
    path = engine(msgspec.structs.replace(RECORD, shapes=shapes))
    with opened(path, shapes) as session:
        for side in (64, 60, 100, 64):
            np.testing.assert_array_equal(session.run(X[:, :, :1, :1].repeat(side, 2).repeat(side, 3)).shape[2:], side)
        assert [line for line in cuda.log if line.startswith("malloc")] == [
            f"malloc {3 * side * side * 4}" for side in (64, 128, 64) for _ in range(4)
        ]
        sizes = [np.full((1, 3, side, side), side, np.float32) for side in (64, 128, 128, 64)]
        assert [answer.max() for answer in session.stream(sizes)] == [65, 129, 129, 65]
    assert cuda.live == 0


@pytest.mark.usefixtures("machine")
def test_who_stops_early_leaves_nothing_running(cuda: Cuda, engine: Callable[..., Path]) -> None:
    session = opened(engine())
    answers = session.stream(X + i for i in range(9))
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert sum(line.startswith("host empties") for line in cuda.log) == 3
    np.testing.assert_array_equal(session.run(X), X + 1)
    session.close()
    assert cuda.live == 0
    with pytest.raises(InferenceError, match="session is closed"):
        session.run(X)


# ---------------------------------------------------------------- what fails gives everything back


@pytest.mark.usefixtures("machine")
def test_every_allocation_that_fails_is_told_and_nothing_is_kept(cuda: Cuda, engine: Callable[..., Path]) -> None:
    path = engine()
    with opened(path) as session:
        session.run(X)
        total = cuda.allocations
    assert total == 3 + 2 * 7  # queues; memory and marks of two tiles
    for fail_at in range(total):
        cuda.reset(fail_at)
        with (
            pytest.raises(DeviceMemoryError, match=r"the GPU ran out of memory: cuda\w+ returned out of memory"),
            opened(path) as session,
        ):
            session.run(X)
        assert cuda.live == 0, fail_at


@pytest.mark.usefixtures("machine")
def test_out_of_memory_suggests_a_smaller_side_where_the_engine_takes_one(
    cuda: Cuda, engine: Callable[..., Path]
) -> None:
    shapes = InputShapes("ranged", [48, 64, 128])
    for record, side, suggested in ((RECORD, 64, None), (msgspec.structs.replace(RECORD, shapes=shapes), 128, 64)):
        session = TensorRT().open(variant(record.shapes), ModelFiles.read(engine(record)), "auto", SessionOptions())
        cuda.reset(5)
        with pytest.raises(DeviceMemoryError) as told:
            session.run(np.zeros((1, 3, side, side), np.float32))
        assert told.value.suggested_tile == suggested
        assert "--tile" in str(told.value)
        np.testing.assert_array_equal(session.run(X), X + 1)  # the session lives on
        session.close()


@pytest.mark.usefixtures("machine")
def test_an_engine_that_does_not_load_or_run_is_told(cuda: Cuda, engine: Callable[..., Path]) -> None:
    path = engine()
    path.write_bytes(b"not an engine")
    with pytest.raises(InferenceError, match=r"(?s)tensorrt 10\.3\.0 cannot load .*Build it again"), opened(path):
        pass
    with pytest.raises(InferenceError, match=r"has the tensors image, other; expected"):
        opened(engine(names=["image", "other"]))
    with pytest.raises(DeviceMemoryError, match="Orin has not enough memory for the engine"):
        opened(engine(no_context=True))
    with opened(engine(fails=True)) as session, pytest.raises(InferenceError, match="refused to run a tile of shape"):
        session.run(X)
    assert cuda.live == 0


@pytest.mark.usefixtures("machine")
def test_a_missing_library_is_told(
    engine: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "libcudart.so"))
    with pytest.raises(RuntimeUnavailableError, match=rf"export {ENVIRONMENT}="):
        opened(engine())


def test_a_failed_call_is_told_with_cudas_words(cuda: Cuda) -> None:
    cuda.library.fake_refuse_device()
    with pytest.raises(InferenceError, match=r"CUDA failed: cudaSetDevice returned some failure \(101\)"):
        Cudart().set_device(3)


# ---------------------------------------------------------------- engines of other machines

ADA = Gpu(0, "RTX 4090", "8.9", "12.6")
OTHERS: dict[str, tuple[dict[str, Any], Gpu, str, str]] = {
    "version": ({}, ORIN, "10.16.0", "it was built by tensorrt 10.3.0, here is tensorrt 10.16.0"),
    "GPU": ({}, ADA, "10.3.0", r"built for Orin \(compute capability 8.7\), here is RTX 4090 \(8.9\)"),
    "platform": ({"platform": "linux-mips"}, ORIN, "10.3.0", f"built on linux-mips, this is {this_platform()}"),
    "module": ({"module": "tensorrt_rtx"}, ORIN, "10.3.0", "built by tensorrt_rtx 10.3.0, here is tensorrt 10.3.0"),
    "older than a compatible one": ({"version_compatible": True}, ORIN, "10.2.0", "and later versions"),
    "another major version": ({"version_compatible": True}, ORIN, "11.0.0", "of the same major one, here is"),
    "before Ampere": (
        {"hardware_compatible": True},
        Gpu(0, "T4", "7.5", "12.6"),
        "10.3.0",
        "built for compute capability 8.0 and later, T4 here has 7.5",
    ),
}


@pytest.mark.parametrize(("changes", "gpu", "version", "words"), OTHERS.values(), ids=OTHERS)
def test_an_engine_of_another_machine_is_refused_with_both_sides_and_the_command(
    cuda: Cuda,
    machine: Callable[..., None],
    engine: Callable[..., Path],
    changes: dict[str, Any],
    gpu: Gpu,
    version: str,
    words: str,
) -> None:
    machine(gpu, version)
    path = engine(msgspec.structs.replace(RECORD, **changes))
    with pytest.raises(IncompatibleError, match=words) as told:
        opened(path)
    command = f"edgedenoise compile {path.parent.parent} --target tensorrt --precision int8 --tile 64"
    assert command in str(told.value)
    refusal = TensorRT().unsupported_reason(variant(), model=ModelFiles.read(path))
    assert refusal is not None
    assert "tensorrt-int8 is not for this machine: it was built" in refusal
    assert cuda.log == [], "nothing was touched"


@pytest.mark.usefixtures("cuda")
def test_compatible_engines_run_where_they_say(machine: Callable[..., None], engine: Callable[..., Path]) -> None:
    machine(ADA, "10.16.0")
    path = engine(msgspec.structs.replace(RECORD, version_compatible=True, hardware_compatible=True))
    with opened(path, trust_engine=True) as session:
        assert session.effective.device == "cuda"
        assert session.effective.detail == "tensorrt on RTX 4090, int8, float16 between integer layers"
    assert TensorRT().unsupported_reason(variant(), model=ModelFiles.read(path)) is None


@pytest.mark.usefixtures("cuda")
def test_the_lean_runtime_takes_version_compatible_engines_only(
    machine: Callable[..., None], engine: Callable[..., Path]
) -> None:
    machine(ORIN, "10.3.0", "tensorrt_lean")
    with pytest.raises(IncompatibleError, match="not version-compatible, and the lean runtime"):
        opened(engine())
    with opened(engine(msgspec.structs.replace(RECORD, version_compatible=True)), trust_engine=True) as session:
        assert session.effective.detail.startswith("tensorrt_lean on Orin")


@pytest.mark.parametrize(
    ("compute_capability", "runs"),
    [("8.6", True), ("8.9", True), ("12.0", True), ("7.5", False), ("8.7", False), ("9.0", False)],
)
def test_an_engine_that_was_built_ahead_of_time_takes_the_gpus_that_rtx_is_for(
    compute_capability: str, runs: bool
) -> None:
    record = msgspec.structs.replace(
        RECORD, module="tensorrt_rtx", version="1.7", gpu=None, compute_capability=None, platform="another-one"
    )
    gpu = Gpu(0, "some GPU", compute_capability, "12.6")
    found = mismatch(record, "tensorrt_rtx", "1.7", gpu, this_platform())
    assert (found is None) == runs
    assert runs or f"some GPU here has {compute_capability}" in (found or "")
    assert "there is none here" in (mismatch(record, "tensorrt_rtx", "1.7", None, this_platform()) or "")


@pytest.mark.usefixtures("machine")
def test_a_session_that_is_closed_half_way_leaves_no_stream_in_use(cuda: Cuda, engine: Callable[..., Path]) -> None:
    session = opened(engine())
    answers = session.stream([X, X, X, X])
    next(answers)
    session.close()
    assert cuda.live == 0
    before = cuda.log
    answers.close()  # type: ignore[attr-defined]
    assert cuda.log == before, "nothing is asked of streams that are gone"


@pytest.mark.usefixtures("machine", "cuda")
def test_without_a_sound_record_an_engine_is_not_touched(engine: Callable[..., Path]) -> None:
    path = engine()
    assert read_record(ModelFiles.read(path)) == RECORD
    record_file(path).write_text("{}")
    with pytest.raises(IntegrityError, match=r"engine\.json cannot be read: Object missing"):
        opened(path)
    assert "engine.json cannot be read" in (TensorRT().unsupported_reason(variant(), model=ModelFiles.read(path)) or "")
    record_file(path).unlink()
    with pytest.raises(IntegrityError, match=r"has no record: expected .*engine\.json beside it"):
        opened(path)


# ---------------------------------------------------------------- what is here


def test_what_is_missing_is_told(machine: Callable[..., None], engine: Callable[..., Path]) -> None:
    assert TensorRT().probe().devices == ("cuda",)
    machine(None)
    found = TensorRT().probe()
    assert (found.available, found.devices) == (False, ())
    assert "no GPU" in (found.reason or "")
    machine(ORIN, None)
    found = TensorRT().probe()
    assert found.reason == "the package tensorrt is not installed"
    assert "docs/guides/jetson.md" in (found.command or "")
    with pytest.raises(RuntimeUnavailableError, match="TensorRT cannot run here: the package tensorrt is not"):
        opened(engine())


@pytest.mark.usefixtures("machine", "cuda")
def test_devices_and_options_are_strict(engine: Callable[..., Path]) -> None:
    with pytest.raises(DeviceNotFoundError, match="no device 'cuda:1' here; it has cuda"):
        TensorRT().open(variant(), ModelFiles.read(engine()), "cuda:1", SessionOptions())
    with pytest.raises(UsageError, match=r"reference execution .* runs on ONNX Runtime"):
        TensorRT().open(variant(), ModelFiles.read(engine()), "auto", SessionOptions(fused=False))


@pytest.mark.skipif(bool(trt.gpus()), reason="this machine has a GPU")
def test_without_a_gpu_no_tensorrt_is_even_imported() -> None:
    code = (
        "import sys; from edgedenoise.runtimes.tensorrt.backend import TensorRT, TensorRTRTX;"
        "found = [TensorRT().probe(), TensorRTRTX().probe()];"
        "print([f.available for f in found], [m for m in sys.modules if m.startswith('tensorrt')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[False, False] []"
    assert TensorRTRTX().metadata(ModelFiles.of_bytes("engine.plan", b"")) is None


def test_only_tensorrt_is_said_to_come_with_a_jetson() -> None:
    expected = 'pip install "edgedenoise[tensorrt]"  # on a Jetson it is a part of JetPack: docs/guides/jetson.md'
    assert TensorRT().install_command == expected
    assert TensorRTRTX().install_command == 'pip install "edgedenoise[tensorrt-rtx]"'


# ---------------------------------------------------------------- what became of the layers


@pytest.mark.usefixtures("machine", "cuda")
def test_the_inspector_tells_which_layers_run_in_integers(engine: Callable[..., Path]) -> None:
    assert TensorRT().fusion(variant(), ModelFiles.read(engine())) == Fusion(2, 1, 1, dynamic_shape=False)


def test_an_inspector_that_gives_names_only_tells_nothing() -> None:
    assert fusion_of('{"Layers": ["conv1", "conv2"]}', dynamic_shape=False) is None
    with pytest.raises(InferenceError, match="cannot be read"):
        fusion_of("{}", dynamic_shape=False)
