"""`edgedenoise watch`."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import edgedenoise
from edgedenoise.batch.records import file_record
from edgedenoise.bundles.pretrained import DEFAULT
from edgedenoise.cli import denoising
from edgedenoise.cli.common import Output, cli_command
from edgedenoise.cli.interrupts import terminated_like_interrupted
from edgedenoise.printable import one_line

if TYPE_CHECKING:
    from edgedenoise.batch.results import FileResult


@cli_command
def command(
    output: Output,
    folder: Annotated[Path, typer.Argument(help="Folder to watch, with its sub-folders.")],
    out: Annotated[Path, typer.Argument(help="Folder of the outputs.")],
    model: denoising.Model = Path(DEFAULT),
    settle: Annotated[
        float, typer.Option(min=0, help="Seconds for which the size and time of a complete file do not change.")
    ] = 2.0,
    poll: Annotated[
        bool, typer.Option("--poll", help="Look through the folder again and again: for network folders.")
    ] = False,
    *,
    loading: denoising.Loading,
    files: denoising.Files,
) -> None:
    """Denoise the images of a folder as they arrive, until Ctrl-C."""
    counts = {"denoised": 0, "failed": 0}
    begun = threading.Event()

    def begin(stage: str, done: int, total: int, note: str = "") -> None:  # noqa: ARG001
        if not begun.is_set():  # everything is checked and loaded
            begun.set()
            output.note(f"watching {one_line(folder)}; press Ctrl-C to stop")

    def report(result: FileResult) -> None:
        counts["denoised" if result.error is None else "failed"] += 1
        output.record(file_record(result))
        if result.error is not None:
            output.failures([result.error])
        else:
            output.message(f"denoised {one_line(result.source)} to {one_line(result.output)} with {result.variant}")

    with suppress(KeyboardInterrupt), terminated_like_interrupted():
        edgedenoise.watch(
            folder,
            out,
            model,
            settle_s=settle,
            poll=poll,
            progress=begin,
            on_result=report,
            **asdict(files),
            **loading.options(),
        )
    output.record({"record": "summary", "counts": counts})
    failed = f", {counts['failed']} failed" if counts["failed"] else ""
    output.message(f"stopped: denoised {counts['denoised']}{failed}")
