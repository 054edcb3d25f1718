"""`edgedenoise compile`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import edgedenoise
from edgedenoise.cli.common import Output, cli_command
from edgedenoise.cli.remote import on_devices
from edgedenoise.errors import UsageError
from edgedenoise.printable import one_line
from edgedenoise.shell import command_line, quoted

if TYPE_CHECKING:
    from edgedenoise.runtimes.job import BuildOptions

_WEB = "web"
"""Target that is no backend: an app for browsers."""


def _extras(arguments: dict[str, Any]) -> tuple[str, ...]:
    """Return what a device needs for compiling: onnx, and the package of the backend."""
    from edgedenoise.runtimes.registry import registry

    extra = registry[arguments["target"]].extra if arguments["target"] in registry else None
    return tuple({"quantize", *([] if extra is None else [extra])})


@cli_command
@on_devices(changes=("bundle",), extras=_extras)
def command(
    output: Output,
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    target: Annotated[
        str, typer.Option(help="Backend that `edgedenoise doctor` lists, for example openvino, or web for an app.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the app, with --target web. Other targets have none.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, fp16, int8, or w8a16 (weights only). Default: those of the backend.")
    ] = None,
    tile: Annotated[
        int | None, typer.Option(help="Fixed side of the input in pixels, margins included. Default: 512.")
    ] = None,
    tiles: Annotated[str | None, typer.Option(help="Several accepted sides, for example 256,512 (coreml).")] = None,
    tile_range: Annotated[
        str | None,
        typer.Option(help="Least, best and largest side, for example 128:512:1024 (tensorrt, coreml)."),
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="<key=value>", help="Option of the backend. Repeatable.")
    ] = None,
) -> None:
    """Build the files of a backend and run their self-test."""
    from edgedenoise.bundles.bundle import checked_precision
    from edgedenoise.runtimes.job import BuildOptions

    options = BuildOptions(
        tile=tile,
        tiles=_sides("--tiles", tiles, ","),
        tile_range=_range(tile_range),
        more=dict(_pair(text) for text in option or ()),
    )
    wanted = None if precision is None else checked_precision(precision)
    if target == _WEB:
        if wanted is not None or options != BuildOptions(more=options.more):
            raise UsageError("the app for browsers takes no precision and no tiles: expected --option alone")
        _write_web(output, bundle, out, options)
        return
    if out is not None:
        raise UsageError(f"-o is for --target {_WEB}: {target} adds its files to the bundle, got {out}")
    with output.progress() as progress:
        compiled = edgedenoise.compile(bundle, target=target, precision=wanted, options=options, progress=progress)
    names = [variant.name for variant in compiled.manifest.variants]
    output.result(compiled.manifest.variants, one_line(f"{bundle} now has {', '.join(names)}"))


def _write_web(output: Output, bundle: Path, out: Path | None, options: BuildOptions) -> None:
    """Write the app for browsers with one bundle, as a folder for a host or as one file."""
    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.bundles.pretrained import resolve
    from edgedenoise.exporting.web.single import FILE, write_single_file
    from edgedenoise.exporting.web.site import write_site
    from edgedenoise.exporting.web.target import WebOptions

    chosen = WebOptions.of(options)
    if out is None:
        raise UsageError(
            f"--target {_WEB} writes a folder: expected -o, got none",
            hint=f"Name it: {command_line('compile', bundle, '--target', _WEB, '-o', 'site')}",
        )
    opened = Bundle.open(resolve(bundle))
    if chosen.single_file:
        page = write_single_file([opened], out / FILE)
        megabytes = page.stat().st_size / 1e6
        output.result({"path": page}, one_line(f"wrote {page} ({megabytes:.1f} MB); open it in a browser"))
        return
    write_site([opened], out)
    local = quoted("python", "-m", "http.server", "--bind", "127.0.0.1", "--directory", out)
    output.result({"path": out}, one_line(f"wrote {out}; copy it to a host with HTTPS, or try it here: {local}"))


def _sides(name: str, text: str | None, separator: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(separator)) if text else ()
    except ValueError:
        raise UsageError(
            f"{name} is not accepted: expected numbers of pixels separated by {separator!r}, got {text!r}"
        ) from None


def _range(text: str | None) -> tuple[int, int, int] | None:
    sides = _sides("--tile-range", text, ":")
    if not sides:
        return None
    if len(sides) != 3:
        raise UsageError(f"--tile-range is not accepted: expected three sides such as 128:512:1024, got {text!r}")
    return sides[0], sides[1], sides[2]


def _pair(text: str) -> tuple[str, str]:
    key, found, value = text.partition("=")
    if not found or not key:
        raise UsageError(f"--option is not accepted: expected KEY=VALUE, got {text!r}")
    return key, value
