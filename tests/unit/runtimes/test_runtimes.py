"""Bad input never reaches a backend, bad output never leaves it, and no device takes another's place silently."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
from cpus import ARM, AVX2, SILENT_X86, VNNI, Cpu, pretend

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.manifest import Encoding, Variant
from edgedenoise.bundles.model_files import ModelFiles
from edgedenoise.bundles.writer import BundleWriter
from edgedenoise.doctor import diagnose
from edgedenoise.errors import (
    DeviceFallbackError,
    DeviceMemoryError,
    DeviceNotFoundError,
    InferenceError,
    UsageError,
)
from edgedenoise.imaging.metrics import psnr_unit
from edgedenoise.runtimes import machine as machine_module
from edgedenoise.runtimes.base import Availability, Backend, EffectiveDevice, Session, SessionOptions, TensorInfo
from edgedenoise.runtimes.checked import CheckedSession
from edgedenoise.runtimes.choosing import choose
from edgedenoise.runtimes.device_names import matching_device
from edgedenoise.runtimes.onnxruntime.backend import OnnxRuntime
from edgedenoise.runtimes.opening import open_variant
from edgedenoise.runtimes.openvino.backend import OpenVino
from edgedenoise.runtimes.pipeline import run_image
from edgedenoise.runtimes.registry import BUILT_IN, Registry, registry
from edgedenoise.runtimes.timing import MAX_WARM_UP, WARM_UP, speed_against, speed_ratio, time_in_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Answer = Callable[[np.ndarray], np.ndarray]

TILE = np.linspace(-1, 1, 3 * 4 * 5, dtype=np.float32).reshape(1, 3, 4, 5)


@dataclass
class Fake(Session):
    """A session that answers whatever it is told to."""

    answer: Answer = lambda x: x
    given: list[np.ndarray] = field(default_factory=list)
    closed: int = 0
    effective: EffectiveDevice = field(default_factory=lambda: EffectiveDevice("fake", "1.0", "cpu"))

    def run(self, x: np.ndarray) -> np.ndarray:
        self.given.append(x)
        return self.answer(x)

    def close(self) -> None:
        self.closed += 1


# ---------------------------------------------------------------- CheckedSession


def test_the_channels_are_those_that_the_session_states_unless_they_are_given() -> None:
    stated = Fake()
    stated.inputs = (TensorInfo("image", "float32", (1, 4, None, None)),)
    assert CheckedSession(stated).channels == 4
    assert CheckedSession(stated, channels=3).channels == 3
    assert CheckedSession(Fake()).channels == 3


def test_answers_come_in_order_and_are_counted() -> None:
    session = CheckedSession(Fake(lambda x: x * 2))
    tiles = [TILE + i for i in range(4)]
    for tile, answer in zip(tiles, session.stream(iter(tiles)), strict=True):
        np.testing.assert_array_equal(answer, tile * 2)
    np.testing.assert_array_equal(session.run(TILE), TILE * 2)
    assert session.timing.calls == 5
    assert session.timing.pixels == 5 * 4 * 5
    assert session.timing.seconds > 0
    assert session.effective.runtime == "fake"


BAD_INPUTS = {
    "float64": TILE.astype(np.float64),
    "uint8": TILE.astype(np.uint8),
    "no batch": TILE[0],
    "two at once": np.concatenate([TILE, TILE]),
    "gray": TILE[:, :1],
    "channels last": TILE.transpose(0, 2, 3, 1),
    "empty": TILE[:, :, :0],
    "nan": np.where(TILE >= 1, np.float32(np.nan), TILE),
    "infinity": np.where(TILE >= 1, np.float32(np.inf), TILE),
    "both infinities": np.where(np.abs(TILE) >= 1, TILE * np.float32(np.inf), TILE),
}


@pytest.mark.parametrize("kind", BAD_INPUTS)
def test_bad_input_never_reaches_the_backend(kind: str) -> None:
    backend = Fake()
    with pytest.raises(InferenceError, match=r"a session was given"):
        CheckedSession(backend).run(BAD_INPUTS[kind])
    assert backend.given == []


BAD_ANSWERS: dict[str, tuple[Answer, str]] = {
    "smaller": (lambda x: x[..., 1:-1], r"returned float32 \(1, 3, 4, 3\); expected float32 \(1, 3, 4, 5\)"),
    "no batch": (lambda x: x[0], r"returned float32 \(3, 4, 5\)"),
    "double": (lambda x: x.astype(np.float64), "returned float64"),
    "nan": (lambda x: np.where(x == x.max(), np.float32(np.nan), x), "returned 1 values that are not finite"),
    "infinity": (lambda x: np.where(x > 0.9, np.float32(np.inf), x), r"returned \d+ values that are not finite"),
    "both infinities": (lambda x: np.where(np.abs(x) == 1, x * np.float32(np.inf), x), "2 values that are not finite"),
}


@pytest.mark.parametrize("kind", BAD_ANSWERS)
def test_a_bad_answer_never_leaves(kind: str) -> None:
    answer, message = BAD_ANSWERS[kind]
    with pytest.raises(InferenceError, match=message) as caught:
        CheckedSession(Fake(answer), source=Path("my.edge")).run(TILE)
    assert "edgedenoise verify my.edge" in str(caught.value)


@pytest.mark.parametrize("count", [1, 3], ids=["too few", "too many"])
def test_a_backend_that_answers_another_number_of_tiles_is_caught(count: int) -> None:
    class Miscounting(Fake):
        def stream(self, tiles: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
            return iter((list(tiles) * 2)[:count])

    with pytest.raises(InferenceError, match="fake returned"):
        list(CheckedSession(Miscounting()).stream([TILE, TILE]))


def test_a_closed_session_answers_nothing_and_closes_once() -> None:
    backend = Fake()
    session = CheckedSession(backend)
    session.close()
    session.close()
    assert backend.closed == 1
    with pytest.raises(InferenceError, match="session is closed") as caught:
        session.run(TILE)
    assert "edgedenoise.load" in str(caught.value)


# ---------------------------------------------------------------- saturation


@pytest.mark.parametrize("backend", [OnnxRuntime(), OpenVino()], ids=lambda backend: backend.name)
@pytest.mark.parametrize(("cpu", "saturates"), [(AVX2, True), (SILENT_X86, True), (VNNI, False), (ARM, False)])
def test_only_8_bit_pairs_on_a_cpu_without_vnni_saturate(
    monkeypatch: pytest.MonkeyPatch, cpu: Cpu, saturates: bool, backend: Backend
) -> None:
    pretend(monkeypatch, cpu)

    def found(encoding: Encoding | None) -> bool:
        return backend.saturates(Variant("v", backend.name, "int8", "v/model", encoding))

    assert found(Encoding("u8s8", "u8", "s8", 8)) is saturates
    assert not found(Encoding("u8s7", "u8", "s8", 7))
    assert not found(Encoding("s8s8", "s8", "s8", 8))
    assert not found(None)


@pytest.mark.parametrize(
    ("limit", "saturates"), [("AVX2", True), ("avx512_core", True), ("AVX2_VNNI", False), ("", False)]
)
def test_openvino_saturates_where_onednn_is_limited(
    monkeypatch: pytest.MonkeyPatch, limit: str, saturates: bool
) -> None:
    """The limit is for oneDNN alone: ONNX Runtime has kernels of its own."""
    pretend(monkeypatch, VNNI)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    variant = Variant("v", "openvino", "int8", "v/model", Encoding("u8s8", "u8", "s8", 8))
    assert OpenVino().saturates(variant) is saturates
    assert (OpenVino().unsupported_reason(variant) is not None) is saturates
    assert OpenVino().unsupported_reason(variant, device="GPU.0") is None
    assert not OnnxRuntime().saturates(variant)


@pytest.mark.parametrize(
    ("machine", "flags", "saturates"),
    [
        ("x86_64", {"avx2"}, True),
        ("AMD64", set(), True),  # Windows does not tell: assume the least
        ("x86_64", {"avx2", "avx512_vnni"}, False),
        ("x86_64", {"avx2", "avx_vnni"}, False),
        ("aarch64", {"asimd"}, False),
        ("arm64", set(), False),
    ],
)
def test_saturation_is_x86_without_vnni(
    monkeypatch: pytest.MonkeyPatch, machine: str, flags: set[str], saturates: bool
) -> None:
    monkeypatch.setattr(machine_module.platform, "machine", lambda: machine)
    monkeypatch.setattr(machine_module, "cpu_features", lambda: frozenset(flags))
    assert machine_module.saturates_u8s8() is saturates


@pytest.mark.parametrize(
    ("machine", "flags", "avx2"),
    [
        ("x86_64", {"sse4_2", "avx"}, False),
        ("x86_64", {"sse4_2", "avx", "avx2"}, True),
        ("AMD64", set(), True),  # Windows does not tell: nothing but speed depends on it
        ("aarch64", {"asimd"}, False),
        ("arm64", set(), False),
    ],
)
def test_avx2_is_of_x86(monkeypatch: pytest.MonkeyPatch, machine: str, flags: set[str], avx2: bool) -> None:
    monkeypatch.setattr(machine_module.platform, "machine", lambda: machine)
    monkeypatch.setattr(machine_module, "cpu_features", lambda: frozenset(flags))
    assert machine_module.has_avx2() is avx2


def test_the_machine_has_memory() -> None:
    assert machine_module.free_memory_bytes() > 16 << 20
    assert machine_module.cpu_name()


# ---------------------------------------------------------------- ONNX Runtime


def opened(bundle: Path, name: str, **options: Any) -> tuple[CheckedSession, Bundle]:
    found = Bundle.open(bundle)
    session = open_variant(found, found.variant(name), options=SessionOptions(**options), selftest=False)
    return session, found


def answered(bundle: Path, name: str, **options: Any) -> np.ndarray:
    session, found = opened(bundle, name, **options)
    pixels = np.random.default_rng(0).random((3, 60, 70), dtype=np.float32)
    answer = run_image(session, pixels, found.manifest.input_normalization, found.manifest.tiling)
    session.close()
    return answer


def test_onnx_runtime_tells_what_really_runs(committed_bundle: Path) -> None:
    import onnxruntime

    session, _ = opened(committed_bundle, "onnx-fp32")
    assert session.effective.runtime == "onnxruntime"
    assert session.effective.version == onnxruntime.__version__
    assert session.effective.device == "cpu"
    assert "CPUExecutionProvider" in session.effective.detail


def test_a_session_describes_its_inputs_and_outputs(committed_bundle: Path) -> None:
    session, _ = opened(committed_bundle, "onnx-fp32")
    assert session.inputs == (TensorInfo("image", "float32", (1, 3, None, None)),)
    assert [output.name for output in session.outputs] == ["denoised"]
    assert session.shapes is None
    assert session.largest_px is None


def test_fused_integers_are_far_closer_to_exact_arithmetic_than_to_float(committed_bundle: Path) -> None:
    fused = answered(committed_bundle, "onnx-int8-u8s7")
    exact = answered(committed_bundle, "onnx-int8-u8s7", fused=False)
    floats = answered(committed_bundle, "onnx-fp32")
    assert psnr_unit(fused, exact) >= 60
    assert psnr_unit(exact, floats) < 60  # it is quantized at all


@pytest.mark.parametrize("name", ["onnx-fp32", "onnx-int8-u8s7"])
def test_the_number_of_threads_does_not_change_a_pixel(committed_bundle: Path, name: str) -> None:
    np.testing.assert_array_equal(
        answered(committed_bundle, name, threads=1), answered(committed_bundle, name, threads=3)
    )


def test_the_optimizer_is_asked_what_it_fused(committed_bundle: Path) -> None:
    pytest.importorskip("onnx", reason="needs onnx: pip install 'edgedenoise[quantize]'")
    bundle = Bundle.open(committed_bundle)
    floats, integers = (
        OnnxRuntime().fusion(variant, bundle.model_files(variant)) for variant in bundle.manifest.variants
    )
    assert floats is not None
    assert integers is not None
    assert floats.convolutions == floats.in_float == integers.convolutions > 0
    assert floats.conversions == 0
    # The last convolution's answer stays float; the image is rounded once.
    assert integers.in_float == 1
    assert 0 < integers.conversions < integers.convolutions
    assert integers.dynamic_shape


def test_what_was_fused_is_not_known_without_onnx(committed_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    bundle = Bundle.open(committed_bundle)
    variant = bundle.variant("onnx-int8-u8s7")
    assert OnnxRuntime().fusion(variant, bundle.model_files(variant)) is None


# ---------------------------------------------------------------- timing


class Slow:
    """Plays a session that takes a given time, by moving a clock of its own."""

    channels = 3

    def __init__(self, clock: list[float], seconds: list[float]) -> None:
        self._clock, self._seconds, self.calls = clock, seconds, 0

    def run(self, x: np.ndarray) -> np.ndarray:
        self._clock[0] += self._seconds[self.calls % len(self._seconds)]
        self.calls += 1
        return x


def test_two_sessions_take_turns_and_the_median_ratio_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("edgedenoise.runtimes.timing.time.perf_counter", lambda: clock[0])
    # Both get slower together, as on a machine that heats up, and one round is disturbed: the ratio is 2 all the same.
    drift = [1.0, 1.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    floats, integers = Slow(clock, [2 * d for d in drift]), Slow(clock, [*drift[:4], 30.0, *drift[5:]])
    assert speed_against(floats, integers, side_px=8, rounds=5) == pytest.approx(2.0)
    assert (floats.calls, integers.calls) == (WARM_UP + 5, WARM_UP + 5)


def test_a_ratio_needs_every_round_of_both() -> None:
    assert speed_ratio([4.0, 4.0], [2.0, 1.0]) == pytest.approx(3.0)
    assert speed_ratio([4.0, 4.0], [2.0]) is None
    assert speed_ratio([], []) is None


def test_one_that_fails_does_not_stop_the_others() -> None:
    times = iter([9.0, 9.0, 1.0, 2.0])
    found = time_in_turns({"sound": lambda: next(times), "failed": lambda: None}, 2)
    assert found.samples == {"sound": [1.0, 2.0], "failed": []}
    assert found.warm_up == {"sound": [9.0, 9.0], "failed": []}
    assert found.stable


def test_the_warm_up_goes_on_while_times_fall() -> None:
    times = iter([9.0, 5.0, 3.0, 3.1, 3.0, 3.2])
    found = time_in_turns({"compiled late": lambda: next(times)}, 2)
    assert found.warm_up == {"compiled late": [9.0, 5.0, 3.0, 3.1]}
    assert found.samples == {"compiled late": [3.0, 3.2]}
    falling = iter([0.5**n for n in range(MAX_WARM_UP + 1)])
    assert not time_in_turns({"never": lambda: next(falling)}, 1).stable


def test_the_order_within_rounds_is_random_and_the_same_each_time() -> None:
    def order() -> list[str]:
        ran: list[str] = []

        def run(name: str) -> float:
            ran.append(name)
            return 1.0

        time_in_turns({name: partial(run, name) for name in "abc"}, 8)
        return ran

    rounds = ["".join(order()[i : i + 3]) for i in range(0, 30, 3)]
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len(set(rounds)) > 2
    assert order() == order()


def test_the_backend_alone_is_timed_with_checks_outside_the_clock(committed_bundle: Path) -> None:
    session, _ = opened(committed_bundle, "onnx-fp32")
    assert session.time_run(np.zeros((1, 3, 24, 40), np.float32)) > 0
    with pytest.raises(InferenceError, match="expected float32"):
        session.time_run(np.zeros((1, 3, 24), np.float32))


def test_protection_chooses_the_exact_kernels(committed_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OnnxRuntime, "saturates", lambda self, variant: variant.encoding is not None)
    protected, _ = opened(committed_bundle, "onnx-int8-u8s7")
    unprotected, _ = opened(committed_bundle, "onnx-int8-u8s7", protect_saturation=False)
    floats, _ = opened(committed_bundle, "onnx-fp32")
    assert "saturation-free" in protected.effective.detail
    assert "saturation-free" not in unprotected.effective.detail
    assert "saturation-free" not in floats.effective.detail


def test_a_device_that_is_not_here_is_an_error(committed_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    bundle = Bundle.open(committed_bundle)
    with pytest.raises(DeviceNotFoundError, match=r"no device 'cuda' here; it has cpu") as caught:
        open_variant(bundle, bundle.variant("onnx-fp32"), device="cuda")
    assert "pip install onnxruntime-gpu" in str(caught.value)
    with pytest.raises(DeviceNotFoundError, match="no device 'toaster'"):
        open_variant(bundle, bundle.variant("onnx-fp32"), device="toaster")


def test_a_silent_fall_back_to_the_cpu_is_an_error(committed_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What onnxruntime-gpu does where CUDA does not load: it lists CUDA, and opens a session on the CPU."""

    class OnTheCpu:
        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    monkeypatch.setattr(
        "onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr(
        "edgedenoise.runtimes.onnxruntime.backend.open_inference_session", lambda *args, **options: OnTheCpu()
    )
    bundle = Bundle.open(committed_bundle)
    with pytest.raises(DeviceFallbackError, match="opened CPUExecutionProvider; expected CUDA") as caught:
        open_variant(bundle, bundle.variant("onnx-fp32"), device="cuda")
    assert "edgedenoise doctor" in str(caught.value)


