"""Benchmarks time every variant side by side; a process that dies costs only its own row."""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec
import pytest

import edgedenoise
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.writer import BundleWriter
from edgedenoise.errors import BundleError, IncompatibleError, MeasurementError, UsageError
from edgedenoise.evaluation.bench import BenchReport, start_workers, time_rounds
from edgedenoise.evaluation.measurement import summarize
from edgedenoise.evaluation.worker import Worker

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import FlipByte


def test_bench_times_every_variant_side_by_side(committed_bundle: Path) -> None:
    stages: list[tuple[int, int]] = []
    found = edgedenoise.bench(
        committed_bundle,
        side_px=48,
        repeats=2,
        progress=lambda stage, done, total, note="": stages.append((done, total)),
    )
    assert [m.variant for m in found.variants] == ["onnx-fp32", "onnx-int8-u8s7"]
    assert all(m.latency is not None and len(m.latency.samples_ms_per_mp) == 2 for m in found.variants)
    assert all(
        math.isfinite(m.latency.p50_ms_per_mp) and m.latency.p50_ms_per_mp > 0 for m in found.variants if m.latency
    )
    assert (found.side_px, found.repeats) == (48, 2)
    assert found.network == Bundle.open(committed_bundle).manifest.network.name
    assert stages[0] == (0, 4)  # two warm-ups, two timed
    assert stages[-1] == (4, 4)
    assert msgspec.json.decode(msgspec.json.encode(found), type=BenchReport) == found


def test_a_worker_that_dies_fails_only_its_own_row(committed_bundle: Path, folder: Path) -> None:
    bundle = Bundle.open(committed_bundle)
    image = folder / "noisy" / "200.png"
    with ExitStack() as stack:
        workers = start_workers(stack, bundle, "auto", 1)
        assert workers[0].denoise(image) is not None
        workers[0]._process.kill()  # as the system does when memory runs out
        workers[0]._process.wait()
        samples = time_rounds(workers, image, 2)
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
    for options in ({"side_px": 0}, {"repeats": 0}):
        with pytest.raises(UsageError, match="of at least 1, got"):
            edgedenoise.bench(tiny_bundle, **options)
    with pytest.raises(BundleError, match="no bundle at"):
        edgedenoise.bench(tiny_bundle.with_name("nowhere.edge"))
    with BundleWriter.edit(Bundle.open(tiny_bundle)) as draft:
        draft.drop_variants({"onnx-fp32", "onnx-int8-u8s7"})
    with pytest.raises(IncompatibleError, match="no variants to measure"):
        edgedenoise.bench(tiny_bundle)


def test_a_missing_device_is_an_error(tiny_bundle: Path) -> None:
    with pytest.raises(MeasurementError, match=r"none of the 2 variants of .*tiny\.edge could be measured"):
        edgedenoise.bench(tiny_bundle, side_px=16, repeats=1, device="nowhere")


def test_a_bundle_whose_files_are_all_damaged_is_an_error(tiny_bundle: Path, flip_byte: FlipByte) -> None:
    for path in tiny_bundle.glob("onnx-*/model.onnx"):
        flip_byte(path)
    with pytest.raises(MeasurementError, match=r"(?s)onnx-fp32: .*damaged.*onnx-int8-u8s7: .*damaged") as caught:
        edgedenoise.bench(tiny_bundle, side_px=16, repeats=1)
    assert caught.value.exit_code == 100
