"""`edgedenoise test`: each limit fails where it is exceeded, and nothing passes where nothing was run."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest
from result_runs import EARLIER, FLOAT, made_run

import edgedenoise
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.manifest import Limits, Variant
from edgedenoise.bundles.writer import BundleWriter
from edgedenoise.errors import LimitError, MeasurementError, ResultFileError, UsageError
from edgedenoise.evaluation.checks import CheckOptions
from edgedenoise.evaluation.history import trends
from edgedenoise.evaluation.junit import junit_xml
from edgedenoise.evaluation.limits import DEFAULT_MAX_ERROR_LSB, merged
from edgedenoise.evaluation.result_files import append_runs, encoded, read_results
from edgedenoise.evaluation.results import ResultFile
from edgedenoise.evaluation.speed_checks import MAX_MEASUREMENTS, judged
from edgedenoise.imaging.files import write_image
from edgedenoise.imaging.image import Image
from edgedenoise.runtimes.selftest import ANSWER_FILE, selftest_pair

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import FlipByte

    from edgedenoise.evaluation.limits import LimitsReport

    Pair = Callable[[int], tuple[np.ndarray, np.ndarray]]

INT8 = "onnx-int8-u8s7"


def statuses(report: LimitsReport, variant: str = INT8) -> dict[str, str]:
    return {one.name: one.status for one in report.outcomes if one.variant == variant}


def outcome(report: LimitsReport, name: str):
    return next(one for one in report.outcomes if (one.variant, one.name) == (INT8, name))


@pytest.fixture(scope="module")
def images(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    for seed in (300, 301):
        noisy, clean = (image[:64, :80] for image in pair(seed))
        write_image(Image(noisy), root / "noisy" / f"{seed}.png")
        write_image(Image(clean), root / "clean" / f"{seed}.png")
    return root


def test_a_sound_bundle_passes(committed_bundle: Path) -> None:
    report = edgedenoise.check_limits(committed_bundle)
    assert report.passed
    assert report.error is None
    assert statuses(report) == {"selftest": "passed", "tiles": "passed", "max_error_lsb": "passed"}
    assert statuses(report, "onnx-fp32") == {"selftest": "passed", "tiles": "passed"}
    assert report.limits == Limits(max_error_lsb=DEFAULT_MAX_ERROR_LSB)
    assert report.run.command == "test"
    assert {(check.variant, check.name) for check in report.run.checks} >= {("", "files"), (INT8, "max_error_lsb")}
    assert all(variant.selftest.passed for variant in report.run.variants)


def test_a_student_that_is_forty_levels_off_does_not_pass_in_silence(tiny_bundle: Path) -> None:
    """One pixel of the float output is 45 levels away, which no mean shows."""
    bundle = Bundle.open(tiny_bundle)
    _, answer = selftest_pair(bundle)
    answer = answer.copy()
    place = np.unravel_index(np.abs(answer - 0.5).argmin(), answer.shape)
    answer[place] += 45 / 255
    with BundleWriter.edit(bundle) as draft:
        np.save(draft.path(ANSWER_FILE), answer)
    report = edgedenoise.check_limits(tiny_bundle)
    assert statuses(report) == {"selftest": "passed", "tiles": "passed", "max_error_lsb": "failed"}
    assert outcome(report, "max_error_lsb").value == pytest.approx(45, abs=11)
    assert isinstance(report.error, LimitError)
    assert "8-bit levels from float on self-test; expected at most 32 LSB" in report.error.message
    allowed = CheckOptions(Limits(max_error_lsb=60))
    assert statuses(edgedenoise.check_limits(tiny_bundle, allowed))["max_error_lsb"] == "passed"


@pytest.mark.parametrize(("drop_db", "status"), [(3.0, "passed"), (0.0001, "failed")])
def test_the_loss_is_measured_on_images_with_ground_truth(
    committed_bundle: Path, images: Path, drop_db: float, status: str
) -> None:
    options = CheckOptions(Limits(max_drop_db=drop_db, min_psnr_db=20), images / "noisy", images / "clean")
    report = edgedenoise.check_limits(committed_bundle, options)
    assert statuses(report)["max_drop_db"] == status
    assert statuses(report)["min_psnr_db"] == "passed"
    assert outcome(report, "max_error_lsb").image in ("300.png", "301.png")
    assert "of 2 images" in outcome(report, "max_drop_db").message


def test_a_loss_without_ground_truth_is_not_measured(committed_bundle: Path) -> None:
    report = edgedenoise.check_limits(committed_bundle, CheckOptions(Limits(max_drop_db=0.1)))
    assert statuses(report)["max_drop_db"] == "not run"
    with pytest.raises(UsageError, match="ground truth was given without images"):
        CheckOptions(clean=committed_bundle)


def test_the_limits_of_the_bundle_count_unless_others_are_given(tiny_bundle: Path) -> None:
    with BundleWriter.edit(Bundle.open(tiny_bundle)) as draft:
        draft.manifest = msgspec.structs.replace(draft.manifest, limits=Limits(min_psnr_db=70))
    assert statuses(edgedenoise.check_limits(tiny_bundle))["min_psnr_db"] == "failed"
    found = edgedenoise.check_limits(tiny_bundle, CheckOptions(Limits(min_psnr_db=30)))
    assert statuses(found)["min_psnr_db"] == "passed"
    assert merged(Limits(max_ms=4), Limits(max_ms=9, max_error_lsb=5)) == Limits(max_ms=4, max_error_lsb=5)


def test_a_damaged_file_fails_its_check_and_its_variant(tiny_bundle: Path, flip_byte: FlipByte) -> None:
    flip_byte(tiny_bundle / INT8 / "model.onnx")
    report = edgedenoise.check_limits(tiny_bundle)
    assert [one.status for one in report.outcomes if not one.variant] == ["failed"]
    assert set(statuses(report).values()) == {"failed"}
    assert set(statuses(report, "onnx-fp32").values()) == {"passed"}


def test_where_nothing_can_be_run_nothing_passes(tiny_bundle: Path) -> None:
    with BundleWriter.edit(Bundle.open(tiny_bundle)) as draft:
        engine = Variant("tensorrt-fp16", "tensorrt", "fp16", "tensorrt-fp16/model.engine")
        draft.write(engine.path, b"no engine")
        draft.put_variant(engine)
        draft.drop_variants({"onnx-fp32", INT8})
    report = edgedenoise.check_limits(tiny_bundle)
    assert set(statuses(report, "tensorrt-fp16").values()) == {"not run"}
    assert not report.passed
    assert isinstance(report.error, MeasurementError)


def test_latency_is_checked_against_a_limit(committed_bundle: Path) -> None:
    def status(max_ms: float) -> str:
        options = CheckOptions(Limits(max_ms=max_ms), shape=(16, 16), repeats=1, threads=1)
        return statuses(edgedenoise.check_limits(committed_bundle, options))["max_ms"]

    assert (status(1e6), status(1e-6)) == ("passed", "failed")


def test_ratios_are_checked_against_earlier_runs_of_this_device(committed_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    with pytest.raises(ResultFileError, match="there is no baseline") as caught:
        edgedenoise.check_limits(committed_bundle, CheckOptions(baseline=path))
    assert caught.value.hint.endswith(f"edgedenoise test {committed_bundle} -o {path}")
    timed = CheckOptions(shape=(16, 16), repeats=5, threads=1, always_timed=True)
    append_runs(path, [edgedenoise.check_limits(committed_bundle, timed).run])
    options = CheckOptions(baseline=path, shape=(16, 16), repeats=5, threads=1)
    path.write_bytes(encoded(with_times(read_results(path), {"onnx-fp32": 10.0, INT8: 0.01})))
    report = edgedenoise.check_limits(committed_bundle, options)
    assert statuses(report)["baseline"] == "failed", "INT8 was 1000 times as fast as float"
    samples = report.run.variant(INT8).timing("call").samples_ms
    assert len(samples) == 5 * MAX_MEASUREMENTS, "it was measured again before it failed"
    ratios = np.array(report.run.variant("onnx-fp32").timing("call").samples_ms) / samples
    assert outcome(report, "baseline").value == np.median(ratios), "the samples are in the result"
    assert statuses(report, "onnx-fp32")["baseline"] == "not run", "it is compared with no other"
    path.write_bytes(encoded(with_times(read_results(path), {"onnx-fp32": 0.01, INT8: 10.0})))
    assert statuses(edgedenoise.check_limits(committed_bundle, options))["baseline"] == "passed"


@pytest.mark.parametrize(
    ("share", "contended", "status"),
    [(0.5, True, "passed"), (0.65, True, "not run"), (0.65, False, "failed"), (0.8, True, "failed")],
)
def test_a_busy_machine_is_said_to_be_busy_and_fails_no_check(share: float, contended: bool, status: str) -> None:
    """INT8 takes a share of the time of float; it took half of it in the baseline."""
    now = made_run(4, [value * share for value in FLOAT], slower=7.0, contended=contended)
    (ratio,) = [one for one in trends(EARLIER, [now]) if one.key.measure.startswith("speed")]
    found = judged(INT8, ratio)
    assert found.status == status
    assert ("repeat both on an idle machine" in found.message) == (status == "not run")
    assert found.value == pytest.approx(1 / share)


def with_times(file: ResultFile, times_ms: dict[str, float]) -> ResultFile:
    """Return results with other times."""
    (run,) = file.runs
    variants = []
    for one in run.variants:
        samples = (times_ms[one.name],) * 5
        timings = tuple(msgspec.structs.replace(timing, samples_ms=samples) for timing in one.timings)
        variants.append(msgspec.structs.replace(one, timings=timings))
    return ResultFile(runs=(msgspec.structs.replace(run, variants=tuple(variants)),))


def test_junit_has_a_case_per_check(committed_bundle: Path) -> None:
    report = edgedenoise.check_limits(committed_bundle, CheckOptions(Limits(max_error_lsb=1, max_drop_db=1)))
    suite = ElementTree.fromstring(junit_xml(report)).find("testsuite")  # noqa: S314  (our own)
    assert suite is not None
    counts = [suite.get(name) for name in ("tests", "failures", "skipped", "errors")]
    assert counts == [str(len(report.outcomes)), "1", "1", "0"]
    cases = {(case.get("classname"), case.get("name")): case for case in suite}
    failure = cases[INT8, "max_error_lsb"].find("failure")
    assert failure is not None
    assert failure.get("message", "").endswith("expected at most 1 LSB")
    assert cases[INT8, "max_drop_db"].find("skipped") is not None
