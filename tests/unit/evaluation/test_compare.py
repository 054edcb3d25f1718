"""A comparison has a row for every variant, and one that fails costs only its own row."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

import edgedenoise
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.manifest import Variant
from edgedenoise.bundles.writer import BundleWriter
from edgedenoise.denoiser import denoise
from edgedenoise.errors import DatasetError, MeasurementError, UsageError
from edgedenoise.evaluation.compare import CompareReport, Row, loss_to_float_db
from edgedenoise.evaluation.measurement import NOT_WORTH_IT, Measurement
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.image import Image
from edgedenoise.imaging.metrics import Quality, level_errors, psnr, psnr_unit

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import FlipByte

NAMES = ("onnx-fp32", "onnx-int8-u8s7", "onnx-broken", "onnx-nan")
REPEATS = 3


def test_every_variant_has_a_row(report: CompareReport) -> None:
    assert tuple(row.measurement.variant for row in report.rows) == NAMES
    assert report.images == ("200.png", "201.png")
    assert report.megapixels == pytest.approx(2 * 90 * 110 / 1e6)
    assert report.timed_px == (90, 110)
    assert report.repeats == REPEATS


def test_quality_is_against_the_ground_truth(report: CompareReport, folder: Path, committed_bundle: Path) -> None:
    names = ("200.png", "201.tif")
    noisy = [read_image(folder / "noisy" / f"{name[:3]}.png").pixels for name in names]
    clean = [read_image(folder / "clean" / name).pixels for name in names]
    assert report.noisy is not None
    assert report.noisy.psnr_db == pytest.approx(np.mean([psnr(n, c) for n, c in zip(noisy, clean, strict=True)]))
    answers = [denoise(image, committed_bundle, precision="fp32") for image in noisy]
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
        levels.append(level_errors(integers, floats).max_error_lsb)
    reference, row = report.rows[:2]
    assert reference.fidelity is None
    assert row.fidelity is not None
    assert row.fidelity.psnr_db == pytest.approx(np.mean(distances), abs=0.01)
    assert row.fidelity.max_error_lsb == max(levels) > 0


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
        assert min(samples) <= found.latency.p50_ms_per_mp <= max(samples)
        assert found.latency.p90_ms_per_mp is None, "three samples have no such percentile"
        assert found.network is not None
        assert len(found.network.samples_ms_per_mp) == REPEATS
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


def test_the_denoised_images_can_be_kept(report: CompareReport, folder: Path, committed_bundle: Path) -> None:
    kept = sorted(path.relative_to(folder / "kept").as_posix() for path in (folder / "kept").rglob("*.png"))
    assert kept == [f"{name}/{seed}.png" for name in NAMES[:2] for seed in (200, 201)]
    noisy = read_image(folder / "noisy" / "200.png").pixels
    found = read_image(folder / "kept" / "onnx-fp32" / "200.png").pixels
    np.testing.assert_array_equal(found, denoise(noisy, committed_bundle, precision="fp32"))


def test_a_report_says_where_it_was_measured_and_survives_json(report: CompareReport) -> None:
    assert report.run.machine.cpu
    assert {"numpy", "onnxruntime", "pillow"} <= set(report.run.environment.versions)
    assert report.run.environment.conditions[0].free_memory_bytes
    again = msgspec.json.decode(msgspec.json.encode(report), type=CompareReport)
    assert again == report


@pytest.mark.parametrize("wrong", ["missing", "other size", "empty", "no folder"])
def test_images_that_cannot_be_compared_are_named(
    folder: Path, committed_bundle: Path, tmp_path: Path, wrong: str
) -> None:
    noisy, clean = (shutil.copytree(folder / name, tmp_path / name) for name in ("noisy", "clean"))
    message = {
        "missing": r"1 of 2 images in .* have no ground truth: .* got none for 201\.png",
        "other size": r"200\.png and its ground truth .*200\.png differ in size: expected 90x110, got 90x100",
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


def test_a_comparison_that_no_variant_survives_is_an_error(
    folder: Path, tiny_bundle: Path, nan_model: bytes, flip_byte: FlipByte
) -> None:
    bundle = tiny_bundle
    with BundleWriter.edit(Bundle.open(bundle)) as draft:
        draft.drop_variants({"onnx-fp32"})
        draft.write("onnx-nan/model.onnx", nan_model)
        draft.put_variant(Variant("onnx-nan", "onnxruntime", "fp16", "onnx-nan/model.onnx"))
    flip_byte(bundle / "onnx-int8-u8s7" / "model.onnx")
    with pytest.raises(MeasurementError, match=r"(?s)onnx-int8-u8s7: .*damaged.*onnx-nan: .*not finite") as caught:
        edgedenoise.compare(bundle, folder / "noisy", repeats=1)
    assert caught.value.hint is not None
    assert f"edgedenoise verify {bundle}" in caught.value.hint


def test_the_loss_of_int8_is_to_fp32_or_to_fp16_of_its_runtime(report: CompareReport) -> None:
    def row(variant: str, psnr_db: float | None) -> Row:
        runtime, precision = variant.split("-")
        quality = None if psnr_db is None else Quality(psnr_db, 0.9)
        return Row(Measurement(variant, runtime, precision, 1), quality, None, finite=True)

    rows = (
        row("tensorrt-fp16", 29.5),
        row("tensorrt-fp32", 30.0),
        row("tensorrt-int8", 28.0),
        row("coreml-fp16", 31.0),
        row("coreml-int8", 30.5),
        row("openvino-fp32", None),  # it failed
        row("openvino-int8", 30.0),
        row("onnxruntime-fp32", 33.0),
        row("onnxruntime-int8", None),
    )
    found = loss_to_float_db(msgspec.structs.replace(report, rows=rows))
    assert found == {"tensorrt-int8": 2.0, "coreml-int8": 0.5}


def test_a_downstream_task_is_measured_on_the_input_and_every_result(folder: Path, committed_bundle: Path) -> None:
    pytest.importorskip("skimage", reason='needs scikit-image: pip install "edgedenoise[task]"')
    run = edgedenoise.compare(committed_bundle, folder / "noisy", folder / "clean", task="edges", repeats=1).run
    assert "--task edges" in " ".join(run.arguments)
    qualities = [image.noisy for image in run.images]
    qualities += [image.quality for variant in run.variants for image in variant.images]
    assert len(qualities) == 6
    assert all(quality is not None and 0 <= quality.more["edges"] <= 1 for quality in qualities)


@pytest.mark.parametrize(
    ("task", "clean", "message"),
    [("faces", True, "expected edges or keypoints, got 'faces'"), ("edges", False, "expected ground truth, got none")],
)
def test_a_task_that_cannot_be_measured_is_refused(
    folder: Path, committed_bundle: Path, task: str, clean: bool, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        edgedenoise.compare(committed_bundle, folder / "noisy", folder / "clean" if clean else None, task=task)
