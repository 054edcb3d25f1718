"""`edgedenoise denoise`."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

import edgedenoise
from edgedenoise.batch.records import file_record, summary_record
from edgedenoise.bundles.pretrained import DEFAULT
from edgedenoise.cli import denoising
from edgedenoise.cli.common import Output, cli_command
from edgedenoise.cli.output import binary_standard_output
from edgedenoise.errors import Interrupted, UsageError
from edgedenoise.printable import one_line
from edgedenoise.shell import command_line
from edgedenoise.video.options import VideoOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from edgedenoise.batch.results import BatchReport, FileResult
    from edgedenoise.batch.single import Streams
    from edgedenoise.imaging.folders import LeftOut


_NAMED = 5


@cli_command
def command(
    output: Output,
    context: typer.Context,
    inputs: Annotated[list[Path], typer.Argument(help="Images, folders of images, or videos; - for standard input.")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Output file (for one input file) or folder; - for the standard output."),
    ],
    model: denoising.Model = Path(DEFAULT),
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Read sub-folders too; keep the tree.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist already.")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out images whose output exists already.")
    ] = False,
    format_: Annotated[
        str | None,
        typer.Option("--format", help="Format of `-o -`: png, jpeg, tiff, npy, ... Default: that of the input."),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="local, or ray: the machines of a Ray cluster, one worker per device.")
    ] = "local",
    *,
    loading: denoising.Loading,
    files: denoising.Files,
    codec: denoising.Codec = "auto",
    crf: denoising.Crf = None,
    hwaccel: denoising.Hwaccel = None,
    reuse: denoising.Reuse = False,
) -> None:
    """Denoise images and videos, and keep their size, depth, metadata and time."""
    from edgedenoise.batch.single import STANDARD_STREAM, denoise_single, is_single

    if overwrite and skip_existing:
        raise UsageError("--overwrite and --skip-existing exclude each other: expected at most one, got both")
    load_options, file_options = loading.options(), asdict(files)
    if is_single(inputs, out):
        if recursive or skip_existing or engine != "local":
            raise UsageError("-r, --skip-existing and --engine are for folders: expected none with - or an .npy file")
        with _streams(output, inputs, out) as streams, output.progress() as progress:
            report = denoise_single(
                inputs,
                out,
                model,
                streams=streams,
                format_=format_,
                overwrite=overwrite,
                progress=progress,
                **file_options,
                **load_options,
            )
        for result in report.files:
            output.record(file_record(result))
        _write_report(output, report, to=output.note if out == STANDARD_STREAM else output.message)
        return
    if format_ is not None:
        raise UsageError("--format is for the standard output: expected -o -, because files have their extension")
    with output.progress() as progress, _continued_by(None if overwrite else context.obj):
        report = edgedenoise.denoise_files(
            inputs,
            out,
            model,
            recursive=recursive,
            existing="overwrite" if overwrite else "skip" if skip_existing else "error",
            video=VideoOptions(codec=codec, crf=crf, hwaccel=hwaccel, reuse=reuse),
            engine=cast("Any", engine),  # `denoise_files` checks it
            progress=progress,
            on_result=lambda result: output.record(file_record(result)),
            **file_options,
            **load_options,
        )
    _write_report(output, report, to=output.message)


def _write_report(output: Output, report: BatchReport, *, to: Callable[[str], None]) -> None:
    """Write what became of the images, and exit with the code of the first failure."""
    for one in report.float_instead_of if report.variant else ():
        output.note(one_line(f"{report.variant} runs in float; {one.variant} is not used: {one.reason}"))
    for line in float_lines(report.files):
        output.note(line)
    for line in left_out_lines(report.left_out):
        output.note(line)
    output.failures([failure.error for failure in report.failures if failure.error is not None])
    counts = report.counts
    variants = ", ".join(dict.fromkeys(file.variant for file in report.files if file.variant))
    left_out = f" and left out {counts.left_out}" if counts.left_out else ""
    text = f"denoised {counts.denoised} of {len(report.files)}{left_out}"
    if variants:
        text += f" with {variants} on {report.effective}"
    output.record(summary_record(report))
    to(text)
    if report.failures and report.failures[0].error is not None:
        raise typer.Exit(report.failures[0].error.exit_code)


@contextmanager
def _streams(output: Output, inputs: Sequence[Path], out: Path) -> Iterator[Streams]:
    """Yield the standard streams that a run names."""
    from edgedenoise.batch.single import STANDARD_STREAM, Streams

    with ExitStack() as stack:
        if STANDARD_STREAM in inputs and sys.stdin.isatty():
            raise UsageError(
                "the standard input is a terminal: expected an image from a file or another program",
                hint="Send one with < or |, or name a file instead of -.",
            )
        if out != STANDARD_STREAM:
            yield Streams(sys.stdin.buffer, None)
            return
        if output.as_json:
            raise UsageError(
                "--json and -o - both need the standard output: expected one of them", hint="Name a file after -o."
            )
        yield Streams(sys.stdin.buffer, stack.enter_context(binary_standard_output()))


@contextmanager
def _continued_by(words: Sequence[str] | None) -> Iterator[None]:
    """Name the command that continues the run, where Ctrl-C ends it in the block; None where no command does.

    With `--overwrite` no output shows whether it is of this run.
    """
    try:
        yield
    except KeyboardInterrupt:
        if words is None:
            raise
        again = command_line(*(word for word in words if word != "--skip-existing"), "--skip-existing")
        raise Interrupted("interrupted; no incomplete file was left", hint=f"Continue with: {again}") from None


def float_lines(files: Sequence[FileResult]) -> list[str]:
    """Return one line per reason for which some files ran in float although INT8 was chosen."""
    counted = Counter((file.variant, file.float_reason) for file in files if file.float_reason is not None)
    return [f"{variant} ran {count} of {len(files)} in float: {why}" for (variant, why), count in counted.items()]


def left_out_lines(left_out: Sequence[LeftOut]) -> list[str]:
    """Return one line per reason, with the names of the first files that it holds for."""
    names: dict[str, list[str]] = {}
    for entry in left_out:
        names.setdefault(entry.reason, []).append(one_line(entry.path))
    lines = []
    for reason, paths in names.items():
        more = f" and {len(paths) - _NAMED} more (all with --json)" if len(paths) > _NAMED else ""
        lines.append(f"left out {len(paths)} ({one_line(reason)}): {', '.join(paths[:_NAMED])}{more}")
    return lines
