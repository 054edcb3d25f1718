"""`edgedenoise import-onnx`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

import edgedenoise
from edgedenoise.cli.common import ABOUT, Output, cli_command, text_of
from edgedenoise.errors import UsageError
from edgedenoise.printable import one_line
from edgedenoise.shell import command_line


@cli_command
def command(
    output: Output,
    model: Annotated[Path, typer.Argument(help="ONNX file of the denoiser.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Bundle folder to write, for example my.edge.")],
    normalization: Annotated[
        Literal["unit", "whole-image", "whole-image-bounded"],
        typer.Option(
            help="How the network takes pixels: as [0, 1], with the mean and the deviation of the whole image, or the"
            " same with a limit for INT8."
        ),
    ] = "unit",
    halo: Annotated[
        str, typer.Option(help="Context of a tile in pixels; auto for the receptive field of the graph.")
    ] = "auto",
    about: Annotated[Path | None, typer.Option(help=ABOUT)] = None,
) -> None:
    """Make a bundle of a denoiser from any framework.

    The graph is cleaned, compared with the original, and refused with the reason where tiles would differ from the
    whole image.
    """
    with output.progress() as progress:
        imported = edgedenoise.import_onnx(
            model,
            out,
            normalization=normalization,
            halo_px=_pixels(halo),
            about=text_of(about),
            progress=progress,
        )
    value = {
        "path": out,
        "halo_px": imported.halo_px,
        "measured_px": imported.measured_px,
        "multiple_of": imported.multiple_of,
        "max_error_lsb": imported.max_error_lsb,
        "max_tile_error_lsb": imported.max_tile_error_lsb,
    }
    text = (
        f"imported {one_line(model)} to {one_line(out)}\n"
        f"halo: {imported.halo_px} px (measured: {imported.measured_px}), sides of tiles: multiples of"
        f" {imported.multiple_of}\n"
        f"largest difference from the original: {imported.max_error_lsb:.1e} 8-bit levels; of tiles from the whole"
        f" image: {imported.max_tile_error_lsb:.1e}\n"
        f"next, with a folder of noisy images: {command_line('calibrate', out, '--data')} ..."
    )
    output.result(value, text)


def _pixels(halo: str) -> int | None:
    """Return the value of `--halo`; None for auto.

    Raises:
        UsageError: it is neither auto nor a number.
    """
    if halo == "auto":
        return None
    if not (halo.isascii() and halo.isdigit()):
        raise UsageError(f"--halo is not accepted: expected auto or a number of pixels, got {halo!r}")
    return int(halo)