@pytest.mark.parametrize("content", [b"this is not ONNX", b"", b"\x08\x08"], ids=["text", "empty", "no graph"])
def test_a_file_that_is_not_onnx_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    variant = Variant("onnx-fp32", "onnxruntime", "fp32", "model.onnx")
    with pytest.raises(InferenceError, match=r"ONNX.* cannot open .*model\.onnx"):
        OnnxRuntime().open(variant, ModelFiles.read(path), "auto", SessionOptions())


@pytest.mark.parametrize(
    "said",
    [
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer of size 147088384",
        "Non-zero status code returned while running QLinearConv node. Status Message: std::bad_alloc",
        "CUDA failure 2: out of memory",
    ],
)
def test_out_of_memory_is_told_with_a_tile_to_try(committed_bundle: Path, said: str) -> None:
    from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

    class Full:
        def run(self, *args: object) -> None:
            raise RuntimeException(said)

    bundle = Bundle.open(committed_bundle)
    session = OnnxRuntime().open(
        bundle.variant("onnx-fp32"), bundle.model_files(bundle.variant("onnx-fp32")), "cpu", SessionOptions()
    )
    session._session = Full()
    with pytest.raises(DeviceMemoryError, match="80x120 tile") as caught:
        session.run(np.zeros((1, 3, 80, 120), np.float32))
    assert caught.value.suggested_tile == 60
    assert "--tile 60" in str(caught.value)


