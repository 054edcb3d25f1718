"""`edgedenoise doctor`."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import edgedenoise
from edgedenoise.cli.common import Output, cli_command

if TYPE_CHECKING:
    from edgedenoise.doctor import Diagnosis

_INDENT = " " * 13


@cli_command
def command(
    output: Output,
    data: Annotated[Path | None, typer.Option(help="Check whether these images can be trained on, instead.")] = None,
) -> None:
    """List the backends of this machine, or check training images."""
    if data is not None:
        _check_images(output, data)
        return
    diagnosis = edgedenoise.diagnose()
    output.result(diagnosis, text_of_diagnosis(diagnosis))


def text_of_diagnosis(diagnosis: Diagnosis) -> str:
    """Format the machine and each backend, with the command that would install what is missing."""
    here = diagnosis.environment
    vnni = "VNNI" if here.vnni else "no VNNI"
    lines = [
        f"edgedenoise {here.edgedenoise}, Python {here.python}, {here.system}",
        f"{here.cpu}, {here.cores} cores, {vnni}, {here.free_memory_bytes / 2**30:.1f} GB of memory free",
    ]
    for status in diagnosis.backends:
        state = f"{status.version}, devices: {', '.join(status.devices)}" if status.available else "not available"
        lines += ["", f"{status.backend:<12} {state}", *_wrapped(f"runs on {status.runs_on}")]
        if not status.available:
            lines += _wrapped(f"reason: {status.reason}")
        if status.command:
            lines.append(f"{_INDENT}to fix: {status.command}")  # on one line, to be copied
    web = diagnosis.web
    lines += ["", f"{'web':<12} {'built' if web.available else 'not built'}"]
    lines += _wrapped("runs on browsers of phones, tablets and computers")
    if not web.available:
        lines += [*_wrapped(f"reason: {web.reason}"), f"{_INDENT}to fix, in a checkout of the source: {web.command}"]
    return "\n".join(lines)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 80, initial_indent=_INDENT, subsequent_indent=_INDENT)


def _check_images(output: Output, folder: Path) -> None:
    from edgedenoise.datacheck.check import check_images, data_report_text
    from edgedenoise.errors import DatasetError

    with output.progress() as progress:
        report = check_images(folder, progress=progress)
    output.result(report, data_report_text(report))
    if report.refusals:
        raise typer.Exit(DatasetError.exit_code)
