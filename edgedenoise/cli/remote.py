"""The options `--on`, `--install`, `--wheels` and `--remote-python`: run a command on other devices."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typing_extensions import get_type_hints  # that of Python 3.10 adds None to what has the default None

from edgedenoise.bundles.pretrained import SHIPPED
from edgedenoise.errors import RemoteCommandError, UsageError
from edgedenoise.printable import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgedenoise.cli.output import Output
    from edgedenoise.evaluation.remote.session import HostResult

_ON = Annotated[
    list[str] | None,
    typer.Option(
        metavar="<ssh://user@host:port>",
        help="Run on this device over SSH, with the Python there, and bring the results back. Repeatable.",
    ),
]
_INSTALL = Annotated[
    bool, typer.Option("--install", help="With --on: install edgedenoise there in an environment that is removed.")
]
_WHEELS = Annotated[
    list[Path] | None,
    typer.Option(help="With --install: wheels, or a folder of them, for a device without package index. Repeatable."),
]
_PYTHON = Annotated[str, typer.Option(help="With --on: path or name of the device's Python.")]
_OPTIONS: dict[str, tuple[Any, Any]] = {
    "on": (_ON, None),
    "install": (_INSTALL, False),
    "wheels": (_WHEELS, None),
    "remote_python": (_PYTHON, "python3"),
}
_LOCAL = {*_OPTIONS, "ctx", "verbose", "quiet", "debug", "json_"}
"""Parameters that are not handed on as they are."""
_REPEATED = {"install", "wheels", "remote_python"}
"""Those of them that the command line which repeats the measurement has, too."""
_FILES = "files"
"""Folder of the copied files, in the folder of the session."""


@dataclass(frozen=True)
class _Words:
    """The command line for a device."""

    words: tuple[str, ...]
    repeats: tuple[str, ...]
    uploads: dict[str, Path]
    written: dict[str, Path]


def on_devices(
    *,
    results: str = "",
    writes: Sequence[str] = (),
    changes: Sequence[str] = (),
    extras: Callable[..., Sequence[str]] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator for commands that also run on other devices; `cli_command` comes before it.

    Args:
        results: parameter that names the result file.
        writes: parameters that name files which the command writes; they are brought back, from one device.
        changes: parameters that name bundles which the command changes; they are brought back, from one device.
        extras: function of the command's arguments that returns the extras to install; None for those of a bundle's
            variants.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(output: Output, ctx: typer.Context, **arguments: Any) -> None:
            options = {name: arguments.pop(name) for name in _OPTIONS}
            if options["on"]:
                wanted = extras(arguments) if extras is not None else _runtime_extras(arguments["bundle"])
                _run(output, ctx, arguments, options, results=results, writes=writes, changes=changes, extras=wanted)
            else:
                _refuse_alone(options)
                function(output, **arguments)

        hints = get_type_hints(function, include_extras=True)
        own = [
            parameter.replace(annotation=hints[name])
            for name, parameter in inspect.signature(function).parameters.items()
        ]
        added = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
            for name, (hint, default) in _OPTIONS.items()
        ]
        context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        parameters = [own[0], context, *own[1:], *added]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        del command.__wrapped__  # its signature has no such options
        return command

    return decorate


def _refuse_alone(options: dict[str, Any]) -> None:
    given = [name for name, (_, default) in _OPTIONS.items() if options[name] != default and options[name]]
    if given:
        raise UsageError(
            f"--{given[0].replace('_', '-')} is for devices: expected --on as well, got none",
            hint="Name a device, for example with: --on ssh://pi@raspberrypi.local",
        )


def _run(
    output: Output,
    ctx: typer.Context,
    arguments: dict[str, Any],
    options: dict[str, Any],
    *,
    results: str,
    writes: Sequence[str],
    changes: Sequence[str],
    extras: Sequence[str],
) -> None:
    from edgedenoise.evaluation.remote.host import Host
    from edgedenoise.evaluation.remote.session import RESULT, RemoteJob, RemotePython, run_on_hosts
    from edgedenoise.evaluation.result_files import append_runs, check_appendable

    hosts = list(dict.fromkeys(Host.parse(address) for address in options["on"]))
    out = arguments.get(results)
    if out is not None:
        check_appendable(out)
    single = [arguments[name] for name in (*writes, *changes) if arguments[name] is not None]
    if single and len(hosts) > 1:
        raise UsageError(f"{single[0]} cannot be written by several devices: expected one device, got {len(hosts)}")
    if options["wheels"] and not options["install"]:
        raise UsageError("--wheels is for --install, which is missing: expected both", hint="Add --install.")
    line = _words_of(ctx, skip={results}, written=set(writes))
    more = ([f"--{results}", RESULT] if out is not None else []) + (["--json"] if output.as_json else [])
    changed = [arguments[name] for name in changes]
    job = RemoteJob(
        words=(*line.words, *more),
        uploads=line.uploads,
        repeats=line.repeats,
        source=str(arguments["bundle"]),
        writes=line.written,
        changes={remote: here for remote, here in line.uploads.items() if here in changed},
    )
    python = RemotePython(options["remote_python"], options["install"], tuple(options["wheels"] or ()), tuple(extras))
    with output.progress() as progress:
        found = run_on_hosts(hosts, job, python, progress)
    runs = [run for one in found for run in one.runs]
    if out is not None and runs:
        append_runs(out, runs)
    for one in found:
        if one.notes and one.error is None:
            output.note("\n".join(f"{one.host.label}: {note}" for note in one.notes.splitlines()))
    output.result([_json_of(one) for one in found], "\n\n".join(_text_of(one) for one in found if one.text.strip()))
    if output.as_json and any(one.error for one in found):  # the list is the one JSON value
        raise typer.Exit(next(one.error.exit_code for one in found if one.error))
    _raise_failures(found, out)


def _text_of(one: HostResult) -> str:
    return f"{one.host.label}\n{one.text.rstrip()}"


def _json_of(one: HostResult) -> dict[str, object]:
    import msgspec

    try:
        result = msgspec.json.decode(one.text)
    except msgspec.MsgspecError:
        result = None
    return {"host": one.host.label, "result": result, "error": one.error}


def _raise_failures(found: Sequence[HostResult], out: Path | None) -> None:
    """Raise the error of the only device, or one of all that failed."""
    failed = [one.error for one in found if one.error is not None]
    if not failed:
        return
    if len(found) == 1:
        raise failed[0]
    kept = "" if out is None or len(failed) == len(found) else f"; the results of the others are in {one_line(out)}"
    lines = "\n".join(f"  {error.one_line}" for error in failed)
    raise RemoteCommandError(f"{len(failed)} of {len(found)} devices failed{kept}:\n{lines}", hint=failed[0].hint)


def _words_of(ctx: typer.Context, skip: set[str], written: set[str]) -> _Words:
    """Return the words of the command line as given, with the paths of the device instead of files here."""
    name = str(ctx.info_name)
    words, repeats = [name], [name]
    uploads: dict[str, Path] = {}
    files: dict[str, Path] = {}
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(parameter.name or "")
        local = parameter.name in _LOCAL | skip
        if (local and parameter.name not in _REPEATED) or source is None or source.name != "COMMANDLINE":
            continue
        value = ctx.params[parameter.name or ""]
        option = [max(parameter.opts, key=len)] if parameter.param_type_name == "option" else []
        if isinstance(value, bool):
            words += [] if local else option
            repeats += option
            continue
        for one in value if isinstance(value, list | tuple) else [value]:
            if local:
                repeats += [*option, str(one)]
                continue
            remote = one
            if parameter.name in written:
                remote = f"{parameter.name}{one.suffix}"
                files[remote] = one
            elif isinstance(one, Path) and str(one) not in SHIPPED:
                remote = _uploaded(one, parameter.name or "", uploads)
            words += [*option, str(remote)]
            repeats += [*option, str(one)]
    return _Words(tuple(words), tuple(repeats), uploads, files)


def _uploaded(path: Path, name: str, uploads: dict[str, Path]) -> str:
    """Plan to copy a file or folder; return its path on the device."""
    if not path.exists():
        raise UsageError(f"{path} does not exist; expected a file or folder to copy to the device")
    remote = f"{_FILES}/{len(uploads)}-{name}/{path.resolve().name}"
    uploads[remote] = path
    return remote


def _runtime_extras(bundle: Path) -> tuple[str, ...]:
    """Return the extra of each runtime of a bundle's variants that pip can install on any device."""
    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.runtimes.registry import registry

    runtimes = {variant.runtime for variant in Bundle.open(bundle).manifest.variants}
    found = {registry[name].extra for name in runtimes if name in registry}
    return tuple(sorted(extra for extra in found if extra == "openvino"))