def test_a_network_that_gives_nan_is_an_error(tiny_bundle: Path, nan_model: bytes) -> None:
    with BundleWriter.edit(Bundle.open(tiny_bundle)) as draft:
        draft.write("onnx-fp32/model.onnx", nan_model)
    with pytest.raises(InferenceError, match=r"onnxruntime on cpu returned \d+ values that are not finite"):
        answered(tiny_bundle, "onnx-fp32")


# ---------------------------------------------------------------- the registry


def test_every_backend_is_listed_whether_it_can_run_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    found = {status.backend: status for status in diagnose().backends}
    assert list(found)[: len(BUILT_IN)] == list(BUILT_IN)
    assert found["onnxruntime"].available
    assert "cpu" in found["onnxruntime"].devices
    assert found["openvino"].command == 'pip install "edgedenoise[openvino]"'
    for name in ("tensorrt", "tensorrt-rtx", "coreml"):
        assert found[name].available or found[name].reason


def test_a_backend_that_does_not_exist_is_reported_with_those_that_do() -> None:
    with pytest.raises(UsageError, match="no backend 'nope'; expected one of onnxruntime, openvino, tensorrt"):
        registry["nope"]
    assert "nope" not in registry
    assert registry.get("nope") is None
    assert len(registry) == len(list(registry)) >= len(BUILT_IN)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_backend_checks_whether_it_works_here(name: str) -> None:
    backend = registry[name]
    found = backend.probe()
    assert backend.name == name
    assert registry[name] is backend
    if found.available:
        assert found.version
        assert found.devices
    else:
        assert found.reason
        assert found.command is None or "pip install" in found.command


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_backend_describes_itself(name: str) -> None:
    backend = registry[name]
    assert set(backend.default_precisions) <= set(backend.precisions)
    assert backend.schemes[0] in backend.error_bounds
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in backend.suffixes)
    assert backend.label
    assert backend.runs_on
    assert (backend.builder is None) == (not backend.precisions)
    assert (backend.emulator is None) == (not backend.emulation)


