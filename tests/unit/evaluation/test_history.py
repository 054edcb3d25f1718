"""Runs are joined by device, and a change counts when it is larger than the measured spread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from result_runs import EARLIER, FLOAT, HALF, made_run, variant

from edgedenoise.errors import RegressionError, ResultFileError
from edgedenoise.evaluation.history import check_regressions, split_latest, trends
from edgedenoise.evaluation.joining import join_devices, load_runs
from edgedenoise.evaluation.result_files import append_runs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgedenoise.evaluation.results import Run


def verdicts(now: Run, earlier: Sequence[Run] = EARLIER) -> dict[tuple[str, str], str]:
    return {(t.key.variant, t.key.measure.partition(",")[0]): t.verdict for t in trends(earlier, [now])}


def test_a_run_within_the_spread_is_the_same() -> None:
    assert set(verdicts(made_run(4, HALF, slower=1.01)).values()) == {"same"}
    check_regressions(EARLIER, [made_run(4, HALF, slower=1.01)])


def test_a_slower_variant_is_a_regression_with_both_numbers() -> None:
    slow = made_run(4, [value * 0.8 for value in FLOAT])
    found = verdicts(slow)
    assert found["onnx-int8", "speed against onnx-fp32"] == found["onnx-int8", "ms/MP"] == "worse"
    assert found["onnx-fp32", "ms/MP"] == found["onnx-int8", "PSNR dB"] == "same"
    with pytest.raises(RegressionError, match=r"(?s)2 of 5 measures.*call, 100x100: expected 2 within .*, got 1\.25"):
        check_regressions(EARLIER, [slow])


def test_a_faster_variant_is_no_regression() -> None:
    fast = made_run(4, [value / 3 for value in FLOAT])
    assert verdicts(fast)["onnx-int8", "speed against onnx-fp32"] == "better"
    check_regressions(EARLIER, [fast])


def test_runs_that_differ_much_hide_a_small_change() -> None:
    wide = [made_run(day, [value * share for value in FLOAT]) for day, share in ((1, 0.45), (2, 0.5), (3, 0.6))]
    assert (
        verdicts(made_run(4, [value * 0.58 for value in FLOAT]), wide)["onnx-int8", "speed against onnx-fp32"] == "same"
    )


def test_times_of_a_busy_machine_are_not_judged_but_ratios_are() -> None:
    found = verdicts(made_run(4, [value * 0.8 for value in FLOAT], slower=3.0, contended=True))
    assert found["onnx-fp32", "ms/MP"] == "contended"
    assert found["onnx-int8", "speed against onnx-fp32"] == "worse"


def test_a_ratio_of_a_busy_machine_must_be_much_worse_to_count() -> None:
    """Other work costs the variants unequal parts; it does not make INT8 slower than float."""

    def verdict(share: float, contended: bool, earlier: Sequence[Run] = EARLIER) -> str:
        now = made_run(4, [value * share for value in FLOAT], contended=contended)
        return verdicts(now, earlier)["onnx-int8", "speed against onnx-fp32"]

    assert (verdict(0.65, False), verdict(0.65, True)) == ("worse", "contended")
    assert verdict(0.8, True) == "worse"
    busy_baseline = [made_run(1, HALF, contended=True)]
    assert verdict(0.65, False, busy_baseline) == "contended"


def test_the_speed_is_compared_with_the_same_float_variant_as_before() -> None:
    """Another one may be the fastest float variant now."""

    def with_half(day: int, against: str) -> Run:
        found = made_run(day, HALF)
        half = msgspec.structs.replace(variant("onnx-fp16", FLOAT), precision="fp16")
        first, integers = found.variants
        integers = msgspec.structs.replace(integers, compared_with=against)
        return msgspec.structs.replace(found, variants=(first, half, integers))

    found = verdicts(with_half(2, "onnx-fp16"), [with_half(1, "onnx-fp32")])
    assert found["onnx-int8", "speed against onnx-fp32"] == "same"
    assert ("onnx-int8", "speed against onnx-fp16") not in found


def test_lower_quality_is_a_regression() -> None:
    assert verdicts(made_run(4, HALF, psnr_db=29.97))["onnx-int8", "PSNR dB"] == "worse"
    assert verdicts(made_run(4, HALF, psnr_db=29.995))["onnx-int8", "PSNR dB"] == "same"


def test_another_device_is_not_compared() -> None:
    other = made_run(4, FLOAT, label="phone")
    assert set(verdicts(other).values()) == {"first"}
    with pytest.raises(ResultFileError, match="nothing was checked"):
        check_regressions(EARLIER, [other])


def test_the_latest_run_of_each_device_is_judged() -> None:
    earlier, now = split_latest([*EARLIER, made_run(4, HALF, label="phone")])
    assert [one.id for one in earlier] == ["board-1", "board-2"]
    assert {one.id for one in now} == {"board-3", "phone-4"}


def test_files_and_folders_are_joined_by_device(tmp_path: Path) -> None:
    append_runs(tmp_path / "a.json", EARLIER[1:])
    append_runs(tmp_path / "devices" / "deep" / "b.json", [made_run(4, HALF, label="phone"), *EARLIER])
    (tmp_path / "devices" / "package.json").write_text('{"name": "other"}')
    runs = load_runs([tmp_path / "a.json", tmp_path / "devices"])
    assert [one.id for one in runs] == ["board-1", "board-2", "board-3", "phone-4"]
    board, phone = join_devices(reversed(runs))
    assert (board.machine.label, len(board.runs), phone.machine.label) == ("board", 3, "phone")
    assert [one.started for one in board.runs] == sorted(one.started for one in board.runs)


def test_a_folder_without_results_or_with_newer_ones_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"name": "other"}')
    with pytest.raises(ResultFileError, match="there are no results in"):
        load_runs([tmp_path])
    (tmp_path / "newer.json").write_text('{"schema": "edgedenoise-result/2"}')
    with pytest.raises(ResultFileError, match="expected the schema"):
        load_runs([tmp_path])


def test_a_variant_that_fails_now_is_a_regression() -> None:
    now = made_run(4, HALF)
    failed = msgspec.structs.replace(now.variants[1], timings=(), images=(), error="its process ended (-11)")
    now = msgspec.structs.replace(now, variants=(now.variants[0], failed))
    with pytest.raises(RegressionError, match=r"onnx-int8: its process ended \(-11\)"):
        check_regressions(EARLIER, [now])
