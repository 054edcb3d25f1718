"""Logs of a run: rows in a CSV file, and the same values in TensorBoard when it is installed."""

from __future__ import annotations

import csv
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import numpy as np

from edgedenoise.atomic import atomic_file, output_errors
from edgedenoise.errors import TrainingError
from edgedenoise.shell import quoted
from edgedenoise.system_errors import input_errors
from edgedenoise.training.loop.board import Board

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from typing_extensions import Self

LOG: Final = "log.csv"
"""File of the losses, every few steps."""
VALIDATION: Final = "validation.csv"
"""File of the validation results."""


class RunLog:
    """One log: rows by step. Use it as a context manager."""

    seconds_before: float
    """Training time of the rows that were in the file when it was opened."""

    def __init__(self, path: Path, columns: tuple[str, ...], *, done: int) -> None:
        """Open a log and drop rows beyond `done` finished steps, which are computed again.

        Args:
            path: CSV file in the run folder; the folder of TensorBoard is next to it.
            columns: names of the values in a row, after `step` and `seconds`.
            done: steps of the checkpoint; 0 for a new log.
        """
        header = ["step", "seconds", *columns]
        with _damage_reported(path):
            rows = [row for row in _rows(path) if len(row) == len(header) and int(row[0]) <= done]
            self.seconds_before = float(rows[-1][1]) if rows else 0.0
        with output_errors(path):
            with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
                csv.writer(stream).writerows([header, *rows])
            self._stream = path.open("a", newline="", encoding="utf-8")
        self._path, self._columns = path, columns
        self._writer = csv.writer(self._stream)
        self._board = Board(path.parent / "tensorboard", purge_step=done + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()
        self._board.close()

    def add(self, step: int, seconds: float, values: dict[str, float]) -> None:
        """Write the row of a finished step (counted from 1) and flush the file."""
        numbers = [values[column] for column in self._columns]
        with output_errors(self._path):
            self._writer.writerow([step, f"{seconds:.3f}", *(f"{number:.9g}" for number in numbers)])
            self._stream.flush()
        self._board.add(step, dict(zip(self._columns, numbers, strict=True)))


def read_columns(path: Path) -> dict[str, NDArray[np.float64]]:
    """Return a log by column, complete rows only; empty when there is no log or no row."""
    header, *rows = _rows(path, header=True) or [[]]
    whole = [row for row in rows if len(row) == len(header)]
    if not whole:
        return {}
    with _damage_reported(path):
        values = np.array([[float(number) for number in row] for row in whole])
    return dict(zip(header, values.T, strict=True))


def _rows(path: Path, *, header: bool = False) -> list[list[str]]:
    """Return the complete rows of a log; a kill may have truncated the last one."""
    if not path.is_file():
        return []
    with input_errors(path, TrainingError), _damage_reported(path):
        text = path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        return list(csv.reader(whole.splitlines()))[0 if header else 1 :]


@contextmanager
def _damage_reported(path: Path) -> Iterator[None]:
    """Report a log that is damaged; the run itself is in its checkpoints."""
    try:
        yield
    except (ValueError, csv.Error, OverflowError) as error:  # also a UnicodeDecodeError
        raise TrainingError(
            f"the log {path} is damaged: {error}", hint=f"The training goes on without it: {quoted('rm', path)}"
        ) from error