class Group:
    """Entry points of one group, as `importlib.metadata.entry_points` returns them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, entries: dict[str, object]) -> None:
        self.reads = 0
        self.entries = [SimpleNamespace(name=n, value=f"third:{n}", load=self._load(o)) for n, o in entries.items()]
        monkeypatch.setattr("importlib.metadata.entry_points", self.read)

    def read(self, *, group: str) -> list[SimpleNamespace]:
        assert group == "edgedenoise.runtimes"
        self.reads += 1
        return self.entries

    @staticmethod
    def _load(what: object) -> Callable[[], object]:
        def load() -> object:
            if isinstance(what, Exception):
                raise what
            return what

        return load


class Abacus(Backend):
    name = "abacus"
    label = "Abacus"
    runs_on = "a table"

    def probe(self) -> Availability:
        return Availability(True, version="1", devices=("cpu",))

    def open_session(self, variant: Variant, model: ModelFiles, device: str, options: SessionOptions) -> Session:
        return Fake()


def test_third_parties_are_read_once_and_broken_ones_are_reported_and_skipped(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    group = Group(
        monkeypatch,
        {
            "absent": ImportError("no module named third"),
            "abacus": Abacus,
            "openvino": Abacus,
            "other": Abacus,
            "function": print,
            "abstract": Backend,
        },
    )
    found = Registry()
    assert list(found) == [*BUILT_IN, "abacus"]
    assert isinstance(found["abacus"], Abacus)
    assert "abacus" in found
    assert [name.partition(" ")[0] for name in found.broken] == ["absent", "openvino", "other", "function", "abstract"]
    assert "no module named third" in found.broken["absent (third:absent)"]
    assert "is taken" in found.broken["openvino (third:openvino)"]
    assert "'abacus'" in found.broken["other (third:other)"]
    assert group.reads == 1
    assert len([r for r in caplog.records if "is skipped" in r.message]) == len(found.broken)
    monkeypatch.setattr("edgedenoise.doctor.registry", found)
    statuses = {status.backend: status for status in diagnose().backends}
    assert statuses["abacus"].available
    assert "no module named third" in str(statuses["absent (third:absent)"].reason)


def test_a_backend_that_runs_here_builds_only_where_its_packages_are_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The lean runtime of TensorRT runs engines and has no builder."""

    class Bound(Abacus):
        precisions = ("fp32",)
        built_where_it_runs = True
        packages: ClassVar[tuple[str, ...]] = ("numpy",)

    class Lean(Bound):
        packages = ("numpy", "abacus_builder")

    assert Bound().can_build()
    assert not Lean().can_build()
    monkeypatch.setattr(Abacus, "probe", lambda self: Availability(False, reason="no table"))
    assert not Bound().can_build()
    monkeypatch.setattr(Bound, "built_where_it_runs", False)
    assert Bound().can_build()
    monkeypatch.setattr(Bound, "precisions", ())
    assert not Bound().can_build()


