"""Progress bars on the standard error, one per stage."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from edgedenoise.printable import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Task

    from edgedenoise.progress import Progress


class Clock(ProgressColumn):
    """The time left, then the time that a stage took; nothing below a second."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """Return the text for a stage."""
        if task.finished:
            return Text(_time("took {}", task.finished_time))
        return Text(_time("{} left", task.time_remaining))


def _time(text: str, seconds: float | None) -> str:
    return text.format(timedelta(seconds=int(seconds))) if seconds is not None and seconds >= 1 else ""


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Show a bar per stage with the time left, from the first report to the end of the block."""
    bars = Bars(
        TextColumn("{task.description:<16}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Clock(),
        TextColumn("{task.fields[note]}", markup=False),  # may be the name of any file
        console=Console(stderr=True),
    )
    tasks: dict[str, Any] = {}

    def report(stage: str, done: int, total: int, note: str = "") -> None:
        bars.start()
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=total, note=note)
        elif done == 0:  # the stage begins again, for the next image or target
            bars.reset(tasks[stage], total=total)
        bars.update(tasks[stage], completed=done, total=total, note=one_line(note))

    try:
        yield report
    finally:
        if tasks:  # without any, rich would write an empty line
            bars.stop()
