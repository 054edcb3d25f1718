"""Speed is compared with the fastest float variant of the same runtime, and a slower variant is marked."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec
import pytest

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.manifest import Encoding, Precision, Variant
from edgedenoise.bundles.writer import BundleWriter
from edgedenoise.evaluation.measurement import (
    NOT_WORTH_IT,
    Latency,
    Measurement,
    failures,
    float_reference,
    summarize,
    why_slower,
)
from edgedenoise.evaluation.report.text_tables import bench_table
from edgedenoise.evaluation.rounds import Samples, start_workers
from edgedenoise.evaluation.worker import Opened, OpenOptions, Worker
from edgedenoise.runtimes.fusion import Fusion

if TYPE_CHECKING:
    from pathlib import Path


def variant(name: str) -> Variant:
    """Make a variant from its name, as RUNTIME-PRECISION."""
    runtime, precision = name.rsplit("-", 1)
    return Variant(name, runtime, msgspec.convert(precision, Precision), f"{name}/model")


@pytest.mark.parametrize(
    ("name", "times", "expected"),
    [
        ("coreml-int8", {"coreml-fp16": 2.0}, "coreml-fp16"),  # no FP32 variant exists
        ("tensorrt-int8", {"tensorrt-fp32": 3.0, "tensorrt-fp16": 2.0}, "tensorrt-fp16"),
        ("openvino-int8", {"openvino-fp32": 2.0, "openvino-fp16": 2.5}, "openvino-fp32"),
        ("coreml-w8a16", {"coreml-fp16": 2.0, "coreml-int8": 1.0}, "coreml-fp16"),
        ("tensorrt-fp16", {"tensorrt-fp32": 3.0}, "tensorrt-fp32"),
        ("tensorrt-fp16", {"tensorrt-int8": 1.0}, None),
        ("tensorrt-fp32", {"tensorrt-fp16": 2.0}, None),
        ("coreml-int8", {"openvino-fp32": 1.0}, None),  # another runtime
    ],
)
def test_speed_is_compared_with_the_fastest_float_of_the_runtime(
    name: str, times: dict[str, float], expected: str | None
) -> None:
    times = {name: 1.5, **times}
    found = float_reference(variant(name), [variant(other) for other in times], times)
    assert (found and found.name) == expected


def test_integers_have_a_ratio_where_fp16_is_the_only_float(tiny_bundle: Path) -> None:
    with BundleWriter.edit(Bundle.open(tiny_bundle)) as draft:
        draft.put_variant(msgspec.structs.replace(Bundle.open(tiny_bundle).variant("onnx-fp32"), precision="fp16"))
    bundle = Bundle.open(tiny_bundle)
    with ExitStack() as stack:
        workers = start_workers(stack, bundle, OpenOptions(threads=1))
        found = summarize(bundle, workers, Samples({"onnx-fp32": [4.0, 4.0], "onnx-int8-u8s7": [2.0, 2.0]}, (10, 10)))
    half, integers = sorted(found, key=lambda one: one.variant)
    assert (half.precision, half.speed_vs_float, half.compared_with) == ("fp16", None, "")
    assert (integers.speed_vs_float, integers.compared_with) == (2.0, "onnx-fp32")


def test_a_float_variant_that_failed_midway_is_no_reference(committed_bundle: Path) -> None:
    bundle = Bundle.open(committed_bundle)
    with ExitStack() as stack:
        workers = start_workers(stack, bundle, OpenOptions(threads=1))
        _, integers = summarize(bundle, workers, Samples({"onnx-fp32": [4.0], "onnx-int8-u8s7": [2.0, 2.0]}, (10, 10)))
    assert (integers.speed_vs_float, integers.compared_with) == (None, "")


@pytest.mark.parametrize(("times", "worth_it"), [((2.0, 9.0, 3.0), True), ((4.0, 4.1, 5.0), False)])
def test_integers_that_are_slower_than_float_are_marked(
    committed_bundle: Path, times: tuple[float, ...], worth_it: bool
) -> None:
    bundle = Bundle.open(committed_bundle)
    with ExitStack() as stack:
        workers = start_workers(stack, bundle, OpenOptions(threads=1))
        # One round of the first is slower, as a neighbour's work makes it: the median decides.
        floats, integers = summarize(
            bundle, workers, Samples({"onnx-fp32": [4.0, 4.0, 4.0], "onnx-int8-u8s7": list(times)}, (10, 10))
        )
    assert (floats.mark, floats.speed_vs_float) == ("", None)
    assert integers.mark == ("" if worth_it else NOT_WORTH_IT)
    assert ("Q/DQ nodes" in integers.slower_because or "fusion is not known" in integers.slower_because) != worth_it
    table = bench_table([floats, integers])
    assert ("not worth it here: 0.98 times as fast as onnx-fp32; " in table) != worth_it


def test_the_reason_is_what_was_found_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    eight, seven = Encoding("u8s8", "u8", "s8", 8), Encoding("u8s7", "u8", "s8", 7)
    cpu, protected = Opened(1, "1", "cpu", "CPU"), Opened(1, "1", "cpu", "CPU, saturation-free kernels")
    monkeypatch.setattr("edgedenoise.evaluation.measurement.saturates_u8s8", lambda: True)
    assert why_slower(eight, protected, None).startswith("no VNNI: on this CPU 8-bit weights need slower")
    assert why_slower(seven, cpu, None).startswith("no VNNI: this CPU")
    assert "VNNI" not in why_slower(seven, Opened(1, "1", "cuda", "CUDA"), None)
    monkeypatch.setattr("edgedenoise.evaluation.measurement.saturates_u8s8", lambda: False)
    counted = why_slower(seven, cpu, Fusion(21, 4, 12, dynamic_shape=True))
    assert counted.startswith(
        "unfused: 12 Q/DQ nodes that only convert, and 4 of 21 convolutions in float; dynamic shape"
    )
    assert "dynamic" not in why_slower(seven, cpu, Fusion(21, 0, 1, dynamic_shape=False))


def test_a_package_in_the_working_directory_is_not_imported(
    committed_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A download folder may contain anything, and Python imports from the working directory first."""
    for name in ("numpy", "onnxruntime", "msgspec"):
        (tmp_path / f"{name}.py").write_text("from pathlib import Path; Path('code-ran').touch(); raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    bundle = Bundle.open(committed_bundle)
    with Worker(bundle, bundle.variant("onnx-fp32")) as worker:
        assert worker.opened is not None, worker.error
    assert not (tmp_path / "code-ran").exists()


def test_percentiles_need_samples_beyond_them() -> None:
    few, more, many = (Latency.of([float(i) for i in range(1, count + 1)], 1000, 1000) for count in (9, 20, 100))
    assert (few.p90_ms_per_mp, few.p95_ms_per_mp, few.p99_ms_per_mp) == (None, None, None)
    assert (more.p90_ms_per_mp, more.p95_ms_per_mp, more.p99_ms_per_mp) == (pytest.approx(18.1), 19.05, None)
    assert many.p99_ms_per_mp == pytest.approx(99.01)


def test_times_are_per_image_and_per_megapixel() -> None:
    found = Latency.of([20.0, 30.0, 40.0, 30.0, 30.0], 500, 1000)
    assert (found.p50_ms, found.p50_ms_per_mp) == (30.0, 60.0)
    assert found.images_per_s == pytest.approx(1000 / 30)
    low, high = found.p50_interval_ms_per_mp
    assert 40 <= low <= 60 <= high <= 80


def test_what_failed_is_told_from_what_cannot_run_here() -> None:
    sound = Measurement("a", "onnxruntime", "fp32", 1)
    absent = msgspec.structs.replace(sound, variant="b", error="no GPU", unavailable=True)
    broken = msgspec.structs.replace(sound, variant="c", error="damaged")
    assert failures([sound, absent, broken]) == ["c: damaged"]
