"""The verdict of a report: which variant to ship on a device, and what it costs, in one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgedenoise.bundles.manifest import MOST_MEAN_LOSS_DB, MOST_WORST_LOSS_DB
from edgedenoise.evaluation.report.summary import suited_images
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from edgedenoise.evaluation.report.summary import DeviceSummary, VariantSummary
    from edgedenoise.evaluation.results import Run

LEAST_TO_FLOAT_DB = 48.0
"""PSNR to float that it must have where there is no ground truth: an error of about one 8-bit level."""
LEAST_SPEED = 1.05
"""Speed that INT8 must have against the fastest float variant to be worth its loss."""
_FEW_IMAGES = 5
_NO_LOSS_DB = 0.005


@dataclass(frozen=True)
class Verdict:
    """What to ship on a device."""

    variant: str
    """Name of the recommended variant; empty when none can be recommended."""
    sentence: str
    """The recommendation with its price."""
    reasons: tuple[str, ...]
    """Why faster variants are not recommended, and what limits the measurement; one sentence each."""
    command: str = ""
    """Command that measures what is missing for a recommendation; empty where nothing is."""


def verdict(device: DeviceSummary) -> Verdict:
    """Return the recommendation for a device: the fastest variant that keeps the quality of float.

    Example:
        >>> from edgedenoise.evaluation.compare import compare
        >>> from edgedenoise.evaluation.report.summary import summarize_run
        >>> found = verdict(summarize_run(compare("mine.edge", "photos", "clean", repeats=3).run))
        >>> found.sentence.startswith("Ship onnx-")
        True
    """
    timed = device.measured()
    if not timed:
        return Verdict("", "No variant could be measured on this device.", ())
    refused = {one.name: reason for one in timed if (reason := _refusal(one, device))}
    accepted = [one for one in timed if one.name not in refused]
    notes = _limits(device)
    if not accepted:
        reasons = tuple(f"{name}: {reason}." for name, reason in refused.items())
        return Verdict("", "No variant can be recommended on this device.", (*reasons, *notes))
    best = accepted[0]
    known = best.change is not None or best.to_float_db is not None or _tested_loss(best, device) is not None
    if not best.is_float and not known:
        return _unknown_quality(best, device, notes)
    faster = [one for one in timed[: timed.index(best)] if one.name in refused]
    reasons = tuple(f"{one.name} {_speed(one)}, but {refused[one.name]}." for one in faster)
    if best.is_float:
        reasons += tuple(f"{one.name} {_speed(one)}." for one in accepted[1:] if not one.is_float)
    return Verdict(best.name, _sentence(best, device), reasons + notes)


def _tested_loss(one: VariantSummary, device: DeviceSummary) -> float | None:
    """Return the mean loss against float, in dB, that `edgedenoise test` found within its limit; None for unknown."""
    found = [check for check in device.checks if (check.variant, check.name) == (one.name, "max_drop_db")]
    return found[0].value if found and found[0].passed else None


def _unknown_quality(best: VariantSummary, device: DeviceSummary, notes: tuple[str, ...]) -> Verdict:
    """Return the verdict where the fastest variant is an INT8 one that was timed and nothing else."""
    fast = "" if best.speed is None else f", {best.speed:.1f}x as fast as {best.compared_with}"
    sentence = f"No recommendation yet: the quality of {best.name}{fast}, was not measured on this device."
    source = device.run.bundle.source or device.run.bundle.name
    command = command_line(
        "compare", source, "--noisy", "NOISY", "--clean", "CLEAN", "-o", "results.json", *_device_options(device.run)
    )
    missing = "Measure it on your noisy images and their ground truth, then write the report of all results again."
    return Verdict("", sentence, (missing, *notes), command)


def _device_options(run: Run) -> list[str]:
    """Return the options of a run's command line that name the device and its Python."""
    found, arguments = [], iter(run.arguments)
    for word in arguments:
        if word == "--install":
            found.append(word)
        elif word in ("--on", "--remote-python", "--wheels"):
            found += [word, next(arguments, "")]
    return found


