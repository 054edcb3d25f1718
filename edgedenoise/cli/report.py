"""`edgedenoise report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgedenoise.cli.common import Output, cli_command
from edgedenoise.printable import one_line


@cli_command
def command(
    output: Output,
    results: Annotated[list[Path], typer.Argument(help="Result files (.json), or folders of them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Report to write: .html or .md.")],
) -> None:
    """Write one report of the results of any number of devices.

    Of each device and bundle, the latest comparison is shown. The report recommends a variant per device.
    """
    from edgedenoise.evaluation.joining import load_runs
    from edgedenoise.evaluation.report.page import report_of
    from edgedenoise.evaluation.report.view import device_view, latest_tests

    shown = report_of(results, out)
    tests = latest_tests(load_runs(results), shown)
    views = [device_view(run, tests) for run in shown]
    lines = [
        f"{view.summary.label}, {view.summary.run.bundle.name}: {view.verdict.sentence}"
        + (f" Measure it with: {view.verdict.command}" if view.verdict.command else "")
        for view in views
    ]
    verdicts = [
        {
            "device": view.summary.label,
            "bundle": view.summary.run.bundle.name,
            "variant": view.verdict.variant,
            "sentence": view.verdict.sentence,
            "reasons": view.verdict.reasons,
            "command": view.verdict.command,
        }
        for view in views
    ]
    output.result(verdicts, "\n".join([*map(one_line, lines), f"report: {one_line(out)}"]))
