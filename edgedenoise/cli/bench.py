"""`edgedenoise bench`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

import edgedenoise
from edgedenoise.cli.common import DEVICE, RESULTS, THREADS, Output, TrustEngine, Wide, cli_command
from edgedenoise.cli.remote import on_devices
from edgedenoise.errors import MeasurementError, UsageError


@cli_command
@on_devices(results="out")
def command(
    output: Output,
    bundle: Annotated[Path, typer.Argument(help="Bundle folder or archive.")],
    shape: Annotated[
        str, typer.Option(help="Height and width of the test image in pixels, for example 720x1280; or its side.")
    ] = "512",
    repeats: Annotated[int, typer.Option(help="Timed rounds. 10 are needed for p90, 20 for p95, 100 for p99.")] = 20,
    variant: Annotated[list[str] | None, typer.Option(help="Variant to measure. Repeatable. Default: all.")] = None,
    runtime: Annotated[list[str] | None, typer.Option(help="Backend to measure. Repeatable. Default: all.")] = None,
    precision: Annotated[list[str] | None, typer.Option(help="Precision to measure. Repeatable. Default: all.")] = None,
    device: Annotated[str, typer.Option(help=DEVICE)] = "auto",
    threads: Annotated[int | None, typer.Option(help=THREADS)] = None,
    trust_engine: TrustEngine = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help=RESULTS)] = None,
    wide: Wide = False,
) -> None:
    """Measure the speed of every variant of a bundle.

    Each variant runs in its own process, and the rounds are interleaved. `network ms` is the network alone on an input
    of the shape, as benchmark_app and trtexec measure it; `call ms` is the whole call on an image.
    """
    from edgedenoise.evaluation.measurement import failures
    from edgedenoise.evaluation.report.text_tables import bench_table
    from edgedenoise.evaluation.result_files import append_runs, check_appendable

    if out is not None:
        check_appendable(out)
    with output.progress() as progress:
        report = edgedenoise.bench(
            bundle,
            shape=parse_shape(shape),
            repeats=repeats,
            device=device,
            threads=threads,
            trust_engine=trust_engine,
            variants=variant or (),
            runtimes=runtime or (),
            precisions=precision or (),
            progress=progress,
        )
    if out is not None:
        append_runs(out, [report.run])
    output.result(report, "\n".join([bench_table(report.variants, wide=wide), *report.run.environment.remarks]))
    failed = failures(report.variants)
    if failed:
        output.failures([MeasurementError(f"not measured: {one}") for one in failed])
        raise typer.Exit(MeasurementError.exit_code)


def parse_shape(text: str) -> tuple[int, int]:
    """Return (height, width) from a text such as 720x1280, or 512 for a square.

    Raises:
        UsageError: the text has another form.
    """
    found = re.fullmatch(r"(\d{1,6})(?:x(\d{1,6}))?", text)
    if found is None:
        raise UsageError(f"--shape is not accepted: expected HEIGHTxWIDTH, such as 720x1280, or a side, got {text!r}")
    return int(found[1]), int(found[2] or found[1])
