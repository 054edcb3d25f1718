"""Judge a measurement that another program made, such as a browser, by the same limits as `edgedenoise test`."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from edgedenoise.evaluation.limits import Outcome, at_least, at_most, decibels, max_drop, not_run
from edgedenoise.evaluation.results import CALL, NETWORK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedenoise.bundles.manifest import Limits
    from edgedenoise.evaluation.results import ImageResult, Run, VariantResult


def judge(run: Run, limits: Limits) -> tuple[Outcome, ...]:
    """Check the results of a run against limits.

    The samples decide, and not what the program itself says about limits.

    Args:
        run: what was measured. Its variants are of any runtime.
        limits: those that are None are not checked. The time is that of a call, or of the network alone where the
            program timed no call.

    Returns:
        For each variant one outcome per limit, and the self-test. What was not measured is `not run`; an error of a
        variant is a failure.

    Example:
        >>> import edgedenoise
        >>> from edgedenoise.bundles.manifest import Limits
        >>> from edgedenoise.evaluation.judging import judge
        >>> run = edgedenoise.bench("edge-tiny", shape=64, repeats=2).run
        >>> [outcome.name for outcome in judge(run, Limits(max_ms=10_000))]
        ['selftest', 'max_ms', 'selftest', 'max_ms']
    """
    return tuple(outcome for variant in run.variants for outcome in _of_variant(variant, run, limits))


def _of_variant(variant: VariantResult, run: Run, limits: Limits) -> list[Outcome]:
    if variant.error:
        return [Outcome(name="selftest", variant=variant.name, status="failed", message=variant.error)]
    outcomes = [_selftest(variant)]
    if limits.max_error_lsb is not None:
        outcomes.append(_error(variant, limits.max_error_lsb))
    if limits.min_psnr_db is not None:
        outcomes.append(_psnr(variant, limits.min_psnr_db))
    if limits.max_drop_db is not None:
        outcomes.append(_drop(variant, run, limits.max_drop_db))
    if limits.max_ms is not None:
        outcomes.append(_time(variant, limits.max_ms))
    return outcomes


def _selftest(variant: VariantResult) -> Outcome:
    found = variant.selftest
    if found is None:
        return not_run("selftest", variant.name, "the program did not run it")
    value = float("inf") if found.psnr_db is None else found.psnr_db
    if not found.passed:
        reason = found.reason or f"output to the float output: {decibels(value)}"
        return Outcome(name="selftest", variant=variant.name, status="failed", message=reason)
    if found.limit_db is None:
        return Outcome(name="selftest", variant=variant.name, status="passed", message=decibels(value))
    message = f"output to the float output: {decibels(value)}"
    return at_least("selftest", variant.name, value, found.limit_db, "dB", message)


def _distances(variant: VariantResult) -> list[ImageResult]:
    return [one for one in variant.images if one.to_float is not None]


def _error(variant: VariantResult, limit: float) -> Outcome:
    found = {one.image: one.to_float.max_error_lsb for one in _distances(variant) if one.to_float is not None}
    if not found and variant.selftest is not None and variant.selftest.max_error_lsb is not None:
        found = {"the image of the self-test": variant.selftest.max_error_lsb}
    if not found:
        return not_run("max_error_lsb", variant.name, "no distance to the float output was measured")
    image = max(found, key=lambda name: found[name])
    message = f"{found[image]:.3g} 8-bit levels from float on {image}"
    return at_most("max_error_lsb", variant.name, found[image], limit, "LSB", message, image)


def _psnr(variant: VariantResult, limit: float) -> Outcome:
    found = {
        one.image: float("inf") if one.to_float.psnr_db is None else one.to_float.psnr_db
        for one in _distances(variant)
        if one.to_float is not None
    }
    if not found and variant.selftest is not None and variant.selftest.passed:
        psnr = variant.selftest.psnr_db
        found = {"the image of the self-test": float("inf") if psnr is None else psnr}
    if not found:
        return not_run("min_psnr_db", variant.name, "no distance to the float output was measured")
    image = min(found, key=lambda name: found[name])
    message = f"{decibels(found[image])} to float on {image}"
    return at_least("min_psnr_db", variant.name, found[image], limit, "dB", message, image)


def _drop(variant: VariantResult, run: Run, limit: float) -> Outcome:
    reference = run.variant(variant.compared_with) if variant.compared_with else None
    before = {} if reference is None else _quality(reference.images)
    after = _quality(variant.images)
    drops = {image: before[image] - after[image] for image in after if image in before}
    if not drops:
        why = "it is a float variant" if reference is None else "no quality against ground truth was measured"
        return not_run("max_drop_db", variant.name, why)
    return max_drop(variant.name, drops, limit, f"{len(drops)} images")


def _quality(images: Sequence[ImageResult]) -> dict[str, float]:
    return {
        one.image: one.quality.psnr_db for one in images if one.quality is not None and one.quality.psnr_db is not None
    }


def _time(variant: VariantResult, limit: float) -> Outcome:
    timing = variant.timing(CALL) or variant.timing(NETWORK)
    if timing is None or not timing.samples_ms:
        return not_run("max_ms", variant.name, "nothing was timed")
    value = median(timing.samples_ms)
    what = "a call" if timing.scope == CALL else "the network alone"
    message = f"{value:.4g} ms for {what} at {timing.height_px}x{timing.width_px}"
    return at_most("max_ms", variant.name, value, limit, "ms", message)
