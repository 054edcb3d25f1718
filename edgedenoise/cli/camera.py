"""`edgedenoise camera`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from edgedenoise.bundles.pretrained import DEFAULT
from edgedenoise.cli import denoising
from edgedenoise.cli.common import Output, cli_command
from edgedenoise.cli.interrupts import terminated_like_interrupted
from edgedenoise.tables import table

if TYPE_CHECKING:
    from edgedenoise.imaging.stream import StreamReport


@cli_command
def command(
    output: Output,
    source: Annotated[
        str, typer.Argument(help="0, /dev/video0, rtsp://..., a GStreamer pipeline, or a video played as a camera.")
    ],
    model: denoising.Model = Path(DEFAULT),
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Video to record the results to.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a recording that exists already.")] = False,
    frames: Annotated[int | None, typer.Option(min=1, help="End after this number of results.")] = None,
    seconds: Annotated[float | None, typer.Option(help="End after this time.")] = None,
    policy: Annotated[
        str, typer.Option(help="latest: drop frames that a newer one replaces. block: make the camera wait.")
    ] = "latest",
    max_queue: Annotated[int, typer.Option(min=1, help="Number of frames that may wait.")] = 1,
    similarity: Annotated[
        float | None,
        typer.Option(help="Similarity (0 to 1) from which frames repeat the last result; 0.98 suits most cameras."),
    ] = None,
    reuse: denoising.Reuse = False,
    codec: denoising.Codec = "auto",
    crf: denoising.Crf = None,
    *,
    loading: denoising.Loading,
) -> None:
    """Denoise a camera live, and report the delay from capture to result.

    Ctrl-C or SIGTERM ends it and finishes the recording.
    """
    from edgedenoise.video.live import StreamOptions, denoise_camera
    from edgedenoise.video.options import VideoOptions

    with output.progress() as progress, terminated_like_interrupted():
        report = denoise_camera(
            source,
            model,
            out=out,
            overwrite=overwrite,
            frames=frames,
            seconds=seconds,
            stream=StreamOptions(cast("Any", policy), max_queue, similarity, reuse),
            video=VideoOptions(codec=codec, crf=crf),
            progress=progress,
            **loading.options(),
        )
    output.result(report, stream_table(report))


def stream_table(report: StreamReport) -> str:
    """Return the counts and delays of a stream as text."""
    counts = (
        f"{report.captured} frames captured, {report.processed} denoised, {report.repeated} repeated,"
        f" {report.dropped} dropped; {report.frames_per_second:.1f} results per second"
    )
    rows = [
        [name, *("-" if ms is None else f"{ms:.1f}" for ms in (delays.p50, delays.p90, delays.p99))]
        for name, delays in (("capture to result", report.latency_ms), ("age of frames", report.age_ms))
    ]
    return f"{counts}\n{table(['ms', 'p50', 'p90', 'p99'], rows)}"
