"""What this machine can run, what is missing, and the exact command that would fix it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edgedenoise.errors import RuntimeUnavailableError
from edgedenoise.evaluation.environment import Environment, environment
from edgedenoise.exporting.targets import all_targets, runtime_of

if TYPE_CHECKING:
    from edgedenoise.exporting.targets import Target


class TargetStatus(msgspec.Struct, frozen=True):
    """Whether a target can be used here."""

    target: str
    runs_on: str
    available: bool
    version: str | None
    devices: tuple[str, ...]
    reason: str | None
    """Why not; None when available."""
    command: str | None
    """What would make it available; None when nothing to do, or nothing that this version knows."""


class Diagnosis(msgspec.Struct, frozen=True):
    """The machine and every target."""

    environment: Environment
    targets: tuple[TargetStatus, ...]


def diagnose() -> Diagnosis:
    """Look at this machine; opens no model.

    Raises:
        UsageError: a third party's entry point does not name a target.
    """
    return Diagnosis(environment(), tuple(_status(target) for target in all_targets()))


def _status(target: Target) -> TargetStatus:
    try:
        found = runtime_of(target).probe()
    except RuntimeUnavailableError as error:
        return TargetStatus(target.name, target.runs_on, False, None, (), error.message, error.hint)
    return TargetStatus(
        target.name,
        target.runs_on,
        found.available,
        found.version,
        found.devices,
        found.reason,
        found.command,
    )
