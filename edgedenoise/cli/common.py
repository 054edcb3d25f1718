"""What every command shares: `--json`, `-v/-q`, `--debug`, progress bars, and errors as one message with an exit code.

The standard output carries results only (with `--json` nothing but JSON); progress, warnings and errors go to the
standard error.
"""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from edgedenoise.errors import EdgeDenoiseError, UsageError
from edgedenoise.extras import missing_package
from edgedenoise.progress import silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edgedenoise.progress import Progress

ABOUT = "Markdown file for the model card: data and their licence, measured quality."
NOISE_LEVEL = "Add synthetic camera noise to clean images: 0 (lowest ISO) to 1 (highest), up to 1.25; repeatable."

INTERNAL_ERROR = 1
INTERRUPTED = 130  # 128 + SIGINT, as shells count


def text_of(path: Path | None) -> str:
    """Read a text that an option names, or nothing.

    Raises:
        UsageError: it cannot be read.
    """
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the file {path} cannot be read as UTF-8 text: {error}") from None


@dataclass(frozen=True)
class Output:
    """Where a command's results and progress go."""

    as_json: bool
    quiet: bool

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Show a bar per stage with the time left, on the standard error, unless quiet."""
        if self.quiet:
            yield silent
            return
        bars = Bars(
            TextColumn("{task.description:<16}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[clock]}"),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
        )
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int, note: str = "") -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, note=note, clock="left")
            elif done == 0:  # the stage begins anew, for the next image or target
                bars.reset(tasks[stage], total=total)
            clock = "taken" if done >= total else "left"
            bars.update(tasks[stage], completed=done, total=total, note=note, clock=clock)

        with bars:
            yield report

    def note(self, text: str) -> None:
        """Write something worth knowing to the standard error, unless quiet."""
        if not self.quiet:
            typer.echo(text, err=True)

    def result(self, value: object, text: str) -> None:
        """Write a command's result: `value` as JSON, or `text` for people."""
        if self.as_json:
            data = msgspec.json.encode(value, enc_hook=_encode)  # infinity becomes null, which JSON has
            typer.echo(msgspec.json.format(data, indent=2).decode())
        elif text:
            typer.echo(text)


_JSON = Annotated[bool, typer.Option("--json", help="Write the result as JSON, and nothing else, to stdout.")]
_VERBOSE = Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done.")]
_QUIET = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes.")]
_DEBUG = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
_SHARED = {"json_": _JSON, "verbose": _VERBOSE, "quiet": _QUIET, "debug": _DEBUG}


def cli_command(function: Callable[..., None]) -> Callable[..., None]:
    """Turn `function(output, ...)` into a command: adds the shared options and turns errors into exit codes."""

    @functools.wraps(function)
    def command(**arguments: Any) -> None:
        as_json, verbose, quiet, debug = (arguments.pop(name) for name in _SHARED)
        logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, stream=sys.stderr, force=True)
        try:
            function(Output(as_json, quiet), **arguments)
        except EdgeDenoiseError as error:
            _fail(error.exit_code, str(error), debug=debug)
        except ModuleNotFoundError as error:
            missing = missing_package(error)
            if missing is None:
                raise
            _fail(missing.exit_code, str(missing), debug=debug)
        except KeyboardInterrupt:
            _fail(INTERRUPTED, "interrupted; nothing half-written was left", debug=debug)
        except typer.Exit:
            raise
        except BrokenPipeError:  # the reader has seen enough
            sys.stderr.close()
            raise typer.Exit(0) from None
        except Exception as error:
            _fail(
                INTERNAL_ERROR,
                f"internal error: {type(error).__name__}: {error}\nplease report it with the output of --debug",
                debug=debug,
            )

    hints = get_type_hints(function, include_extras=True)
    hints.pop("output")
    own = [
        parameter.replace(annotation=hints[name])
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "output"
    ]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=hint)
        for name, hint in _SHARED.items()
    ]
    command.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in [*own, *shared]}
    del command.__wrapped__  # typer would look through it
    return command


def _fail(code: int, message: str, *, debug: bool) -> None:
    if debug:
        Console(stderr=True).print_exception()
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(code) from None


def _encode(value: object) -> object:
    if isinstance(value, EdgeDenoiseError):
        return {"error": type(value).__name__, "message": str(value), "exit_code": value.exit_code}
    return str(value)
