"""`edgedenoise test`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgedenoise.cli.bench import parse_shape
from edgedenoise.cli.common import DEVICE, RESULTS, THREADS, Output, TrustEngine, cli_command
from edgedenoise.cli.quantize import decibels
from edgedenoise.cli.remote import on_devices
from edgedenoise.errors import UsageError


@cli_command
@on_devices(results="out", writes=("junit",))
def command(
    output: Output,
    bundle: Annotated[Path, typer.Argument(help="Bundle folder or archive.")],
    noisy: Annotated[
        Path | None, typer.Option(help="Folder of noisy images. Default: the image of the self-test.")
    ] = None,
    clean: Annotated[Path | None, typer.Option(help="Folder of their ground truth, under the same names.")] = None,
    max_drop: Annotated[
        str | None,
        typer.Option(help="Largest loss against float, for example 0.1dB; three times as much on one image."),
    ] = None,
    min_psnr: Annotated[
        str | None, typer.Option(help="Least PSNR to the float output on each image, for example 40dB.")
    ] = None,
    max_levels: Annotated[
        float | None, typer.Option(help="Largest difference to the float output in 8-bit levels. Default: 32.")
    ] = None,
    max_ms: Annotated[float | None, typer.Option(help="Largest median time of a call in milliseconds.")] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(help="Result file of this device: the speed against float must not have become worse."),
    ] = None,
    shape: Annotated[str, typer.Option(help="Height and width of the timed image in pixels, or its side.")] = "512",
    repeats: Annotated[int, typer.Option(min=1, help="Timed rounds.")] = 20,
    device: Annotated[str, typer.Option(help=DEVICE)] = "auto",
    threads: Annotated[int | None, typer.Option(help=THREADS)] = None,
    trust_engine: TrustEngine = False,
    junit: Annotated[Path | None, typer.Option(help="JUnit XML file to write.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help=RESULTS)] = None,
) -> None:
    """Test a bundle against limits, with one line per check.

    Limits that are not given are those of the bundle. A failed check is an error.
    """
    import edgedenoise
    from edgedenoise.atomic import check_writable, write_bytes
    from edgedenoise.bundles.manifest import Limits
    from edgedenoise.evaluation.checks import CheckOptions
    from edgedenoise.evaluation.junit import junit_xml
    from edgedenoise.evaluation.result_files import append_runs, check_appendable

    if out is not None:
        check_appendable(out)
    if junit is not None:
        check_writable(junit)
    options = CheckOptions(
        Limits(
            max_drop_db=decibels("--max-drop", max_drop),
            min_psnr_db=decibels("--min-psnr", min_psnr),
            max_error_lsb=max_levels,
            max_ms=max_ms,
        ),
        noisy=noisy,
        clean=clean,
        baseline=baseline,
        shape=parse_shape(shape),
        repeats=repeats,
        device=device,
        threads=threads,
        trust_engine=trust_engine,
        always_timed=out is not None,
    )
    if max_drop is not None and clean is None:
        raise UsageError(
            "--max-drop cannot be checked: expected images with ground truth, got none",
            hint="Name their folders with --noisy and --clean.",
        )
    with output.progress() as progress:
        report = edgedenoise.check_limits(bundle, options, progress=progress)
    if junit is not None:
        write_bytes(junit, junit_xml(report))
    if out is not None:
        append_runs(out, [report.run])
    lines = [*(one.line for one in report.outcomes), *report.run.environment.remarks]
    output.result(report, "\n".join(lines))
    error = report.error
    if error is not None and output.as_json:  # the report is the one JSON value
        raise typer.Exit(error.exit_code)
    if error is not None:
        raise error
