"""Every variant measured in a process of its own: all rows, and one that fails costs itself only."""

from __future__ import annotations

import math
import shutil
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

import edgedenoise
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.manifest import Encoding, Variant
from edgedenoise.bundles.writer import BundleWriter
from edgedenoise.denoiser import denoise
from edgedenoise.errors import BundleError, DatasetError, IncompatibleError, UsageError
from edgedenoise.evaluation.bench import (
    NOT_WORTH_IT,
    BenchReport,
    Worker,
    start_workers,
    summarize,
    time_rounds,
    why_slower,
)
from edgedenoise.evaluation.compare import CompareReport
from edgedenoise.evaluation.report.page import bench_table, compare_table, html_rows
from edgedenoise.evaluation.worker import Opened
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.image import Image
from edgedenoise.imaging.metrics import level_errors, psnr, psnr_unit
from edgedenoise.runtimes.fusion import Fusion

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import FlipByte

    Pair = Callable[[int], tuple[np.ndarray, np.ndarray]]

REPEATS = 3
NAMES = ("onnx-fp32", "onnx-int8-u8s7", "onnx-broken", "onnx-nan")


@pytest.fixture(scope="module")
def folder(
    committed_bundle: Path,
    pair: Pair,
    nan_model: bytes,
    flip_byte: FlipByte,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Two noisy images with their ground truth, and a bundle with two sound and two bad variants."""
    root = tmp_path_factory.mktemp("compare")
    for seed, ending in ((200, "png"), (201, "tif")):
        noisy, clean = (picture[:90, :110] for picture in pair(seed))
        write_image(Image(noisy), root / "noisy" / f"{seed}.png")
        write_image(Image(clean), root / "clean" / f"{seed}.{ending}")
    bundle = shutil.copytree(committed_bundle, root / "mixed.edge")
    with BundleWriter.edit(Bundle.open(bundle)) as draft:
        draft.write("onnx-broken/model.onnx", (bundle / "onnx-fp32" / "model.onnx").read_bytes())
        draft.put_variant(Variant("onnx-broken", "onnxruntime", "fp16", "onnx-broken/model.onnx"))
        draft.write("onnx-nan/model.onnx", nan_model)
        draft.put_variant(Variant("onnx-nan", "onnxruntime", "fp16", "onnx-nan/model.onnx"))
    flip_byte(bundle / "onnx-broken" / "model.onnx")
    return root


@pytest.fixture(scope="module")
def report(folder: Path) -> CompareReport:
    return edgedenoise.compare(
        folder / "mixed.edge", folder / "noisy", folder / "clean", repeats=REPEATS, keep=folder / "kept"
    )


# ---------------------------------------------------------------- compare


def test_every_variant_has_a_row(report: CompareReport) -> None:
    assert tuple(row.measurement.variant for row in report.rows) == NAMES
    assert report.photographs == ("200.png", "201.png")
    assert report.megapixels == pytest.approx(2 * 90 * 110 / 1e6)
    assert report.timed_px == (90, 110)
    assert report.repeats == REPEATS


def test_quality_is_against_the_ground_truth(report: CompareReport, folder: Path, committed_bundle: Path) -> None:
    names = ("200.png", "201.tif")
    noisy = [read_image(folder / "noisy" / f"{name[:3]}.png").pixels for name in names]
    clean = [read_image(folder / "clean" / name).pixels for name in names]
    assert report.noisy is not None
    assert report.noisy.psnr_db == pytest.approx(np.mean([psnr(n, c) for n, c in zip(noisy, clean, strict=True)]))
    answers = [denoise(picture, committed_bundle, precision="fp32") for picture in noisy]
    quality = report.rows[0].quality
    assert quality is not None
    assert quality.psnr_db == pytest.approx(np.mean([psnr(a, c) for a, c in zip(answers, clean, strict=True)]))
    assert 0 < quality.ssim < 1


def test_int8_is_measured_against_float(report: CompareReport, folder: Path, committed_bundle: Path) -> None:
    distances, levels = [], []
    for seed in (200, 201):
        unit = read_image(folder / "noisy" / f"{seed}.png").unit()
        integers, floats = (denoise(unit, committed_bundle, precision=name) for name in ("int8", "fp32"))
        distances.append(psnr_unit(integers, floats))
        levels.append(level_errors(integers, floats).max_levels)
    reference, row = report.rows[:2]
    assert reference.fidelity is None
    assert row.fidelity is not None
    assert row.fidelity.psnr_db == pytest.approx(np.mean(distances), abs=0.01)
    assert row.fidelity.max_levels == max(levels) > 0


def test_what_was_measured_is_kept(report: CompareReport) -> None:
    for row in report.rows[:2]:
        found = row.measurement
        assert row.finite
        assert found.error == ""
        assert (found.runtime, found.device) == ("onnxruntime", "cpu")
        assert found.size_bytes > 10_000
        assert found.load_ms is not None
        assert found.load_ms > 0
        assert found.latency is not None
        samples = found.latency.samples_ms_per_mp
        assert len(samples) == REPEATS
        assert min(samples) <= found.latency.p50_ms_per_mp <= found.latency.p90_ms_per_mp
        assert found.latency.p90_ms_per_mp <= found.latency.p99_ms_per_mp <= max(samples)
        if sys.platform == "linux":
            assert found.peak_rss_bytes is not None
            assert 20 << 20 < found.peak_rss_bytes < 2 << 30
    assert report.rows[0].measurement.speed_vs_float is None
    speed = report.rows[1].measurement.speed_vs_float
    assert speed is not None
    assert speed > 0
    assert bool(report.rows[1].measurement.slower_because) == (speed < 1)
    assert report.rows[1].measurement.mark == (NOT_WORTH_IT if speed < 1 else "")


def test_a_broken_variant_has_a_row_that_says_why(report: CompareReport) -> None:
    row = report.rows[2]
    assert "onnx-broken/model.onnx is damaged or was changed" in row.measurement.error
    assert row.measurement.latency is None
    assert (row.quality, row.fidelity) == (None, None)


def test_a_variant_that_gives_nan_is_not_finite(report: CompareReport) -> None:
    assert [row.finite for row in report.rows] == [True, True, True, False]
    row = report.rows[3]
    assert "not finite" in row.measurement.error
    assert (row.quality, row.fidelity) == (None, None)


def test_the_denoised_photographs_can_be_kept(report: CompareReport, folder: Path, committed_bundle: Path) -> None:
    kept = sorted(path.relative_to(folder / "kept").as_posix() for path in (folder / "kept").rglob("*.png"))
    assert kept == [f"{name}/{seed}.png" for name in NAMES[:2] for seed in (200, 201)]
    noisy = read_image(folder / "noisy" / "200.png").pixels
    found = read_image(folder / "kept" / "onnx-fp32" / "200.png").pixels
    np.testing.assert_array_equal(found, denoise(noisy, committed_bundle, precision="fp32"))


def test_a_report_says_where_it_was_measured_and_survives_json(report: CompareReport) -> None:
    assert report.environment.cpu
    assert {"numpy", "onnxruntime", "pillow"} <= set(report.environment.packages)
    assert report.environment.free_memory_bytes > 0
    again = msgspec.json.decode(msgspec.json.encode(report), type=CompareReport)
    assert again == report


@pytest.mark.parametrize("wrong", ["missing", "other size", "empty", "no folder"])
def test_photographs_that_cannot_be_compared_are_named(
    folder: Path, committed_bundle: Path, tmp_path: Path, wrong: str
) -> None:
    noisy, clean = (shutil.copytree(folder / name, tmp_path / name) for name in ("noisy", "clean"))
    message = {
        "missing": r"1 of 2 images in .* have no ground truth .* the first is 201\.png",
        "other size": r"200\.png is 90x110 and its ground truth .*200\.png is 90x100",
        "empty": "holds no images",
        "no folder": "nowhere",
    }[wrong]
    if wrong == "missing":
        (clean / "201.tif").unlink()
    elif wrong == "other size":
        write_image(Image(np.zeros((90, 100, 3), np.uint8)), clean / "200.png")
    elif wrong == "empty":
        noisy = tmp_path / "none"
        noisy.mkdir()
    else:
        noisy = tmp_path / "nowhere"
    with pytest.raises(DatasetError, match=message):
        edgedenoise.compare(committed_bundle, noisy, clean, repeats=1)


def test_without_ground_truth_there_is_no_quality(folder: Path, committed_bundle: Path) -> None:
    found = edgedenoise.compare(committed_bundle, folder / "noisy", repeats=1, threads=1)
    assert found.noisy is None
    assert [row.quality for row in found.rows] == [None, None]
    assert [row.fidelity is None for row in found.rows] == [True, False]


# ---------------------------------------------------------------- bench


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


def test_a_worker_that_dies_costs_its_own_row_only(committed_bundle: Path, folder: Path) -> None:
    bundle = Bundle.open(committed_bundle)
    picture = folder / "noisy" / "200.png"
    with ExitStack() as stack:
        workers = start_workers(stack, bundle, "auto", 1)
        assert workers[0].denoise(picture) is not None
        workers[0]._process.kill()  # as the system does when memory runs out
        workers[0]._process.wait()
        samples = time_rounds(workers, picture, 2)
        dead, alive = summarize(bundle, workers, samples)
    assert "its process ended (-9)" in dead.error
    assert dead.latency is None
    assert alive.error == ""
    assert alive.latency is not None


def test_a_worker_reports_a_picture_that_it_cannot_read(committed_bundle: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(committed_bundle)
    with Worker(bundle, bundle.variant("onnx-fp32")) as worker:
        assert worker.opened is not None
        assert worker.opened.load_ms > 0
        assert worker.denoise(tmp_path / "missing.png") is None
        assert "missing.png does not exist" in worker.error
        assert not worker.not_finite


# ---------------------------------------------------------------- not worth it here


@pytest.mark.parametrize(("times", "worth_it"), [((2.0, 9.0, 3.0), True), ((4.0, 4.1, 5.0), False)])
def test_integers_that_are_slower_than_float_are_marked(
    committed_bundle: Path, times: tuple[float, ...], worth_it: bool
) -> None:
    bundle = Bundle.open(committed_bundle)
    with ExitStack() as stack:
        workers = start_workers(stack, bundle, "auto", 1)
        # One round of the first is slower, as a neighbour's work makes it: the median decides.
        floats, integers = summarize(bundle, workers, {"onnx-fp32": [4.0, 4.0, 4.0], "onnx-int8-u8s7": list(times)})
    assert (floats.mark, floats.speed_vs_float) == ("", None)
    assert integers.mark == ("" if worth_it else NOT_WORTH_IT)
    assert ("Q/DQ nodes" in integers.slower_because or "fused is not known" in integers.slower_because) != worth_it
    table = bench_table([floats, integers])
    assert ("onnx-int8-u8s7: not worth it here: 0.98 times as fast as float on onnxruntime; " in table) != worth_it


def test_a_mark_is_in_the_comparison_and_on_the_page(report: CompareReport) -> None:
    first, second, *others = report.rows
    slow = {"speed_vs_float": 0.5, "mark": NOT_WORTH_IT, "slower_because": "no VNNI"}
    marked = msgspec.structs.replace(second, measurement=msgspec.structs.replace(second.measurement, **slow))
    found = msgspec.structs.replace(report, rows=(first, marked, *others))
    words = "not worth it here: 0.50 times as fast as float on onnxruntime; no VNNI"
    assert f"onnx-int8-u8s7: {words}" in compare_table(found)
    assert [row["remark"] for row in html_rows(found)][:2] == ["", words]


def test_the_reason_is_what_was_found_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    eight, seven = Encoding("u8s8", "u8", "s8", 8), Encoding("u8s7", "u8", "s8", 7)
    cpu, protected = Opened(1, "1", "cpu", "CPU"), Opened(1, "1", "cpu", "CPU, saturation-free kernels")
    monkeypatch.setattr("edgedenoise.evaluation.bench.saturates_u8s8", lambda: True)
    assert why_slower(eight, protected, None).startswith("no VNNI: 8-bit weights need slower")
    assert why_slower(seven, cpu, None).startswith("no VNNI: this CPU")
    assert "VNNI" not in why_slower(seven, Opened(1, "1", "cuda", "CUDA"), None)
    monkeypatch.setattr("edgedenoise.evaluation.bench.saturates_u8s8", lambda: False)
    counted = why_slower(seven, cpu, Fusion(21, 4, 12, dynamic_shape=True))
    assert counted.startswith(
        "unfused: 12 Q/DQ nodes that only convert, and 4 of 21 convolutions in float; dynamic shape"
    )
    assert "dynamic" not in why_slower(seven, cpu, Fusion(21, 0, 1, dynamic_shape=False))


def test_measuring_nothing_is_an_error(tiny_bundle: Path) -> None:
    for options in ({"side_px": 0}, {"repeats": 0}):
        with pytest.raises(UsageError, match="must be at least 1"):
            edgedenoise.bench(tiny_bundle, **options)
    with pytest.raises(BundleError, match="no bundle at"):
        edgedenoise.bench(tiny_bundle.with_name("nowhere.edge"))
    with BundleWriter.edit(Bundle.open(tiny_bundle)) as draft:
        draft.drop_variants({"onnx-fp32", "onnx-int8-u8s7"})
    with pytest.raises(IncompatibleError, match="no variants to measure"):
        edgedenoise.bench(tiny_bundle)
