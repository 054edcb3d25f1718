"""The command line: one small module per command, without logic.

Commands import the library inside their functions, so that `--help` loads no runtime.
"""

from __future__ import annotations

import importlib
from typing import Annotated

import typer

import edgedenoise
from edgedenoise.cli.common import Command, CommandGroup

COMMANDS = (
    "demo",
    "train",
    "import-tf",
    "import-onnx",
    "import-torch",
    "evaluate",
    "build",
    "export",
    "calibrate",
    "quantize",
    "compile",
    "verify",
    "test",
    "denoise",
    "watch",
    "camera",
    "serve",
    "compare",
    "bench",
    "report",
    "history",
    "inspect",
    "doctor",
    "pack",
)
"""In the order of `--help`. Each is a module of `edgedenoise.cli`, with `_` for hyphens."""

app = typer.Typer(
    name="edgedenoise",
    cls=CommandGroup,
    help="Train image denoisers on noisy images, quantize them to INT8, and run and measure them on devices.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"edgedenoise {edgedenoise.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


for _name in COMMANDS:
    _module = importlib.import_module(f"edgedenoise.cli.{_name.replace('-', '_')}")
    app.command(_name, cls=Command)(_module.command)


def main() -> None:
    """Run the command line."""
    app(prog_name="edgedenoise")
