"""What all commands share: the options `--json`, `-v`, `-q` and `--debug`, and errors turned into exit codes."""

from __future__ import annotations

import functools
import inspect
import logging
import re
import sys
import warnings
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup
from typing_extensions import get_type_hints  # that of Python 3.10 adds None to what has the default None

from edgedenoise.bundles.pretrained import SHIPPED
from edgedenoise.cli.interrupts import Interruption, noted_interrupts
from edgedenoise.cli.native import python_alone_writes
from edgedenoise.cli.output import Output
from edgedenoise.errors import EdgeDenoiseError, Interrupted, UsageError
from edgedenoise.extras import missing_package
from edgedenoise.printable import paragraph, printable
from edgedenoise.shell import quoted
from edgedenoise.system_errors import system_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = [
    "ABOUT",
    "CHECKPOINT",
    "DEVICE",
    "INTERRUPTED",
    "NOISE_LEVEL",
    "RESULTS",
    "SCHEME",
    "THREADS",
    "Command",
    "CommandGroup",
    "NormalizationOption",
    "Output",
    "TrustEngine",
    "Which",
    "Wide",
    "cli_command",
    "text_of",
]

ABOUT = "Markdown file for the model card: the data, their licence, the measured quality."
CHECKPOINT = "Folder made by `edgedenoise train`."
DEVICE = "auto, or a device that `edgedenoise doctor` lists."
NOISE_LEVEL = "Add synthetic camera noise to clean images: 0 (lowest ISO) to 1 (highest), at most 1.25. Repeatable."
RESULTS = "Result file (.json) that the raw samples, the machine and the checks are appended to."
SCHEME = "u8s7 (any CPU, the default), u8s8, s8s8 (TensorRT) or coreml."
THREADS = "Threads of one inference. Default: the runtime decides."
Which = Annotated[
    Literal["last", "best"], typer.Option(help="last: the end of training. best: the best on held-out images.")
]
NormalizationOption = Annotated[
    Literal["trained", "whole-image", "whole-image-bounded"],
    typer.Option(
        help="Normalization of the input: as trained, by the whole image, or the same with a limit for INT8."
        " Runs of import-tf need the last for INT8.",
    ),
]
TrustEngine = Annotated[
    bool,
    typer.Option(
        "--trust-engine",
        help="Load TensorRT engines that contain host code although another machine built them.",
    ),
]
Wide = Annotated[bool, typer.Option("--wide", help="Show all columns of the table.")]

INTERRUPTED = 130  # 128 + SIGINT, as shells count

_JSON = Annotated[bool, typer.Option("--json", help="Write the result, or the error, as JSON to the standard output.")]
_VERBOSE = Annotated[bool, typer.Option("--verbose", "-v", help="Log each step.")]
_QUIET = Annotated[bool, typer.Option("--quiet", "-q", help="Write nothing but errors.")]
_DEBUG = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
_SHARED = {"json_": _JSON, "verbose": _VERBOSE, "quiet": _QUIET, "debug": _DEBUG}
_NOT_READABLE = re.compile(r"path '(.+)' is not readable", re.IGNORECASE)
_LIST_TYPE = re.compile(r"<list\[(.+)\]>")

# The parser's own class of usage errors. Its module depends on the version of typer.
_ParserError: type[Any] = typer.BadParameter.__mro__[1]


def text_of(path: Path | None) -> str:
    """Read the text file that an option names; an empty text without one.

    Raises:
        UsageError: the file cannot be read.
    """
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: expected a UTF-8 text file, got: {error}") from None


