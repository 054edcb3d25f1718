"""Result files hold raw samples of any number of runs, and readers of this version accept those of later ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

import edgedenoise
from edgedenoise.errors import OutputError, ResultFileError, UsageError
from edgedenoise.evaluation.result_files import append_runs, check_appendable, read_results
from edgedenoise.evaluation.results import CALL, SCHEMA, Run
from edgedenoise.imaging.files import read_image
from edgedenoise.imaging.metrics import psnr, ssim
from edgedenoise.locks import one_writer

if TYPE_CHECKING:
    from pathlib import Path

    from edgedenoise.evaluation.compare import CompareReport


@pytest.fixture(scope="module")
def run(committed_bundle: Path) -> Run:
    return edgedenoise.bench(committed_bundle, shape=32, repeats=3, threads=1).run


def test_bench_records_every_sample_and_the_machine(run: Run, committed_bundle: Path) -> None:
    assert [variant.name for variant in run.variants] == ["onnx-fp32", "onnx-int8-u8s7"]
    for variant in run.variants:
        timing = variant.timing(CALL)
        assert timing is not None
        assert (timing.height_px, timing.width_px, len(timing.samples_ms)) == (32, 32, 3)
        assert min(timing.samples_ms) > 0
    manifest = edgedenoise.Bundle.open(committed_bundle).manifest
    assert (run.bundle.name, run.bundle.digest) == (manifest.name, manifest.digest)
    assert run.environment.threads == 1
    assert {"python", "numpy", "onnxruntime"} <= set(run.environment.versions)
    assert len(run.environment.conditions) == 2
    assert run.environment.conditions[1].elapsed_s >= run.environment.conditions[0].elapsed_s
    assert run.machine.cores >= 1
    assert run.arguments[:2] == ("bench", str(committed_bundle))


def test_compare_records_every_image(report: CompareReport, folder: Path) -> None:
    run = report.run
    assert [image.name for image in run.images] == ["200.png", "201.png"]
    noisy, clean = (read_image(folder / name).pixels for name in ("noisy/201.png", "clean/201.tif"))
    quality = run.images[1].noisy
    assert quality is not None
    assert (quality.psnr_db, quality.ssim) == (psnr(noisy, clean), ssim(noisy, clean))
    for name in ("onnx-fp32", "onnx-int8-u8s7"):
        variant = run.variant(name)
        assert variant is not None
        kept = [read_image(folder / "kept" / name / image.name).pixels for image in run.images]
        for result, pixels, truth in zip(variant.images, kept, ("200.png", "201.tif"), strict=True):
            clean = read_image(folder / "clean" / truth).pixels
            assert result.quality is not None
            assert result.quality.psnr_db == psnr(pixels, clean)
            shift = pixels.astype(float).mean(axis=(0, 1)) - clean.astype(float).mean(axis=(0, 1))
            assert result.quality.color_shift_lsb == pytest.approx(tuple(shift))
    broken = run.variant("onnx-broken")
    assert broken is not None
    assert (broken.images, broken.timings) == ((), ())
    assert "damaged" in broken.error


def test_the_means_of_a_report_come_from_its_images(report: CompareReport) -> None:
    for row, variant in zip(report.rows, report.run.variants, strict=True):
        psnrs = [image.quality.psnr_db for image in variant.images if image.quality is not None]
        assert (row.quality is None) == (not psnrs)
        if row.quality is not None:
            assert row.quality.psnr_db == pytest.approx(np.mean([value for value in psnrs if value is not None]))
        if row.fidelity is not None:
            assert row.fidelity.max_error_lsb == max(i.to_float.max_error_lsb for i in variant.images if i.to_float)


def test_runs_are_appended_once(run: Run, tmp_path: Path) -> None:
    path, other = tmp_path / "new" / "result.json", msgspec.structs.replace(run, id="another")
    append_runs(path, [run])
    append_runs(path, [run, other])
    assert read_results(path).runs == (run, other)
    assert [entry.name for entry in path.parent.iterdir()] == ["result.json"]


def test_fields_of_a_newer_writer_are_ignored_and_kept(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    append_runs(path, [run])
    raw = json.loads(path.read_text())
    raw["runs"][0]["machine"]["mood"] = "good"
    raw["note"] = "from the future"
    path.write_text(json.dumps(raw))
    assert read_results(path).runs == (run,)
    append_runs(path, [msgspec.structs.replace(run, id="another")])
    kept = json.loads(path.read_text())
    assert (kept["note"], kept["runs"][0]["machine"]["mood"], len(kept["runs"])) == ("from the future", "good", 2)


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (
            '{"schema": "edgedenoise-result/2", "runs": 7}',
            f"expected the schema '{SCHEMA}', got '.*/2'",
            "pip install -U",
        ),
        ('{"name": "tiny"}', "it states no schema", "edgedenoise bench"),
        ('{"schema": "edgedenoise-bundle/1"}', "got 'edgedenoise-bundle/1'", "edgedenoise bench"),
        ("<html>", "expected JSON, got", "edgedenoise bench"),
        ("[" * 5000, "expected JSON, got", "edgedenoise bench"),
        (f'{{"schema": "{SCHEMA}", "runs": [{{"id": 1}}]}}', r"does not keep to the schema .*\$\.runs\[0\]", "bench"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str, message: str, hint: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    for refuse in (read_results, check_appendable):
        with pytest.raises(ResultFileError, match=message) as caught:
            refuse(path)
        assert hint in (caught.value.hint or "")
    assert path.read_text() == content


def test_a_result_file_that_cannot_be_written_is_named_before_the_measurement(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ResultFileError, match=r"nowhere\.json cannot be read: No such file"):
        read_results(tmp_path / "nowhere.json")
    with pytest.raises(UsageError, match=r"expected a name that ends in \.json, got result\.txt"):
        check_appendable(tmp_path / "result.txt")
    with pytest.raises(OutputError, match="expected a file, got a folder"):
        check_appendable(_folder(tmp_path / "folder.json"))
    path = tmp_path / "result.json"
    with one_writer(path, OutputError), pytest.raises(OutputError, match="being written by another command"):
        append_runs(path, [run])


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
