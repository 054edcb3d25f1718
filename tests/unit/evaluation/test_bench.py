"""Benchmarks time every variant side by side; a process that dies costs only its own row."""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec
import pytest

import edgedenoise
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.manifest import InputShapes
from edgedenoise.bundles.writer import BundleWriter
from edgedenoise.denoiser import load_variant
from edgedenoise.errors import BundleError, IncompatibleError, MeasurementError, UsageError
from edgedenoise.evaluation.bench import BenchReport
from edgedenoise.evaluation.measurement import summarize
from edgedenoise.evaluation.rounds import start_workers, time_rounds
from edgedenoise.evaluation.worker import OpenOptions, Worker, accepted_input
from edgedenoise.runtimes.timing import MAX_WARM_UP

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import FlipByte


def test_bench_times_every_variant_side_by_side(committed_bundle: Path) -> None:
    stages: list[tuple[int, int]] = []
    found = edgedenoise.bench(
        committed_bundle,
        shape=(40, 48),
        repeats=2,
        progress=lambda stage, done, total, note="": stages.append((done, total)),
    )
    assert [m.variant for m in found.variants] == ["onnx-fp32", "onnx-int8-u8s7"]
    assert all(m.latency is not None and len(m.latency.samples_ms_per_mp) == 2 for m in found.variants)
    assert all(
        math.isfinite(m.latency.p50_ms_per_mp) and m.latency.p50_ms_per_mp > 0 for m in found.variants if m.latency
    )
    assert all(m.network is not None and len(m.network.samples_ms_per_mp) == 2 for m in found.variants)
    assert all((m.latency.height_px, m.latency.width_px) == (40, 48) for m in found.variants if m.latency)
    assert (found.shape_px, found.repeats) == ((40, 48), 2)
    assert found.network == Bundle.open(committed_bundle).manifest.network.name
    assert stages[0] == (0, MAX_WARM_UP)
    assert stages[-3:] == [(0, 2), (1, 2), (2, 2)]
    assert msgspec.json.decode(msgspec.json.encode(found), type=BenchReport) == found


def test_a_worker_that_dies_fails_only_its_own_row(committed_bundle: Path, folder: Path) -> None:
    bundle = Bundle.open(committed_bundle)
    image = folder / "noisy" / "200.png"
    with ExitStack() as stack:
        workers = start_workers(stack, bundle, OpenOptions(threads=1))
        assert workers[0].denoise(image) is not None
        workers[0]._process.kill()  # as the system does when memory runs out
        workers[0]._process.wait()
        samples = time_rounds(workers, image, (90, 110), 2)
        dead, alive = summarize(bundle, workers, samples)
    assert "its process ended (-9)" in dead.error
    assert dead.latency is None
    assert alive.error == ""
    assert alive.latency is not None


def test_a_worker_reports_an_image_that_it_cannot_read(committed_bundle: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(committed_bundle)
    with Worker(bundle, bundle.variant("onnx-fp32")) as worker:
        assert worker.opened is not None
        assert worker.opened.load_ms > 0
        assert worker.denoise(tmp_path / "missing.png") is None
        assert "missing.png does not exist" in worker.error
        assert not worker.not_finite


def test_measuring_nothing_is_an_error(tiny_bundle: Path) -> None:
    for options in ({"shape": 0}, {"shape": (8, 0)}, {"repeats": 0}):
        with pytest.raises(UsageError, match="expected sides and repeats of at least 1, got"):
            edgedenoise.bench(tiny_bundle, **options)
    with pytest.raises(BundleError, match="no bundle at"):
        edgedenoise.bench(tiny_bundle.with_name("nowhere.edge"))
    with BundleWriter.edit(Bundle.open(tiny_bundle)) as draft:
        draft.drop_variants({"onnx-fp32", "onnx-int8-u8s7"})
    with pytest.raises(IncompatibleError, match="no variants to measure"):
        edgedenoise.bench(tiny_bundle)


def test_a_missing_device_is_an_error(tiny_bundle: Path) -> None:
    with pytest.raises(MeasurementError, match=r"none of the 2 variants of .*tiny\.edge could be measured"):
        edgedenoise.bench(tiny_bundle, shape=16, repeats=1, device="nowhere")


def test_a_bundle_whose_files_are_all_damaged_is_an_error(tiny_bundle: Path, flip_byte: FlipByte) -> None:
    for path in tiny_bundle.glob("onnx-*/model.onnx"):
        flip_byte(path)
    with pytest.raises(MeasurementError, match=r"(?s)onnx-fp32: .*damaged.*onnx-int8-u8s7: .*damaged") as caught:
        edgedenoise.bench(tiny_bundle, shape=16, repeats=1)
    assert caught.value.exit_code == 100


def test_selected_variants_alone_are_measured(tiny_bundle: Path) -> None:
    found = edgedenoise.bench(tiny_bundle, shape=16, repeats=1, precisions=["int8"])
    assert [m.variant for m in found.variants] == ["onnx-int8-u8s7"]
    assert found.variants[0].speed_vs_float is None, "there is no float variant to compare with"
    assert found.run.arguments[2:6] == ("--shape", "16x16", "--precision", "int8")
    with pytest.raises(IncompatibleError, match="expected at least one that was selected, got onnx-fp32"):
        edgedenoise.bench(tiny_bundle, shape=16, repeats=1, runtimes=["openvino"])
    with pytest.raises(IncompatibleError, match="has no variant 'onnx-fp61'"):
        edgedenoise.bench(tiny_bundle, shape=16, repeats=1, variants=["onnx-fp61"])


def test_the_network_alone_runs_on_what_the_file_accepts(committed_bundle: Path) -> None:
    bundle = Bundle.open(committed_bundle)
    with load_variant(bundle, "onnx-fp32", selftest=False) as denoiser:
        assert accepted_input(denoiser, 33, 47) == (33, 47)
        denoiser.session.shapes = InputShapes("enumerated", [64, 128])
        assert [accepted_input(denoiser, *px) for px in ((33, 47), (65, 1), (500, 500))] == [
            (64, 64),
            (128, 128),
            (128, 128),
        ]
    with Worker(bundle, bundle.variant("onnx-fp32")) as worker:
        assert worker.run_network(24, 40) is not None
        assert worker.network_px == (24, 40)


def test_a_run_has_the_samples_of_both_scopes_and_the_machine(tiny_bundle: Path) -> None:
    run = edgedenoise.bench(tiny_bundle, shape=32, repeats=3, threads=1).run
    variant = run.variant("onnx-fp32")
    for scope in ("call", "network"):
        timing = variant.timing(scope)
        assert (timing.height_px, timing.width_px, len(timing.samples_ms)) == (32, 32, 3)
        assert len(timing.warm_up_ms) >= 2
    assert run.bundle.digest == Bundle.open(tiny_bundle).manifest.digest
    assert (run.environment.threads, len(run.environment.conditions)) == (1, 2)
