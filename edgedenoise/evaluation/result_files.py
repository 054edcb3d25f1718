"""Read and write result files; see `edgedenoise.evaluation.results` for their schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from edgedenoise.atomic import check_writable, write_bytes
from edgedenoise.errors import OutputError, ResultFileError, UsageError
from edgedenoise.evaluation.results import SCHEMA, ResultFile, Run
from edgedenoise.locks import one_writer
from edgedenoise.shell import command_line
from edgedenoise.system_errors import reason_and_hint

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SUFFIX = ".json"
MAX_FILE_BYTES = 256 << 20
"""Largest accepted file; a run of 20 rounds over 100 images has about 300 kilobytes."""


def read_results(path: Path) -> ResultFile:
    """Read a result file.

    Args:
        path: the file.

    Returns:
        Its runs. Fields that only a newer writer knows are left out.

    Raises:
        ResultFileError: the file cannot be read, is no result file, or has another schema.

    Example:
        >>> from pathlib import Path
        >>> import edgedenoise
        >>> from edgedenoise.evaluation.result_files import append_runs, read_results
        >>> append_runs(Path("laptop.json"), [edgedenoise.bench("mine.edge", shape=64, repeats=2).run])
        >>> [variant.name for variant in read_results(Path("laptop.json")).runs[0].variants]
        ['onnx-fp32', 'onnx-int8-u8s7']
    """
    data = _content(path)
    try:
        raw = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ResultFileError(f"{path} is not a result file: expected JSON, got: {error}", hint=_HINT) from error
    if raw.get("schema") != SCHEMA:
        raise ResultFileError(f"{path} cannot be read: {_other_schema(raw)}", hint=_hint(raw))
    try:
        return msgspec.convert(raw, type=ResultFile)
    except (msgspec.MsgspecError, ValueError, OverflowError) as error:
        raise ResultFileError(f"{path} does not keep to the schema {SCHEMA}: {error}", hint=_HINT) from error


def is_result_file(path: Path) -> bool:
    """Return whether a file is a result file, of any version of the schema."""
    try:
        raw = msgspec.json.decode(_content(path), type=dict[str, Any])
    except (ResultFileError, msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return _is_ours(raw)


def check_appendable(path: Path) -> None:
    """Check, before long work, that runs can be appended to a result file.

    Raises:
        UsageError: its name does not end in `.json`.
        OutputError: the file cannot be written.
        ResultFileError: the file exists and is not a result file.
    """
    if path.suffix.lower() != SUFFIX:
        raise UsageError(
            f"results cannot be written to {path}: expected a name that ends in {SUFFIX}, got {path.name}",
            hint=f"Name it {path.with_suffix(SUFFIX)}",
        )
    check_writable(path)
    if path.exists():
        read_results(path)


def append_runs(path: Path, runs: Iterable[Run]) -> None:
    """Append runs to a result file, which is made where it does not exist. Runs that it has are not repeated.

    Runs that are in the file stay as they are, with the fields that only a newer writer knows.

    Raises:
        UsageError: its name does not end in `.json`.
        OutputError: the file cannot be written, or another command is writing it.
        ResultFileError: the file exists and is not a result file.
    """
    check_appendable(path)
    with one_writer(path, OutputError):
        raw: dict[str, Any] = {"schema": SCHEMA, "runs": []}
        if path.exists():
            read_results(path)
            raw = msgspec.json.decode(_content(path), type=dict[str, Any])
        present = {run["id"] for run in raw["runs"]}
        raw["runs"] += [msgspec.to_builtins(run) for run in runs if run.id not in present]
        write_bytes(path, encoded(raw))


def encoded(value: object) -> bytes:
    """Return a result file, or its content as plain values, as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"


_HINT = "Name a file that was written with -o by bench, compare or test, for example: " + command_line(
    "bench", "edge-tiny", "-o", "result.json"
)


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        reason, hint = reason_and_hint(error, path)
        raise ResultFileError(f"{path} cannot be read: {reason}", hint=hint or _HINT) from error
    if len(data) > MAX_FILE_BYTES:
        raise ResultFileError(
            f"{path} is too large: expected at most {MAX_FILE_BYTES} bytes, got {path.stat().st_size}",
            hint="Write the runs of each device to a file of its own.",
        )
    return data


def _other_schema(raw: dict[str, Any]) -> str:
    return f"expected the schema {SCHEMA!r}, got {raw['schema']!r}" if "schema" in raw else "it states no schema"


def _hint(raw: dict[str, Any]) -> str:
    return "Upgrade with: pip install -U edgedenoise" if _is_ours(raw) else _HINT


def _is_ours(raw: dict[str, Any]) -> bool:
    return str(raw.get("schema", "")).startswith(SCHEMA.partition("/")[0] + "/")
