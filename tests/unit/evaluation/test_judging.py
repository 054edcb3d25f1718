"""Results of other programs are judged like those of `edgedenoise test`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from result_runs import made_run

from edgedenoise.bundles.manifest import Limits
from edgedenoise.evaluation.judging import judge
from edgedenoise.evaluation.results import ImageDistance, ImageQuality, ImageResult, LatencySamples, SelfTest

if TYPE_CHECKING:
    from edgedenoise.evaluation.limits import Outcome
    from edgedenoise.evaluation.results import Run


def run_with(**changes: Any) -> Run:
    """Return a run of a float and an INT8 variant; `changes` are fields of the INT8 variant."""
    run = made_run(1, (5.0, 6.0, 7.0))
    float_, integers = run.variants
    return msgspec.structs.replace(run, variants=(float_, msgspec.structs.replace(integers, **changes)))


def outcome(run: Run, name: str, **limits: float) -> Outcome:
    """Return one outcome of the INT8 variant."""
    return next(one for one in judge(run, Limits(**limits)) if one.variant == "onnx-int8" and one.name == name)


def test_the_median_of_calls_is_judged() -> None:
    assert outcome(run_with(), "max_ms", max_ms=6.0).status == "passed"
    slow = outcome(run_with(), "max_ms", max_ms=5.9)
    assert (slow.status, slow.value, slow.limit, slow.unit) == ("failed", 6.0, 5.9, "ms")


def test_the_network_is_judged_where_no_call_was_timed() -> None:
    timing = LatencySamples(scope="network", height_px=256, width_px=256, samples_ms=(8.0,))
    found = outcome(run_with(timings=(timing,)), "max_ms", max_ms=7.0)
    assert (found.status, found.value) == ("failed", 8.0)
    assert "the network alone at 256x256" in found.message
    assert outcome(run_with(timings=()), "max_ms", max_ms=7.0).status == "not run"


@pytest.mark.parametrize(
    ("selftest", "status"),
    [
        (None, "not run"),
        (SelfTest(passed=True, psnr_db=50, limit_db=40), "passed"),
        (SelfTest(passed=True, psnr_db=None, limit_db=40), "passed"),
        (SelfTest(passed=True), "passed"),
        (SelfTest(passed=False, psnr_db=50, limit_db=40), "failed"),
        (SelfTest(passed=True, psnr_db=30, limit_db=40), "failed"),
    ],
)
def test_the_samples_of_a_self_test_decide(selftest: SelfTest | None, status: str) -> None:
    """A program that says `passed` below the limit is not believed."""
    assert outcome(run_with(selftest=selftest), "selftest").status == status


def test_distances_are_judged_on_the_worst_image() -> None:
    images = tuple(
        ImageResult(image=name, to_float=ImageDistance(psnr_db=psnr, max_error_lsb=error))
        for name, psnr, error in (("a", 50.0, 3.0), ("b", 40.0, 9.0))
    )
    run = run_with(images=images)
    assert (
        outcome(run, "max_error_lsb", max_error_lsb=8).image,
        outcome(run, "min_psnr_db", min_psnr_db=39).status,
    ) == (
        "b",
        "passed",
    )
    assert outcome(run, "max_error_lsb", max_error_lsb=8).status == "failed"
    assert outcome(run, "min_psnr_db", min_psnr_db=41).status == "failed"
    assert outcome(run_with(images=()), "min_psnr_db", min_psnr_db=41).status == "not run"


def test_the_loss_is_that_against_the_float_variant() -> None:
    images = (ImageResult(image="a.png", quality=ImageQuality(psnr_db=29.8)),)
    assert outcome(run_with(images=images), "max_drop_db", max_drop_db=0.3).status == "passed"
    lost = outcome(run_with(images=images), "max_drop_db", max_drop_db=0.1)
    assert lost.status == "failed"
    assert lost.value == pytest.approx(0.2)
    assert outcome(run_with(images=()), "max_drop_db", max_drop_db=0.1).status == "not run"


def test_an_error_of_a_variant_is_a_failure() -> None:
    (found,) = (one for one in judge(run_with(error="no memory"), Limits(max_ms=9)) if one.variant == "onnx-int8")
    assert (found.status, found.message) == ("failed", "no memory")
