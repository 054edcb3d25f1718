"""`edgedenoise pack`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edgedenoise.cli.common import Output, cli_command
from edgedenoise.errors import UsageError
from edgedenoise.printable import one_line

if TYPE_CHECKING:
    from edgedenoise.bundles.bundle import Bundle

_To = Literal["archive", "onnx", "hf", "dtmodel"]


@cli_command
def command(
    output: Output,
    bundle: Annotated[Path, typer.Argument(help="Bundle to pack. With --unpack, an archive or a shipped bundle.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write. With --unpack or --to hf, a folder.")],
    unpack: Annotated[bool, typer.Option("--unpack", help="Write a folder, which can be changed.")] = False,
    to: Annotated[
        _To,
        typer.Option(
            help="archive: the whole bundle in one file. onnx: one network with its metadata. hf: a folder for Hugging"
            " Face. dtmodel: a package for darktable's AI denoise."
        ),
    ] = "archive",
    variant: Annotated[
        str | None, typer.Option(help="Variant for --to onnx. Default: the float network, onnx-fp32.")
    ] = None,
    license_id: Annotated[
        str | None, typer.Option("--license", help="Licence of the weights, for --to hf and dtmodel: Apache-2.0.")
    ] = None,
) -> None:
    """Pack a bundle folder into one file, or unpack one.

    The same bundle gives the same bytes.
    """
    from edgedenoise.bundles import archive
    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.bundles.writer import copy_bundle

    _check_options(to, unpack=unpack, variant=variant, license_id=license_id)
    opened = Bundle.open(bundle)
    opened.check()
    if unpack and not opened.is_archive:
        copy_bundle(opened, out)
    elif unpack:
        archive.unpack(bundle, out)
    elif to == "archive":
        archive.pack(opened.root, out)
    else:
        _write_package(opened, out, to, variant, license_id or "")
    output.result({"path": out}, f"wrote {one_line(out)}")


def _write_package(bundle: Bundle, out: Path, to: _To, variant: str | None, license_id: str) -> None:
    from edgedenoise.exporting.packages import write_dtmodel, write_hub_folder, write_lone_onnx

    if to == "hf":
        write_hub_folder(bundle, out, license_id=license_id)
    elif to == "dtmodel":
        write_dtmodel(bundle, out, license_id=license_id)
    elif variant is None:
        write_lone_onnx(bundle, out)
    else:
        write_lone_onnx(bundle, out, variant=variant)


def _check_options(to: _To, *, unpack: bool, variant: str | None, license_id: str | None) -> None:
    """Check that options that were given belong together.

    Raises:
        UsageError: they do not, or the licence is missing.
    """
    if unpack and to != "archive":
        raise UsageError(f"--unpack and --to {to} exclude each other", hint="Leave out one of them.")
    if variant is not None and to != "onnx":
        raise UsageError(f"--variant belongs to --to onnx; got --to {to}")
    needs_license = to in ("hf", "dtmodel")
    if needs_license and not license_id:
        raise UsageError(
            f"--to {to} needs the licence under which others may use the weights",
            hint="Add it, for example: --license Apache-2.0",
        )
    if license_id and not needs_license:
        raise UsageError(f"--license belongs to --to hf and --to dtmodel; got --to {to}")
