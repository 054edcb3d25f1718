"""`edgedenoise verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import edgedenoise
from edgedenoise.cli.common import Output, cli_command
from edgedenoise.errors import ParityError
from edgedenoise.tables import table

if TYPE_CHECKING:
    from edgedenoise.exporting.verify import VerifyReport


@cli_command
def command(output: Output, bundle: Annotated[Path, typer.Argument(help="Bundle folder or archive.")]) -> None:
    """Check every file, every graph and every variant's self-test on this machine."""
    with output.progress() as progress:
        report = edgedenoise.verify(bundle, progress=progress)
    output.result(report, verify_table(report))
    if not report.passed:
        raise typer.Exit(ParityError.exit_code)


def verify_table(report: VerifyReport) -> str:
    """Lay out what was found, for people."""
    distances = ["dB to float", "needed", "levels to float", "dB to exact W8A8", "levels to exact W8A8"]
    header = ["variant", "status", "state", *distances]
    rows = [
        [
            check.variant,
            check.status,
            check.state,
            _number(check.psnr_db),
            _number(check.bound_db),
            _number(check.max_levels, 2),
            _number(check.oracle_psnr_db),
            _number(check.oracle_max_levels, 2),
        ]
        for check in report.variants
    ]
    rows += [
        [f"{missing.target} {missing.precision}", "-", missing.state, *["-"] * len(distances)]
        for missing in report.not_built
    ]
    linted = f"{len(report.linted)} graphs linted" if report.linted else "graphs not linted: onnx is not installed"
    lines = [table(header, rows), f"{report.files_checked} files are what the manifest recorded; {linted}"]
    lines += [f"{check.variant}: {check.reason}" for check in report.variants if check.reason]
    lines += [f"{missing.target} {missing.precision}: to build it: {missing.command}" for missing in report.not_built]
    return "\n".join(lines)


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
