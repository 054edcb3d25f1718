"""Where a command writes: results to the standard output; progress, notes and errors to the standard error.

With `--json` the standard output holds exactly one JSON value, the result or the error; commands that work on many
files write one JSON value per line. With `--quiet` nothing is written but errors, and JSON where it is asked for.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import typer

from edgedenoise.errors import EdgeDenoiseError, OutputError, UsageError
from edgedenoise.printable import paragraph, printable, printable_json, utf8
from edgedenoise.progress import JSON_PROGRESS, Reading, progress_line, silent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgedenoise.progress import Progress


@dataclass(frozen=True)
class Output:
    """Streams of one command."""

    as_json: bool
    quiet: bool

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Show a bar per stage with the time left, unless quiet."""
        if self.quiet:
            yield silent
            return
        if os.environ.get(JSON_PROGRESS) == "json":
            yield _write_reading
            return
        from edgedenoise.cli.bars import progress_bars  # rich takes longer to import than all commands

        with progress_bars() as report:
            yield report

    def note(self, text: str) -> None:
        """Write a note to the standard error, unless quiet."""
        if not self.quiet:
            typer.echo(printable(text), err=True)

    def result(self, value: object, text: str) -> None:
        """Write a command's result: `value` as JSON, or `text` for people unless quiet."""
        if self.as_json:
            self._write_json(value)
        elif text:
            self.message(text)

    def message(self, text: str) -> None:
        """Write text for people, unless quiet or where JSON is asked for."""
        if not self.as_json and not self.quiet:
            _to_standard_output(printable(text))

    def record(self, value: object) -> None:
        """Write one line of JSON, where JSON is asked for."""
        if self.as_json:
            self._write_json(value, indent=None)

    def failures(self, errors: Sequence[EdgeDenoiseError]) -> None:
        """Write the errors of some images, which are part of the result in JSON; a hint once, after its last error."""
        if self.as_json:
            return
        last = {error.hint: number for number, error in enumerate(errors)}
        for number, error in enumerate(errors):
            _to_standard_error(error, with_hint=last[error.hint] == number)

    def error(self, error: EdgeDenoiseError, *, name: str = "", exit_code: int | None = None) -> None:
        """Write the error that ends a command.

        Args:
            error: message, hint and further fields.
            name: name of the error's class; default: the class of `error`.
            exit_code: exit code of the command; default: the one of `error`.
        """
        if not self.as_json:
            _to_standard_error(error)
            return
        fields = {"record": "error", **_error_fields(error)}
        fields["error"] = name or fields["error"]
        fields["exit_code"] = exit_code or fields["exit_code"]
        try:
            self._write_json(fields, indent=None)
        except OutputError as full:
            _to_standard_error(error)
            _to_standard_error(full)

    def _write_json(self, value: object, indent: int | None = 2) -> None:
        plain = _encodable(msgspec.to_builtins(value, enc_hook=_plain))
        data = msgspec.json.encode(plain)  # infinity becomes null, because JSON has none
        text = data if indent is None else msgspec.json.format(data, indent=indent)
        _to_standard_output(printable_json(text.decode()))


@dataclass(frozen=True)
class _StandardOutput:
    """Writes bytes to the descriptor of the standard output."""

    descriptor: int

    def write(self, data: bytes) -> int:
        """Write bytes and return how many of them were taken."""
        with _output_errors():
            return os.write(self.descriptor, data)


@contextmanager
def binary_standard_output() -> Iterator[_StandardOutput]:
    """Yield the standard output for bytes; what libraries print meanwhile goes to the standard error.

    Raises:
        UsageError: it is a terminal.
        OutputError: it is a file on a full disk, or closed.
    """
    if sys.stdout.isatty():
        raise UsageError(
            "the standard output is a terminal: expected a file or another program, because images are binary",
            hint="Send it to a file with > or to a program with |, or name a file after -o.",
        )
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield _StandardOutput(kept)
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _write_reading(stage: str, done: int, total: int, note: str = "") -> None:
    """Write a progress as a line of JSON, for a program that has asked for it."""
    typer.echo(progress_line(Reading(stage, done, total, note)), err=True)


def _to_standard_output(text: str) -> None:
    """Write to the standard output.

    Raises:
        OutputError: it is a file on a full disk, or closed.
    """
    with _output_errors():
        typer.echo(text)


@contextmanager
def _output_errors() -> Iterator[None]:
    """Translate errors of the system that occur while the standard output is written."""
    try:
        yield
    except BrokenPipeError:  # its reader has seen enough, which is no error
        raise
    except OSError as error:
        raise OutputError(
            f"the standard output cannot be written: {error.strerror or error}",
            hint="Free some space, or send the output to another file.",
        ) from error


def _to_standard_error(error: EdgeDenoiseError, *, with_hint: bool = True) -> None:
    typer.echo(f"error: {paragraph(error.message)}", err=True)
    if error.hint and with_hint:
        typer.echo(paragraph(error.hint), err=True)


def _plain(value: object) -> object:
    """Return what msgspec cannot encode as something that it can."""
    if isinstance(value, EdgeDenoiseError):
        return _error_fields(value)
    return str(value)


def _error_fields(error: EdgeDenoiseError) -> dict[str, Any]:
    """Return the fields that an error has in Python, with the name of its class and its exit code."""
    return {"error": type(error).__name__, **vars(error), "exit_code": error.exit_code}


def _encodable(value: Any) -> Any:
    """Return a value whose texts are valid UTF-8; bytes of file names that are not are escaped."""
    if isinstance(value, str):
        return utf8(value)
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(item) for item in value]
    return value
