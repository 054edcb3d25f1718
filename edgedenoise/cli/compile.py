"""`edgedenoise compile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import edgedenoise
from edgedenoise.cli.common import Output, cli_command
from edgedenoise.errors import UsageError


@cli_command
def command(
    output: Output,
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    target: Annotated[str, typer.Option(help="openvino, tensorrt, tensorrt-rtx or coreml; see doctor.")],
    precision: Annotated[
        str | None, typer.Option(help="fp32, fp16, int8, or w8a16 (weights alone); default: the target's own choice.")
    ] = None,
    tile: Annotated[
        int | None, typer.Option(help="Side of the input in pixels, margins included, where shapes are fixed: 512.")
    ] = None,
    tiles: Annotated[str | None, typer.Option(help="Sides that are accepted instead, as 256,512 (coreml).")] = None,
    tile_range: Annotated[
        str | None, typer.Option(help="LEAST:BEST:MOST side instead, as 128:512:1024 (tensorrt, coreml).")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="One of the target's own options; repeatable.")
    ] = None,
) -> None:
    """Build a backend's own files from the bundle's graphs and prove them with the self-test."""
    from edgedenoise.bundles.bundle import checked_precision
    from edgedenoise.exporting.build_options import BuildOptions

    options = BuildOptions(
        tile=tile,
        tiles=_sides("--tiles", tiles, ","),
        tile_range=_range(tile_range),
        more=dict(_pair(text) for text in option or ()),
    )
    wanted = None if precision is None else checked_precision(precision)
    with output.progress() as progress:
        compiled = edgedenoise.compile(bundle, target=target, precision=wanted, options=options, progress=progress)
    names = [variant.name for variant in compiled.manifest.variants]
    output.result(compiled.manifest.variants, f"{bundle} now has {', '.join(names)}")


def _sides(name: str, text: str | None, separator: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(separator)) if text else ()
    except ValueError:
        raise UsageError(f"{name} is {text!r}; accepted are numbers of pixels separated by {separator!r}") from None


def _range(text: str | None) -> tuple[int, int, int] | None:
    sides = _sides("--tile-range", text, ":")
    if not sides:
        return None
    if len(sides) != 3:
        raise UsageError(f"--tile-range is {text!r}; accepted is LEAST:BEST:MOST, as 128:512:1024")
    return sides[0], sides[1], sides[2]


def _pair(text: str) -> tuple[str, str]:
    key, found, value = text.partition("=")
    if not found or not key:
        raise UsageError(f"--option is {text!r}; accepted is KEY=VALUE")
    return key, value
