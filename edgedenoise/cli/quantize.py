"""`edgedenoise quantize`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

import edgedenoise
from edgedenoise.cli.common import SCHEME, Output, Wide, cli_command
from edgedenoise.errors import QuantizationError, UsageError
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from edgedenoise.exporting.quantization.quantize_report import QuantizeReport


@cli_command
def command(
    output: Output,
    bundle: Annotated[Path, typer.Argument(help="Calibrated bundle folder.")],
    scheme: Annotated[str | None, typer.Option(help=SCHEME)] = None,
    calibrator: Annotated[
        str | None, typer.Option(help="How ranges are set: minmax (the default), mse, entropy or percentile-99.99.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Images to measure the distance to float on, in addition to the self-test."),
    ] = None,
    max_drop: Annotated[
        str | None,
        typer.Option(help="Find the fastest encoding that loses at most this PSNR, for example 0.1dB. Needs --clean."),
    ] = None,
    min_psnr: Annotated[
        str | None,
        typer.Option(help="Find the fastest encoding at least this close to float, for example 50dB."),
    ] = None,
    clean: Annotated[
        Path | None,
        typer.Option(help="Ground truth, under the same names as --data. Without --data, noise is added to it."),
    ] = None,
    weight_clip: Annotated[
        str, typer.Option(help="none, mse (weight scales of least squared error) or auto (where that measures better).")
    ] = "none",
    bias_correction: Annotated[
        str,
        typer.Option(help="none, mean (restore the mean of each channel) or auto (where better). Needs --data."),
    ] = "none",
    runtime: Annotated[str, typer.Option(help="Backend whose speed the search compares.")] = "onnxruntime",
    ignore_trained_ranges: Annotated[
        bool,
        typer.Option(
            "--ignore-trained-ranges", help="Use measured ranges, although the weights were trained with their own."
        ),
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build the variants of other backends again that this removes.")
    ] = False,
    wide: Wide = False,
) -> None:
    """Quantize a calibrated bundle to INT8.

    With --max-drop or --min-psnr, search for the fastest encoding within a budget of quality.
    """
    from edgedenoise.exporting.rebuild import rebuild as rebuild_removed

    if max_drop is None and min_psnr is None:
        if clean is not None:
            raise UsageError(
                "--clean is not accepted alone: expected --max-drop or --min-psnr with it, got neither",
                hint="Add a budget: --max-drop 0.1dB",
            )
        with output.progress() as progress:
            report = edgedenoise.quantize(
                bundle,
                scheme=scheme,
                calibrator=calibrator,
                data=data,
                weight_clip=cast("Any", weight_clip),  # checked there
                bias_correction=cast("Any", bias_correction),
                ignore_trained_ranges=ignore_trained_ranges,
                progress=progress,
            )
            if rebuild:
                rebuild_removed(bundle, report.removed, progress)
        output.result(report, "\n".join(_lines(report, bundle, rebuilt=rebuild)))
        return
    if (weight_clip, bias_correction) != ("none", "none"):
        raise UsageError(
            "--weight-clip and --bias-correction are not accepted in a search within a budget",
            hint="Leave them out.",
        )
    from edgedenoise.exporting.quantization.search_result import QuantizationPlan, plan_table

    try:
        with output.progress() as progress:
            found = edgedenoise.quantize_to_budget(
                bundle,
                max_drop_db=decibels("--max-drop", max_drop),
                min_psnr_db=decibels("--min-psnr", min_psnr),
                data=data,
                clean=clean,
                scheme=scheme,
                calibrator=calibrator,
                runtime=runtime,
                ignore_trained_ranges=ignore_trained_ranges,
                progress=progress,
            )
            if rebuild:
                rebuild_removed(bundle, found.quantized.removed, progress)
    except QuantizationError as error:
        if isinstance(error.plan, QuantizationPlan) and not output.as_json:  # in JSON it is a field of the error
            output.result(error.plan, plan_table(error.plan, wide=wide))
        raise
    output.result(
        found, "\n".join([plan_table(found.plan, wide=wide), *_lines(found.quantized, bundle, rebuilt=rebuild)])
    )


def _lines(report: QuantizeReport, bundle: Path, *, rebuilt: bool) -> list[str]:
    from edgedenoise.exporting.rebuild import rebuild_command

    lines = [f"{report.variant}: {report.size_bytes / 1024:.0f} KB, float {report.float_size_bytes / 1024:.0f} KB"]
    lines.append(f"exact W8A8 to float on the self-test: {report.selftest_db:.1f} dB")
    if report.held_out_db is not None:
        lines.append(f"exact W8A8 to float on held-out images: {report.held_out_db:.1f} dB")
    if report.loss is not None:
        lines.append(loss_line(report))
    for what, kept, gain_db in (
        ("weight clipping", report.weight_clip, report.weight_clip_gain_db),
        ("bias correction", report.bias_correction, report.bias_correction_gain_db),
    ):
        if gain_db is not None:
            lines.append(f"{what}: {gain_db:+.2f} dB to float; kept: {kept}")
    if report.trained_ranges:
        lines.append(
            f"ranges: {report.trained_ranges} that the weights were trained with, {report.measured_ranges} measured"
        )
    for removed in report.removed:
        again = "built again" if rebuilt else f"to build it again: {rebuild_command(bundle, removed)}"
        lines.append(f"removed {removed.variant}, which held the former encoding; {again}")
    if not report.removed:
        lines.append(f"next: {command_line('compile', bundle, '--target', _first_target(report))}")
    return lines


def loss_line(report: QuantizeReport) -> str:
    """Return one line on what a new graph loses, and whether it is recommended."""
    loss = report.loss
    if loss is None:
        return f"{report.variant}: the loss was not measured"
    count = len(report.float_layers)
    kept = f"; {count} layer{'s' if count > 1 else ''} kept in float" if count else ""
    if loss.recommended:
        return f"{report.variant}: {loss}{kept}"
    return f"{report.variant} is not recommended: {loss}{kept}; `auto` does not take it"


def _first_target(report: QuantizeReport) -> str:
    """Return the first backend that is built from the new graph."""
    from edgedenoise.runtimes.registry import registry

    scheme = report.variant.rpartition("-")[2]
    takers = (backend.name for backend in registry.values() if backend.precisions and scheme in backend.schemes)
    return next(takers, "openvino")


def decibels(option: str, text: str | None) -> float | None:
    """Read decibels from a text such as 0.1dB, 0.1 dB or 0.1.

    Raises:
        UsageError: the text has another form.
    """
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(?:dB)?\s*", text, re.IGNORECASE)
    if match is None:
        raise UsageError(f"{option} is not accepted: expected decibels, such as 0.1dB, got {text!r}")
    return float(match[1])
