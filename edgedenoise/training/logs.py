"""The log of a run: rows in `log.csv`, and the same curves in TensorBoard when it is installed."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

from edgedenoise.files import atomic_file

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self


class RunLog:
    """Rows by step. Use it as a context manager."""

    seconds_before: float
    """Training time of the rows that were there when it was opened."""

    def __init__(self, run: Path, columns: tuple[str, ...], *, done: int) -> None:
        """Open the log of `run`, and drop what is beyond `done` finished steps: those steps are done again.

        Args:
            run: the run folder.
            columns: names of the numbers in a row, after `step` and `seconds`.
            done: number of steps that the checkpoint has; 0 begins a new log.
        """
        path = run / "log.csv"
        header = ["step", "seconds", *columns]
        rows = [row for row in _rows(path) if len(row) == len(header) and int(row[0]) <= done]
        self.seconds_before = float(rows[-1][1]) if rows else 0.0
        with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([header, *rows])
        self._columns = columns
        self._stream = path.open("a", newline="", encoding="utf-8")
        self._writer = csv.writer(self._stream)
        self._board = _board(run / "tensorboard", purge_step=done + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()
        if self._board is not None:
            self._board.close()

    def add(self, step: int, seconds: float, values: dict[str, float]) -> None:
        """Write the row of a finished step (counted from 1); it is on disk when this returns."""
        numbers = [values[column] for column in self._columns]
        self._writer.writerow([step, f"{seconds:.3f}", *(f"{number:.9g}" for number in numbers)])
        self._stream.flush()
        if self._board is not None:
            for column, number in zip(self._columns, numbers, strict=True):
                self._board.add_scalar(column, number, step)


def last_row(run: Path) -> dict[str, float]:
    """Return the last whole row of a run's log by column, or nothing when there is none."""
    rows = _rows(run / "log.csv", header=True)
    if len(rows) < 2:
        return {}
    whole = [row for row in rows[1:] if len(row) == len(rows[0])]
    return {name: float(value) for name, value in zip(rows[0], whole[-1], strict=True)} if whole else {}


def _rows(path: Path, *, header: bool = False) -> list[list[str]]:
    """Return the rows of a log, of which a kill may have cut the last one short."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    return list(csv.reader(whole.splitlines()))[0 if header else 1 :]


def _board(folder: Path, *, purge_step: int) -> Any:
    """Return TensorBoard's writer, or None when it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter  # type: ignore[attr-defined,unused-ignore]
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=purge_step)
