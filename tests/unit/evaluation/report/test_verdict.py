"""The verdict recommends the fastest variant that keeps the quality of float, and states its price."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from reports import INT8_CHANGES_DB, run, variant

from edgedenoise.evaluation.report.summary import summarize_run
from edgedenoise.evaluation.report.verdict import Verdict, verdict
from edgedenoise.evaluation.results import NOISE, Check

if TYPE_CHECKING:
    from edgedenoise.evaluation.results import Run

FLOAT = variant("onnx-fp32", 200)
TOO_MUCH = (-0.3,) * 6
ONE_BAD = (0.0, 0.0, -0.55, 0.0, 0.0, 0.0)


def judged(found: Run) -> Verdict:
    return verdict(summarize_run(found))


def test_the_fastest_variant_within_the_limits_is_shipped() -> None:
    found = judged(run())
    assert found.variant == "openvino-int8"
    assert found.sentence == "Ship openvino-int8: 1.9x as fast as openvino-fp32 for 0.08 dB; worst image -0.30 dB."
    assert found.reasons == ()


def test_a_variant_that_gains_is_without_a_loss() -> None:
    found = judged(run(FLOAT, variant("onnx-int8", 100, (0.01,) * 6)))
    assert found.sentence == "Ship onnx-int8: 2.0x as fast as onnx-fp32 without a loss; worst image +0.01 dB."


@pytest.mark.parametrize(
    ("changes", "options", "reason"),
    [
        (TOO_MUCH, {}, "onnx-int8 is 2.00x as fast as onnx-fp32, but it loses 0.30 dB in the mean, more than 0.1 dB."),
        (ONE_BAD, {}, "onnx-int8 is 2.00x as fast as onnx-fp32, but it loses 0.55 dB on c.png, more than 0.3 dB."),
        (
            INT8_CHANGES_DB,
            {"not_recommended": "not recommended: 0.36 dB lost in the mean"},
            "onnx-int8 is 2.00x as fast as onnx-fp32, but 0.36 dB lost in the mean.",
        ),
    ],
)
def test_a_fast_variant_that_loses_too_much_is_passed_over_with_the_reason(
    changes: tuple[float, ...], options: dict[str, str], reason: str
) -> None:
    found = judged(run(FLOAT, variant("onnx-int8", 100, changes, **options)))  # type: ignore[arg-type]
    assert found.variant == "onnx-fp32"
    assert found.sentence.startswith("Ship onnx-fp32: float is the fastest variant that keeps the quality")
    assert found.reasons == (reason,)


def test_integers_that_are_not_faster_are_not_recommended() -> None:
    found = judged(run(FLOAT, variant("onnx-int8", 195, INT8_CHANGES_DB)))
    assert found.variant == "onnx-fp32"
    assert any("it is not faster than float here" in reason for reason in found.reasons)


def test_without_ground_truth_the_distance_to_float_decides() -> None:
    found = judged(run(FLOAT, variant("onnx-int8", 100, truth=False), truth=False))
    assert found.sentence == (
        "Ship onnx-int8: 2.0x as fast as onnx-fp32 with output 52.0 dB from float, at most 7 levels off."
    )
    assert "The images have no ground truth: quality is the distance to float." in found.reasons
    far = variant("onnx-int8", 100, (-6.0,) * 6, truth=False)
    assert judged(run(FLOAT, far, truth=False)).variant == "onnx-fp32"


def test_failures_and_conditions_are_part_of_the_verdict() -> None:
    nothing = judged(run(variant("onnx-fp32", 1, error="it is damaged")))
    assert (nothing.variant, nothing.sentence) == ("", "No variant could be measured on this device.")
    busy = judged(run(contended=True, throttled=True))
    assert [reason.split(":")[0] for reason in busy.reasons] == [
        "Other work ran on this machine",
        "The machine lowered its clocks because of heat or a power limit.",
    ]
    assert judged(run(contended=True, remarks=["Work waited."])).reasons == ("Work waited.",)


def with_noise(found: Run, *noise_lsb: float) -> Run:
    images = [
        msgspec.structs.replace(image, measures={**image.measures, NOISE: level})
        for image, level in zip(found.images, noise_lsb, strict=True)
    ]
    return msgspec.structs.replace(found, images=tuple(images))


def test_images_that_run_in_float_do_not_count_against_integers() -> None:
    integers = variant("onnx-int8", 100, (-0.5, -0.02, -0.5, -0.02, -0.02, -0.5), least_noise_lsb=7.0)
    found = judged(with_noise(run(FLOAT, integers), 2, 9, 3, 8, 7, 1))
    assert found.sentence == "Ship onnx-int8: 2.0x as fast as onnx-fp32 for 0.02 dB; worst image -0.02 dB."
    (note,) = found.reasons
    assert note == (
        "denoise takes onnx-int8 for images with a noise of 7 LSB or more, and float for others."
        " Its change is over 3 of 6 images."
    )


def test_integers_that_no_image_calls_for_are_not_recommended() -> None:
    integers = variant("onnx-int8", 100, INT8_CHANGES_DB, least_noise_lsb=7.0)
    found = judged(with_noise(run(FLOAT, integers), 2, 1, 3, 2, 2, 1))
    assert found.variant == "onnx-fp32"
    assert found.reasons[0].endswith("but no image here has the noise of 7 LSB that it is recommended from.")


def only_timed(found: Run, *arguments: str) -> Run:
    variants = [msgspec.structs.replace(one, images=()) for one in found.variants]
    return msgspec.structs.replace(found, images=(), variants=tuple(variants), arguments=arguments)


def test_a_variant_of_unknown_quality_is_not_shipped_and_the_missing_command_is_named() -> None:
    found = judged(
        only_timed(run(), "bench", "my bundle.edge", "--install", "--threads", "1", "--on", "ssh://pi@board:22")
    )
    assert found.variant == ""
    assert found.sentence == (
        "No recommendation yet: the quality of openvino-int8, 1.9x as fast as openvino-fp32, was not measured on this"
        " device."
    )
    assert found.command == (
        "edgedenoise compare 'edge & co' --noisy NOISY --clean CLEAN -o results.json --install --on ssh://pi@board:22"
    )


def test_a_loss_that_the_test_of_a_bundle_measured_is_enough() -> None:
    def judge(*, passed: bool) -> Verdict:
        loss = Check(name="max_drop_db", passed=passed, variant="openvino-int8", value=0.04, limit=0.1)
        timed = msgspec.structs.replace(only_timed(run()), checks=(loss,))
        return verdict(summarize_run(timed, timed))

    assert judge(passed=True).sentence == (
        "Ship openvino-int8: 1.9x as fast as openvino-fp32 for 0.04 dB, as edgedenoise test measured."
    )
    assert judge(passed=False).variant == ""


def test_a_variant_that_failed_a_check_on_the_device_is_not_shipped() -> None:
    failed = Check(name="max_error_lsb", passed=False, variant="openvino-int8", value=40, limit=32, message="40 levels")
    tested = msgspec.structs.replace(run(), checks=(failed,))
    found = verdict(summarize_run(run(), tested))
    assert found.variant == "onnx-int8"
    assert "but it failed the check max_error_lsb: 40 levels." in found.reasons[0]


def test_float_that_is_the_fastest_needs_no_measure_of_quality() -> None:
    found = judged(only_timed(run(FLOAT, variant("onnx-int8", 210))))
    assert (found.variant, found.sentence[:15]) == ("onnx-fp32", "Ship onnx-fp32:")
