"""`edgedenoise quantize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import edgedenoise
from edgedenoise.cli.common import Output, verb


@verb
def command(
    output: Output,
    bundle: Annotated[Path, typer.Argument(help="Calibrated bundle folder.")],
    scheme: Annotated[str | None, typer.Option(help="u8s7 (7-bit weights, the default) or u8s8.")] = None,
    calibrator: Annotated[
        str, typer.Option(help="How ranges are chosen: minmax, mse, entropy, percentile-99.99.")
    ] = "minmax",
    data: Annotated[
        Path | None,
        typer.Option(help="Photographs to measure the distance to float on, beside the self-test."),
    ] = None,
) -> None:
    """Encode the float graph as an INT8 (QDQ) graph from the stored ranges."""
    with output.progress() as progress:
        report = edgedenoise.quantize_model(bundle, scheme=scheme, calibrator=calibrator, data=data, progress=progress)
    lines = [f"{report.variant}: {report.size_bytes / 1024:.0f} KB, float {report.float_size_bytes / 1024:.0f} KB"]
    lines.append(f"exact W8A8 to float on the self-test: {report.selftest_db:.1f} dB")
    if report.held_out_db is not None:
        lines.append(f"exact W8A8 to float on held-out crops: {report.held_out_db:.1f} dB")
    lines.append(f"next: edgedenoise compile {bundle} --target openvino; edgedenoise verify {bundle}")
    output.result(report, "\n".join(lines))
