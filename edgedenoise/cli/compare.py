"""`edgedenoise compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

import edgedenoise
from edgedenoise.cli.common import DEVICE, THREADS, Output, TrustEngine, Wide, cli_command
from edgedenoise.cli.remote import on_devices
from edgedenoise.errors import MeasurementError
from edgedenoise.printable import one_line

if TYPE_CHECKING:
    from edgedenoise.evaluation.compare import CompareOptions


@cli_command
@on_devices(results="out")
def command(
    output: Output,
    bundle: Annotated[Path, typer.Argument(help="Bundle folder or archive.")],
    noisy: Annotated[Path, typer.Option(help="Folder of noisy images.")],
    clean: Annotated[Path | None, typer.Option(help="Folder of their ground truth, under the same names.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="HTML report to write, with crops; or a .json file, which the raw results are appended to.",
        ),
    ] = None,
    task: Annotated[
        Literal["edges", "keypoints"] | None,
        typer.Option(help="Measure a downstream task, too: finding the edges or keypoints of the ground truth."),
    ] = None,
    repeats: Annotated[int, typer.Option(help="Timed runs per variant.")] = 20,
    device: Annotated[str, typer.Option(help=DEVICE)] = "auto",
    threads: Annotated[int | None, typer.Option(help=THREADS)] = None,
    trust_engine: TrustEngine = False,
    wide: Wide = False,
) -> None:
    """Compare the quality, speed and memory of every variant.

    Each variant runs in its own process.
    """
    from edgedenoise.evaluation.measurement import failures
    from edgedenoise.evaluation.report.page import compare_to_html
    from edgedenoise.evaluation.report.text_tables import compare_table
    from edgedenoise.evaluation.result_files import SUFFIX, append_runs, check_appendable

    results = out if out is not None and out.suffix.lower() == SUFFIX else None
    if results is not None:
        check_appendable(results)
    with output.progress() as progress:
        options: CompareOptions = {
            "task": task,
            "repeats": repeats,
            "device": device,
            "threads": threads,
            "trust_engine": trust_engine,
        }
        if out is None or results is not None:
            report = edgedenoise.compare(bundle, noisy, clean, progress=progress, **options)
        else:
            report = compare_to_html(bundle, noisy, clean, out, progress=progress, **options)
    if results is not None:
        append_runs(results, [report.run])
    lines = [compare_table(report, wide=wide), *report.run.environment.remarks]
    output.result(report, "\n".join([*lines, *([f"report: {one_line(out)}"] if out and results is None else [])]))
    failed = failures(row.measurement for row in report.rows)
    if failed:
        output.failures([MeasurementError(f"not measured: {one}") for one in failed])
        raise typer.Exit(MeasurementError.exit_code)
