"""Progress of long work: one callback, called with (stage, done, total, note).

Library functions take a `Progress` and default to `silent`. The command line shows a bar per stage with the time left.
"""

from __future__ import annotations

import json
from typing import NamedTuple, Protocol

JSON_PROGRESS = "EDGEDENOISE_PROGRESS"
"""Environment variable; with the value `json`, commands write their progress as lines of JSON for programs."""


class Progress(Protocol):
    """Callback of long work; `done` runs from 0 to `total`, and a stage ends at `done == total`."""

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Report that `done` of `total` units of `stage` are finished; `note` is a short live reading."""


def silent(stage: str, done: int, total: int, note: str = "") -> None:
    """Report nothing."""


class Reading(NamedTuple):
    """The arguments of one call of a `Progress`."""

    stage: str
    done: int
    total: int
    note: str = ""


def progress_line(reading: Reading) -> str:
    """Return a reading as one line of JSON.

    Example:
        >>> progress_line(Reading("measure", 1, 20))
        '{"progress": ["measure", 1, 20, ""]}'
    """
    return json.dumps({"progress": reading})


def parse_progress(line: str) -> Reading | None:
    """Return the reading of a line that `progress_line` made, or None for any other line.

    Example:
        >>> parse_progress('{"progress": ["measure", 1, 20, ""]}')
        Reading(stage='measure', done=1, total=20, note='')
        >>> parse_progress("warning: 1 image is small") is None
        True
    """
    if not line.startswith('{"progress": ['):
        return None
    try:
        stage, done, total, note = json.loads(line)["progress"]
        return Reading(str(stage), int(done), int(total), str(note))
    except (ValueError, TypeError):
        return None