def cli_command(function: Callable[..., None]) -> Callable[..., None]:
    """Turn `function(output, ...)` into a command: add the shared options, turn errors into exit codes.

    A parameter whose type is a dataclass stands for the options that its fields are.
    """
    hints = get_type_hints(function, include_extras=True)
    hints.pop("output")
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}

    @functools.wraps(function)
    def command(**arguments: Any) -> None:
        as_json, verbose, quiet, debug = (arguments.pop(name) for name in _SHARED)
        for name, group in groups.items():
            arguments[name] = group(**{field.name: arguments.pop(field.name) for field in fields(group)})
        output, interruption = Output(as_json, quiet), Interruption()
        try:
            with (
                python_alone_writes(quiet=quiet),
                _logging(verbose=verbose, quiet=quiet),
                noted_interrupts(interruption),
            ):
                function(output, **arguments)
        except EdgeDenoiseError as error:
            _fail(output, error, debug=debug)
        except ModuleNotFoundError as error:
            missing = missing_package(error)
            if missing is None:
                _fail_internally(output, error, debug=debug)
            else:
                _fail(output, missing, debug=debug)
        except Interrupted as stopped:
            shown = EdgeDenoiseError(stopped.message, hint=stopped.hint)
            _fail(output, shown, debug=debug, name="KeyboardInterrupt", exit_code=stopped.exit_code)
        except KeyboardInterrupt:
            _fail_interrupted(output, debug=debug)
        except typer.Exit:
            raise
        except BrokenPipeError:  # the reader has closed its end
            sys.stderr.close()
            raise typer.Exit(0) from None
        except OSError as error:  # in a place that expects none; it is still no fault of the program
            _fail(output, system_error(error), debug=debug, name=type(error).__name__)
        except Exception as error:
            if interruption.arrived:  # a library has turned it into an error of its own
                _fail_interrupted(output, debug=debug)
            _fail_internally(output, error, debug=debug)

    own = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in groups:
            own += _options_of(groups[name])
        elif name != "output":
            own.append(parameter.replace(annotation=hints[name]))
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=hint)
        for name, hint in _SHARED.items()
    ]
    command.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in [*own, *shared]}
    del command.__wrapped__  # typer would inspect it instead
    return command


def _options_of(group: type[Any]) -> list[inspect.Parameter]:
    """Return the fields of a dataclass as parameters of a command."""
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(group)
    ]


class Command(TyperCommand):
    """A command whose help shows the type of one value where several are accepted: `<path>`, not `<list[Path]>`."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and options."""
        write_dl = formatter.write_dl

        def write(rows: Sequence[tuple[str, str]]) -> None:
            write_dl([(_LIST_TYPE.sub(lambda found: f"<{found[1].lower()}>", name), text) for name, text in rows])

        formatter.write_dl = write
        super().format_options(ctx, formatter)


class CommandGroup(TyperGroup):
    """The group of all commands, which reports the parser's errors as all others: as one message, or as JSON."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command and exit; `Context.obj` holds the words of the command line."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
        given = [_as_path(word) for word in (sys.argv[1:] if args is None else args)]
        try:
            code = super().main(given, prog_name, complete_var, False, windows_expand_args, obj=given, **extra)
        except _ParserError as error:
            if type(error).__name__ == "NoArgsIsHelpError":
                error.show()
            else:
                path = error.ctx.command_path if error.ctx is not None else "edgedenoise"
                message = error.format_message().rstrip(".")
                denied = _NOT_READABLE.search(message)
                hint = f"Check the permissions: {quoted('ls', '-ld', denied[1])}" if denied else f"See {path} --help"
                Output("--json" in given, quiet=False).error(UsageError(message, hint=hint))
            sys.exit(UsageError.exit_code)
        except typer.Abort:
            sys.exit(INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)


def _as_path(word: str) -> str:
    """Return an argument such as `./edge` or `./-` as an absolute path: as a `Path` it would lose the dot."""
    option, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
    names = (*SHIPPED, "-")
    return word if value in names or str(Path(value)) not in names else f"{option}{equals}{Path(value).absolute()}"


class _LogFormatter(logging.Formatter):
    """Format log records like the error messages: `warning: ...`."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (the name in logging)
        return f"{record.levelname.lower()}: {paragraph(super().formatMessage(record))}"


@contextmanager
def _logging(*, verbose: bool, quiet: bool) -> Iterator[None]:
    """Log to the standard error; when quiet, leave out warnings, also those of libraries."""
    level = logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LogFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    with warnings.catch_warnings():
        if quiet:
            warnings.simplefilter("ignore")
        yield


def _fail_interrupted(output: Output, *, debug: bool) -> None:
    shown = EdgeDenoiseError("interrupted; no incomplete file was left")
    _fail(output, shown, debug=debug, name="KeyboardInterrupt", exit_code=INTERRUPTED)


def _fail_internally(output: Output, error: Exception, *, debug: bool) -> None:
    shown = EdgeDenoiseError(
        f"internal error: {type(error).__name__}: {error}",
        hint="Run the command again with --debug and report the output.",
    )
    _fail(output, shown, debug=debug, name=type(error).__name__)


def _fail(
    output: Output, error: EdgeDenoiseError, *, debug: bool, name: str = "", exit_code: int | None = None
) -> None:
    if debug:
        from rich.console import Console

        Console(stderr=True).print_exception()
    output.error(error, name=name, exit_code=exit_code)
    raise typer.Exit(exit_code or error.exit_code) from None
