"""`edgedenoise serve`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from edgedenoise.bundles.pretrained import DEFAULT
from edgedenoise.cli.common import DEVICE, THREADS, Output, cli_command
from edgedenoise.cli.denoising import memory_bytes
from edgedenoise.cli.interrupts import terminated_like_interrupted

if TYPE_CHECKING:
    from edgedenoise.serve.lab import Judged


@cli_command
def command(
    output: Output,
    bundles: Annotated[
        list[Path] | None, typer.Argument(help="Bundles, or names of shipped ones. Default: edge.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for phones in the network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any free one.")] = 8765,
    results: Annotated[Path, typer.Option(help="Folder for what devices measured.")] = Path("device-lab"),
    limits: Annotated[
        str | None,
        typer.Option(help="Limits for devices: max-ms=400,max-drop=0.1,min-psnr=40,max-levels=16."),
    ] = None,
    tls: Annotated[
        bool, typer.Option("--tls", help="HTTPS with a certificate of this machine: phones warn once.")
    ] = False,
    allow_host: Annotated[list[str] | None, typer.Option(help="Further name of this machine. Repeatable.")] = None,
    max_upload: Annotated[str, typer.Option(help="Largest request, such as 64MB.")] = "64MB",
    max_pixels: Annotated[int, typer.Option(min=1, help="Pixels of the largest image.")] = 50_000_000,
    max_queue: Annotated[int, typer.Option(min=1, help="Images that may wait; more are refused with 503.")] = 8,
    precision: Annotated[str, typer.Option(help="auto, fp32, fp16, int8 or w8a16; requests may choose.")] = "auto",
    device: Annotated[str, typer.Option(help=DEVICE)] = "auto",
    threads: Annotated[int | None, typer.Option(help=THREADS)] = None,
) -> None:
    """Serve the browser app, an HTTP API and the device lab, until Ctrl-C."""
    from edgedenoise.serve.options import ServeOptions, parse_limits
    from edgedenoise.serve.server import serve

    options = ServeOptions(
        models=tuple(bundles or [Path(DEFAULT)]),
        host=host,
        port=port,
        results=results,
        limits=parse_limits(limits),
        max_upload=memory_bytes(max_upload) or 0,
        max_pixels=max_pixels,
        max_queue=max_queue,
        allowed_hosts=tuple(allow_host or ()),
        tls=tls,
        precision=cast("Any", precision),  # `load` checks it
        device=device,
        threads=threads,
    )
    count = 0

    def report(judged: Judged) -> None:
        nonlocal count
        count += 1
        output.record({"record": "result", "result": judged})
        output.message(judged.line)

    with suppress(KeyboardInterrupt), terminated_like_interrupted():
        serve(options, on_ready=output.note, on_result=report)
    output.record({"record": "summary", "results": count})
    output.message(f"stopped: {count} results in {results}" if count else "stopped")
