"""Limits that a bundle has to keep, and whether it kept them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import msgspec

from edgedenoise.bundles.manifest import Limits
from edgedenoise.errors import EdgeDenoiseError, LimitError, MeasurementError
from edgedenoise.evaluation.results import Check, Run
from edgedenoise.printable import one_line
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_MAX_ERROR_LSB = 32.0
"""Accepted difference to the float output in 8-bit levels where no other limit is given.

The shipped bundles differ by 11 and 12 levels on their self-test; a difference of 40 is visible."""
WORST_FACTOR = 3
"""How many times the mean loss a single image may lose, as in `quantize --max-drop`."""

Status = Literal["passed", "failed", "not run"]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One check of a bundle."""

    name: str
    """What was checked, for example `selftest` or `max_drop_db`."""
    variant: str = ""
    """Empty for a check of the whole bundle."""
    status: Status
    message: str
    """What was measured and demanded, or why nothing was."""
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    at_least: bool = False
    """Whether the value must be at least the limit; otherwise at most."""
    image: str = ""
    """The image that decided, where there is one."""
    seconds: float = 0.0
    """Time that the check took."""

    @property
    def line(self) -> str:
        """The check on one line."""
        return one_line(f"{self.status:<7}  {' '.join([self.variant, self.name]).strip()}: {self.message}")

    @property
    def check(self) -> Check:
        """The check as a result file holds it."""
        return Check(
            name=self.name,
            passed=self.status == "passed",
            value=self.value,
            limit=self.limit,
            unit=self.unit,
            at_least=self.at_least,
            variant=self.variant,
            image=self.image,
            message=self.message,
        )


class LimitsReport(msgspec.Struct, frozen=True, kw_only=True):
    """All checks of a bundle."""

    bundle: str
    limits: Limits
    """Limits that were checked: those that were given, then those of the bundle."""
    outcomes: tuple[Outcome, ...]
    run: Run
    """The checks, the machine and the samples, as a result file holds them."""

    @property
    def passed(self) -> bool:
        """Whether no check failed, and at least one variant was run."""
        return not self.failures and any(one.status == "passed" and one.variant for one in self.outcomes)

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """The checks that failed."""
        return tuple(one for one in self.outcomes if one.status == "failed")

    @property
    def error(self) -> EdgeDenoiseError | None:
        """A `LimitError` where a check failed, a `MeasurementError` where no variant could be run here, or None."""
        if self.failures:
            lines = [f"  {' '.join([one.variant, one.name]).strip()}: {one.message}" for one in self.failures]
            count = f"{len(lines)} of {len(self.outcomes)} checks of {self.bundle} failed:"
            return LimitError("\n".join([count, *lines]))
        if not self.passed:
            return MeasurementError(
                f"no variant of {self.bundle} could be run here, so nothing was tested",
                hint=f"See what is missing with: edgedenoise doctor; {command_line('verify', self.bundle)}",
            )
        return None


def merged(given: Limits, own: Limits | None) -> Limits:
    """Return the given limits, completed by those of a bundle and the default for 8-bit levels."""
    base = own or Limits()
    values = {
        name: getattr(base, name) if getattr(given, name) is None else getattr(given, name)
        for name in Limits.__struct_fields__
    }
    if values["max_error_lsb"] is None:
        values["max_error_lsb"] = DEFAULT_MAX_ERROR_LSB
    return Limits(**values)


def decibels(value: float) -> str:
    """Return a PSNR as text; infinite for equal images."""
    return f"{value:.1f} dB" if math.isfinite(value) else "equal"


def at_least(name: str, variant: str, value: float, limit: float, unit: str, message: str, image: str = "") -> Outcome:
    """Return the outcome of a value that has to reach a limit."""
    return Outcome(
        name=name, variant=variant, status="passed" if value >= limit else "failed", limit=limit, unit=unit,
        value=value if math.isfinite(value) else None, message=f"{message}; expected at least {limit:g} {unit}",
        at_least=True, image=image,
    )  # fmt: skip


def at_most(name: str, variant: str, value: float, limit: float, unit: str, message: str, image: str = "") -> Outcome:
    """Return the outcome of a value that may not exceed a limit."""
    return Outcome(
        name=name, variant=variant, status="passed" if value <= limit else "failed", value=value, limit=limit,
        unit=unit, message=f"{message}; expected at most {limit:g} {unit}", image=image,
    )  # fmt: skip


def max_drop(variant: str, drops: Mapping[str, float], limit: float, which: str) -> Outcome:
    """Return the outcome of losses of PSNR: the mean is held to the limit, and one image to `WORST_FACTOR` times it.

    Args:
        variant: name of the variant.
        drops: loss of each image in dB; at least one.
        limit: largest mean loss in dB.
        which: which images these are, for people.
    """
    mean, worst = sum(drops.values()) / len(drops), max(drops, key=lambda image: drops[image])
    message = f"{mean:.3f} dB lost in the mean of {which}, {drops[worst]:.3f} dB on {worst}"
    if mean <= limit < drops[worst] / WORST_FACTOR:
        return at_most("max_drop_db", variant, drops[worst], WORST_FACTOR * limit, "dB", message, worst)
    return at_most("max_drop_db", variant, mean, limit, "dB", message, worst)


def not_run(name: str, variant: str, message: str) -> Outcome:
    """Return the outcome of a check for which nothing was measured."""
    return Outcome(name=name, variant=variant, status="not run", message=message)
