"""`edgedenoise pack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgedenoise.cli.common import Output, cli_command
from edgedenoise.printable import one_line


@cli_command
def command(
    output: Output,
    bundle: Annotated[Path, typer.Argument(help="Bundle to pack. With --unpack, an archive or a shipped bundle.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Archive to write. With --unpack, a folder.")],
    unpack: Annotated[bool, typer.Option("--unpack", help="Write a folder, which can be changed.")] = False,
) -> None:
    """Pack a bundle folder into one file, or unpack one.

    The same bundle gives the same bytes.
    """
    from edgedenoise.bundles import archive
    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.bundles.writer import copy_bundle

    opened = Bundle.open(bundle)
    opened.check()
    if unpack and opened.source == opened.root:
        copy_bundle(opened, out)
    elif unpack:
        archive.unpack(bundle, out)
    else:
        archive.pack(opened.root, out)
    output.result({"path": out}, f"wrote {one_line(out)}")
