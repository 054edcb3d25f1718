"""`edgedenoise bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import edgedenoise
from edgedenoise.cli.common import DEVICE, RESULTS, THREADS, Output, Wide, cli_command
from edgedenoise.printable import one_line


@cli_command
def command(
    output: Output,
    bundle: Annotated[Path, typer.Argument(help="Bundle folder or archive.")],
    side: Annotated[int, typer.Option(help="Side of the square test image in pixels.")] = 512,
    repeats: Annotated[int, typer.Option(help="Timed runs per variant, interleaved.")] = 20,
    device: Annotated[str, typer.Option(help=DEVICE)] = "auto",
    threads: Annotated[int | None, typer.Option(help=THREADS)] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help=RESULTS)] = None,
    wide: Wide = False,
) -> None:
    """Measure the speed of every variant of a bundle.

    Each variant runs in its own process, and the runs are interleaved.
    """
    from edgedenoise.evaluation.report.text_tables import bench_table
    from edgedenoise.evaluation.result_files import append_runs, check_appendable

    if out is not None:
        check_appendable(out)
    with output.progress() as progress:
        report = edgedenoise.bench(
            bundle, side_px=side, repeats=repeats, device=device, threads=threads, progress=progress
        )
    if out is not None:
        append_runs(out, [report.run])
    output.result(report, bench_table(report.variants, wide=wide) + (f"\nresults: {one_line(out)}" if out else ""))