def test_two_third_parties_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(monkeypatch, {"abacus": Abacus})
    group.entries *= 2
    found = Registry()
    assert len(found) == len(BUILT_IN) + 1
    assert "is taken" in found.broken["abacus (third:abacus)"]


def test_a_session_implements_run_or_stream() -> None:
    with pytest.raises(TypeError, match="implements neither run nor stream"):

        class Neither(Session):
            pass

    class Streams(Session):
        def stream(self, tiles: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
            return (tile + 1 for tile in tiles)

    class Runs(Session):
        def run(self, x: np.ndarray) -> np.ndarray:
            return x + 1

    for session in (Streams(), Runs()):
        np.testing.assert_array_equal(session.run(TILE), TILE + 1)
        np.testing.assert_array_equal(next(iter(session.stream([TILE]))), TILE + 1)


# ---------------------------------------------------------------- names of devices


@pytest.mark.parametrize(
    ("device", "devices", "found"),
    [
        ("CPU", ("cpu", "cuda"), "cpu"),
        (" Cuda ", ("cpu", "cuda"), "cuda"),
        ("cuda:0", ("cpu", "cuda", "cuda:1"), "cuda"),
        ("cuda:1", ("cuda", "cuda:1"), "cuda:1"),
        ("GPU", ("cpu", "gpu.0", "gpu.1"), "gpu.0"),
        ("gpu.1", ("cpu", "gpu.0", "gpu.1"), "gpu.1"),
        ("gpu.0", ("cpu", "gpu"), "gpu"),
        ("gpu.2", ("cpu", "gpu.0", "gpu.1"), None),
        ("gpu", ("cpu",), None),
        ("", ("cpu",), None),
        ("cpu\n", ("cpu",), "cpu"),
        ("c\npu", ("cpu",), None),
    ],
)
def test_a_device_is_found_by_its_name(device: str, devices: tuple[str, ...], found: str | None) -> None:
    assert matching_device(device, devices) == found


def test_names_of_devices_may_be_in_upper_case(committed_bundle: Path) -> None:
    bundle = Bundle.open(committed_bundle)
    session = open_variant(bundle, bundle.variant("onnx-fp32"), device="CPU", selftest=False)
    assert session.effective.device == "cpu"
    assert choose(bundle, device="CPU").variant == choose(bundle, device="cpu").variant
    assert choose(bundle, device="AUTO").variant == choose(bundle).variant


def test_the_device_for_auto_is_chosen_only_for_auto(committed_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[str] = []

    def auto_device(self: OnnxRuntime, variant: Variant, model: ModelFiles, devices: tuple[str, ...]) -> str:
        chosen.append(variant.name)
        return "cpu"

    monkeypatch.setattr(OnnxRuntime, "auto_device", auto_device)
    bundle = Bundle.open(committed_bundle)
    for device, expected in (("cpu", []), (" Auto", ["onnx-fp32"])):
        open_variant(bundle, bundle.variant("onnx-fp32"), device=device, selftest=False).close()
        assert chosen == expected


def test_the_gpu_of_openvino_is_its_first_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """OpenVINO names its plugins GPU.0 and GPU.1 where there are two."""
    opened_on: list[str] = []

    def open_session(
        self: OpenVino, variant: Variant, model: ModelFiles, device: str, options: SessionOptions
    ) -> Session:
        opened_on.append(device)
        return Fake()

    monkeypatch.setattr(OpenVino, "probe", lambda self: Availability(True, "1", ("cpu", "gpu.0", "gpu.1")))
    monkeypatch.setattr(OpenVino, "open_session", open_session)
    variant = Variant("openvino-fp32", "openvino", "fp32", "openvino-fp32/model.xml")
    for device in ("gpu", "GPU.1", "auto", "CPU"):
        OpenVino().open(variant, ModelFiles.of_bytes("model.xml", b""), device)
    assert opened_on == ["gpu.0", "gpu.1", "cpu", "cpu"]
    with pytest.raises(DeviceNotFoundError, match=r"no device 'gpu.2' here; it has cpu, gpu.0, gpu.1"):
        OpenVino().open(variant, ModelFiles.of_bytes("model.xml", b""), "gpu.2")
