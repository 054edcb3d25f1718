"""Progress of long work: one callback, called with (stage, done, total, note).

Library functions take a `Progress` and default to `silent`. The command line shows a bar per stage with the time left.
"""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Callback of long work; `done` runs from 0 to `total`, and a stage ends at `done == total`."""

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Report that `done` of `total` units of `stage` are finished; `note` is a short live reading."""


def silent(stage: str, done: int, total: int, note: str = "") -> None:
    """Report nothing."""
