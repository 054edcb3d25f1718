"""`edgedenoise doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import edgedenoise
from edgedenoise.cli.common import Output, cli_command


@cli_command
def command(
    output: Output,
    data: Annotated[Path | None, typer.Option(help="Images to look at instead: can they be trained on?")] = None,
) -> None:
    """Tell what this machine can run, what is missing, and the command that would fix it; or judge images."""
    if data is not None:
        _photographs(output, data)
        return
    found = edgedenoise.diagnose()
    here = found.environment
    vnni = "VNNI" if here.vnni else "no VNNI"
    lines = [
        f"edgedenoise {here.edgedenoise}, Python {here.python}, {here.system}",
        f"{here.cpu}, {here.cores} cores, {vnni}, {here.free_memory_bytes / 2**30:.1f} GB of memory free",
        "",
    ]
    for target in found.targets:
        if target.available:
            state = f"{target.version}, devices: {', '.join(target.devices)}"
        else:
            state = f"not available: {target.reason}"
        lines.append(f"{target.target:<12} {state}  ({target.runs_on})")
        if target.command:
            lines.append(f"{'':<12} to fix: {target.command}")
    output.result(found, "\n".join(lines))


def _photographs(output: Output, folder: Path) -> None:
    from edgedenoise.datacheck.check import check_photographs, data_report_text
    from edgedenoise.errors import DatasetError

    with output.progress() as progress:
        report = check_photographs(folder, progress=progress)
    output.result(report, data_report_text(report))
    if report.refusals:
        raise typer.Exit(DatasetError.exit_code)
