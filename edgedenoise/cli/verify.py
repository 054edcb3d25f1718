"""`edgedenoise verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import edgedenoise
from edgedenoise.cli.common import Output, TrustEngine, Wide, cli_command
from edgedenoise.errors import MeasurementError, ParityError
from edgedenoise.printable import one_line
from edgedenoise.tables import table

if TYPE_CHECKING:
    from edgedenoise.exporting.verify import VerifyReport

_NARROW = ("variant", "status", "state", "dB to float", "needed")


@cli_command
def command(
    output: Output,
    bundle: Annotated[Path, typer.Argument(help="Bundle folder or archive.")],
    trust_engine: TrustEngine = False,
    wide: Wide = False,
) -> None:
    """Check every file, graph and self-test of a bundle."""
    with output.progress() as progress:
        report = edgedenoise.verify(bundle, trust_engine=trust_engine, progress=progress)
    output.result(report, _text(report, wide=wide))
    if not report.passed:
        raise typer.Exit(ParityError.exit_code)
    if not report.measured:
        output.note("error: no variant was run or emulated here, so nothing is known about the numbers of this bundle")
        raise typer.Exit(MeasurementError.exit_code)


def variants_table(report: VerifyReport, *, wide: bool) -> str:
    """Format the checks of all variants, and the reason of each that failed or was not run."""
    header = ["variant", "status", "state", "dB to float", "needed", "max LSB", "dB to W8A8", "max LSB to W8A8"]
    rows = [
        [
            check.variant,
            check.status,
            check.state,
            _number(check.psnr_db),
            _number(check.bound_db),
            _number(check.max_error_lsb, 2),
            _number(check.reference_psnr_db),
            _number(check.reference_max_error_lsb, 2),
        ]
        for check in report.variants
    ]
    reasons = [one_line(f"{check.variant}: {check.reason}") for check in report.variants if check.reason]
    return "\n".join([table(header, rows, columns=None if wide else _NARROW), *reasons])


def _text(report: VerifyReport, *, wide: bool) -> str:
    checked = f"{len(report.linted)} graphs checked" if report.linted else "graphs not checked: onnx is not installed"
    return "\n".join(
        [
            variants_table(report, wide=wide),
            f"{report.files_checked} files match the manifest; {checked}",
            *(one_line(f"cannot be read by this version: {one}") for one in report.unknown),
            *(one_line(f"not part of the bundle: {name}") for name in report.strays),
            *(f"not built: {one.target} {one.precision}: {one.command}" for one in report.not_built),
        ]
    )


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