def _refusal(one: VariantSummary, device: DeviceSummary) -> str:
    """Return why a variant is not recommended whatever its speed; empty when nothing speaks against it."""
    run = device.run
    failed = [check for check in device.checks if check.variant == one.name and not check.passed]
    if failed:
        return f"it failed the check {failed[0].name}: {failed[0].message}"
    if one.result.not_recommended:
        return one.result.not_recommended.removeprefix("not recommended: ")
    if any(not image.finite for image in one.result.images):
        return "a result has NaN or infinity"
    if one.is_float:
        return ""
    if one.speed is not None and one.speed < LEAST_SPEED:
        return "it is not faster than float here"
    if run.images and not suited_images(run, one.result):
        return f"no image here has the noise of {one.result.least_noise_lsb:g} LSB that it is recommended from"
    change = one.change
    if change is not None:
        if change.mean_db < -MOST_MEAN_LOSS_DB:
            return f"it loses {-change.mean_db:.2f} dB in the mean, more than {MOST_MEAN_LOSS_DB} dB"
        if change.worst_db < -MOST_WORST_LOSS_DB:
            return f"it loses {-change.worst_db:.2f} dB on {change.worst_image}, more than {MOST_WORST_LOSS_DB} dB"
    elif one.to_float_db is not None and one.to_float_db < LEAST_TO_FLOAT_DB:
        return f"its output is {one.to_float_db:.1f} dB from float, less than {LEAST_TO_FLOAT_DB:.0f} dB"
    return ""


def _sentence(best: VariantSummary, device: DeviceSummary) -> str:
    if best.is_float:
        gain = device.has_truth and "psnr_db" in best.means
        what = "float is the fastest variant that keeps the quality"
        gained = f"; it gains {best.means['psnr_db'] - device.noisy['psnr_db']:.2f} dB over the input" if gain else ""
        return f"Ship {best.name}: {what}{gained}."
    parts = []
    if best.speed is not None:
        parts.append(f"{best.speed:.1f}x as fast as {best.compared_with}")
    if best.change is not None:
        loss = -best.change.mean_db
        price = f"for {loss:.2f} dB" if loss >= _NO_LOSS_DB else "without a loss"
        parts.append(f"{price}; worst image {best.change.worst_db:+.2f} dB")
    elif (loss_db := _tested_loss(best, device)) is not None:
        price = f"for {loss_db:.2f} dB" if loss_db >= _NO_LOSS_DB else "without a loss"
        parts.append(f"{price}, as edgedenoise test measured")
    elif best.to_float_db is not None:
        error = f"at most {best.max_error_lsb:.0f} levels off" if best.max_error_lsb is not None else ""
        parts.append(f"with output {best.to_float_db:.1f} dB from float, {error}".rstrip(", "))
    return f"Ship {best.name}: {' '.join(parts)}."


def _speed(one: VariantSummary) -> str:
    if one.speed is None:
        return f"takes {one.p50:.0f} ms per megapixel"
    return f"is {one.speed:.2f}x as fast as {one.compared_with}"


def _suited(one: VariantSummary, run: Run) -> str:
    """Return for which images a variant is recommended; empty where for all, or where for none of the run."""
    least, count = one.result.least_noise_lsb, len(suited_images(run, one.result))
    if not least or (run.images and not count):
        return ""
    counted = f" Its change is over {count} of {len(run.images)} images." if count else ""
    return f"denoise takes {one.name} for images with a noise of {least:g} LSB or more, and float for others.{counted}"


def _limits(device: DeviceSummary) -> tuple[str, ...]:
    """Return what limits the trust in the numbers."""
    environment = device.run.environment
    found = [*environment.remarks, *filter(None, (_suited(one, device.run) for one in device.measured()))]
    if environment.contended and not environment.remarks:
        found.append("Other work ran on this machine: the ratios hold better than the milliseconds.")
    if environment.throttled and not environment.remarks:
        found.append("The machine lowered its clocks because of heat or a power limit.")
    if device.run.images and not device.has_truth:
        found.append("The images have no ground truth: quality is the distance to float.")
    if 0 < len(device.run.images) < _FEW_IMAGES:
        count = len(device.run.images)
        found.append(f"Only {count} image{'s were' if count > 1 else ' was'} compared: use {_FEW_IMAGES} or more.")
    return tuple(found)
