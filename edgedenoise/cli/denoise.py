"""`edgedenoise denoise`."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

import edgedenoise
from edgedenoise.batch.records import file_record, summary_record
from edgedenoise.bundles.pretrained import DEFAULT
from edgedenoise.cli.common import DEVICE, THREADS, TRUST_ENGINE, Output, cli_command
from edgedenoise.errors import Interrupted, UsageError
from edgedenoise.imaging.layout import MAX_PIXELS
from edgedenoise.printable import one_line
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgedenoise.imaging.folders import LeftOut


_NAMED = 5


@cli_command
def command(
    output: Output,
    context: typer.Context,
    inputs: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Output file (for one input file) or folder.")],
    model: Annotated[
        Path, typer.Option("--model", "-m", help="Bundle, model file, or a shipped bundle: edge, edge-tiny.")
    ] = Path(DEFAULT),
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Read sub-folders too; keep the tree.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist already.")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out images whose output exists already.")
    ] = False,
    runtime: Annotated[str, typer.Option(help="auto, or a backend that `edgedenoise doctor` lists.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, fp16, int8 or w8a16.")] = "auto",
    device: Annotated[str, typer.Option(help=DEVICE)] = "auto",
    tile: Annotated[str, typer.Option(help="auto, a side in pixels, or 0 for the whole image.")] = "auto",
    strength: Annotated[
        float,
        typer.Option(help="How much noise to remove: 0 to 1, or to 2 for networks that take the noise level."),
    ] = 1.0,
    noise: Annotated[
        float | None,
        typer.Option(help="Noise in 8-bit levels, for networks that take the noise level; estimated unless given."),
    ] = None,
    threads: Annotated[int | None, typer.Option(help=THREADS)] = None,
    quality: Annotated[
        int | None, typer.Option(min=1, max=100, help="Quality of JPEG and WebP. Default: that of the input.")
    ] = None,
    compression: Annotated[
        str | None,
        typer.Option(help="none, lzw or deflate (TIFF), 0 to 9 (PNG), lossless (WebP). Default: that of the input."),
    ] = None,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Largest number of pixels of an image; larger ones are refused.")
    ] = MAX_PIXELS,
    convert_cmyk: Annotated[
        bool, typer.Option("--convert-cmyk", help="Convert CMYK to sRGB through its colour profile.")
    ] = False,
    raw: Annotated[str, typer.Option(help="Curve of camera raw files: srgb or linear.")] = "srgb",
    trust_engine: Annotated[bool, typer.Option("--trust-engine", help=TRUST_ENGINE)] = False,
) -> None:
    """Denoise images and keep their size, depth, metadata and time."""
    if tile != "auto" and not tile.isdecimal():
        raise UsageError(f"--tile is not accepted: expected auto, 0 (whole image) or a side in pixels, got {tile!r}")
    if overwrite and skip_existing:
        raise UsageError("--overwrite and --skip-existing exclude each other: expected at most one, got both")
    with output.progress() as progress, _continued_by(None if overwrite else context.obj):
        report = edgedenoise.denoise_files(
            inputs,
            out,
            model,
            recursive=recursive,
            existing="overwrite" if overwrite else "skip" if skip_existing else "error",
            quality=quality,
            compression=compression,
            max_pixels=max_pixels,
            convert_cmyk=convert_cmyk,
            raw=cast("Any", raw),  # `ReadOptions` checks it
            runtime=runtime,
            precision=cast("Any", precision),  # `load` checks it
            device=device,
            tile="auto" if tile == "auto" else int(tile),
            strength=strength,
            noise=noise,
            threads=threads,
            trust_engine=trust_engine,
            progress=progress,
            on_result=lambda result: output.record(file_record(result)),
        )
    for one in report.float_instead_of if report.variant else ():
        output.note(one_line(f"{report.variant} runs in float; {one.variant} is not used: {one.reason}"))
    for line in left_out_lines(report.left_out):
        output.note(line)
    output.failures([failure.error for failure in report.failures if failure.error is not None])
    counts = report.counts
    variants = ", ".join(dict.fromkeys(file.variant for file in report.files if file.variant))
    left_out = f" and left out {counts.left_out}" if counts.left_out else ""
    text = f"denoised {counts.denoised} of {len(report.files)}{left_out}"
    if variants:
        text += f" with {variants} on {report.effective}"
    output.record(summary_record(report))
    output.message(text)
    if report.failures and report.failures[0].error is not None:
        raise typer.Exit(report.failures[0].error.exit_code)


@contextmanager
def _continued_by(words: Sequence[str] | None) -> Iterator[None]:
    """Name the command that continues the run, where Ctrl-C ends it in the block; None where no command does.

    With `--overwrite` no output shows whether it is of this run.
    """
    try:
        yield
    except KeyboardInterrupt:
        if words is None:
            raise
        again = command_line(*(word for word in words if word != "--skip-existing"), "--skip-existing")
        raise Interrupted("interrupted; no incomplete file was left", hint=f"Continue with: {again}") from None


def left_out_lines(left_out: Sequence[LeftOut]) -> list[str]:
    """Return one line per reason, with the names of the first files that it holds for."""
    names: dict[str, list[str]] = {}
    for entry in left_out:
        names.setdefault(entry.reason, []).append(one_line(entry.path))
    lines = []
    for reason, paths in names.items():
        more = f" and {len(paths) - _NAMED} more (all with --json)" if len(paths) > _NAMED else ""
        lines.append(f"left out {len(paths)} ({one_line(reason)}): {', '.join(paths[:_NAMED])}{more}")
    return lines
