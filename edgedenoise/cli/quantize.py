"""`edgedenoise quantize`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

import edgedenoise
from edgedenoise.cli.common import Output, cli_command
from edgedenoise.errors import QuantizationError, UsageError

if TYPE_CHECKING:
    from edgedenoise.exporting.quantization.qdq import QuantizeReport


@cli_command
def command(
    output: Output,
    bundle: Annotated[Path, typer.Argument(help="Calibrated bundle folder.")],
    scheme: Annotated[
        str | None, typer.Option(help="u8s7 (any CPU, the default), u8s8, s8s8 (TensorRT) or coreml.")
    ] = None,
    calibrator: Annotated[
        str | None, typer.Option(help="How ranges are chosen: minmax (the default), mse, entropy, percentile-99.99.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Images to measure the distance to float on, beside the self-test."),
    ] = None,
    max_drop: Annotated[
        str | None,
        typer.Option(help="Search for the fastest encoding that loses at most this to float: 0.1dB. Needs --clean."),
    ] = None,
    min_psnr: Annotated[
        str | None, typer.Option(help="Or: that is at least this close to the float answer: 50dB. Needs no --clean.")
    ] = None,
    clean: Annotated[
        Path | None, typer.Option(help="Ground truth under the same names; without --data, noise is added to it.")
    ] = None,
    weight_clip: Annotated[
        str, typer.Option(help="mse: weight scales of least squared error; auto: where that measures better.")
    ] = "none",
    bias_correction: Annotated[
        str, typer.Option(help="mean: give each channel its mean back; auto: where that is better. Needs --data.")
    ] = "none",
    runtime: Annotated[str, typer.Option(help="Whose speed counts in the search.")] = "onnxruntime",
) -> None:
    """Encode the float graph as an INT8 (QDQ) graph from the stored ranges, within a budget of quality if asked."""
    if max_drop is None and min_psnr is None:
        if clean is not None:
            raise UsageError("--clean was given without a budget", hint="add one: --max-drop 0.1dB")
        with output.progress() as progress:
            report = edgedenoise.quantize(
                bundle,
                scheme=scheme,
                calibrator=calibrator or "minmax",
                data=data,
                weight_clip=cast("Any", weight_clip),  # checked there
                bias_correction=cast("Any", bias_correction),
                progress=progress,
            )
        output.result(report, "\n".join(_lines(report, bundle)))
        return
    if (weight_clip, bias_correction) != ("none", "none"):
        raise UsageError("--weight-clip and --bias-correction are no part of a search within a budget; leave them out")
    from edgedenoise.exporting.quantization.search_result import Plan, plan_table

    try:
        with output.progress() as progress:
            found = edgedenoise.quantize_to_budget(
                bundle,
                max_drop_db=_decibels("--max-drop", max_drop),
                min_psnr_db=_decibels("--min-psnr", min_psnr),
                data=data,
                clean=clean,
                scheme=scheme,
                calibrator=calibrator,
                runtime=runtime,
                progress=progress,
            )
    except QuantizationError as error:
        if isinstance(error.plan, Plan) and not output.as_json:  # in JSON it is a field of the error
            output.result(error.plan, plan_table(error.plan))
        raise
    output.result(found, "\n".join([plan_table(found.plan), *_lines(found.quantized, bundle)]))


def _lines(report: QuantizeReport, bundle: Path) -> list[str]:
    lines = [f"{report.variant}: {report.size_bytes / 1024:.0f} KB, float {report.float_size_bytes / 1024:.0f} KB"]
    lines.append(f"exact W8A8 to float on the self-test: {report.selftest_db:.1f} dB")
    if report.held_out_db is not None:
        lines.append(f"exact W8A8 to float on held-out crops: {report.held_out_db:.1f} dB")
    for what, kept, gain_db in (
        ("weight clipping", report.weight_clip, report.weight_clip_gain_db),
        ("bias correction", report.bias_correction, report.bias_correction_gain_db),
    ):
        if gain_db is not None:
            lines.append(f"{what}: {gain_db:+.2f} dB to float; kept: {kept}")
    lines.append(f"next: edgedenoise compile {bundle} --target {_for_whom(report)}; edgedenoise verify {bundle}")
    return lines


def _for_whom(report: QuantizeReport) -> str:
    """Return the first target that is built from the new graph."""
    from edgedenoise.calibration.schemes import schemes_for
    from edgedenoise.exporting.targets import TARGETS

    scheme = report.variant.rpartition("-")[2]
    takers = (t.name for t in TARGETS if t.builder and scheme in {s.name for s in schemes_for(t.device_class)})
    return next(takers, "openvino")


def _decibels(option: str, text: str | None) -> float | None:
    """Read '0.1dB', '0.1 dB' or '0.1'.

    Raises:
        UsageError: it is none of these.
    """
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(?:dB)?\s*", text, re.IGNORECASE)
    if match is None:
        raise UsageError(f"{option} {text!r} is not a number of decibels; accepted: 0.1dB or 0.1")
    return float(match[1])
