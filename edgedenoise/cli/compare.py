"""`edgedenoise compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import edgedenoise
from edgedenoise.cli.common import Output, cli_command


@cli_command
def command(
    output: Output,
    bundle: Annotated[Path, typer.Argument(help="Bundle folder or archive.")],
    noisy: Annotated[Path, typer.Option(help="Folder of noisy images.")],
    clean: Annotated[Path | None, typer.Option(help="Folder of their ground truth, same names.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="HTML report to write, with crops.")] = None,
    repeats: Annotated[int, typer.Option(help="Timed runs per variant.")] = 20,
    device: Annotated[str, typer.Option(help="auto, or a device that doctor lists.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="Threads; default: the runtime decides.")] = None,
    wide: Annotated[bool, typer.Option("--wide", help="Show every column; the table needs 120 columns.")] = False,
) -> None:
    """Compare every variant: quality, distance to float, speed, memory; each in its own process."""
    from edgedenoise.evaluation.report.page import compare_to_html
    from edgedenoise.evaluation.report.tables import compare_table

    with output.progress() as progress:
        if out is None:
            report = edgedenoise.compare(
                bundle, noisy, clean, repeats=repeats, device=device, threads=threads, progress=progress
            )
        else:
            report = compare_to_html(
                bundle, noisy, clean, out, repeats=repeats, device=device, threads=threads, progress=progress
            )
    output.result(report, compare_table(report, wide=wide) + (f"\nreport: {out}" if out else ""))
