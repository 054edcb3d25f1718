"""Ctrl-C ends a command with 130 and one line, in the middle of imports too."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from edgedenoise.cli.common import Command, Output, cli_command

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")

DURING_IMPORTS = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "{module}":
            try:
                os.kill(os.getpid(), signal.SIGINT)
                for _ in range(1000):
                    pass  # the handler runs here
            except BaseException as error:
                raise ImportError("a library has hidden it") from error
sys.meta_path.insert(0, Finder())
from edgedenoise.__main__ import main
sys.argv[:] = ["edgedenoise", "verify", "edge-tiny"]
main()
"""


@pytest.mark.parametrize("module", ["edgedenoise.cli.train", "edgedenoise.exporting.verify"])
def test_ctrl_c_during_imports_ends_with_130_and_no_traceback(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DURING_IMPORTS.format(module=module)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_that_a_library_turns_into_its_own_error_is_no_internal_error() -> None:
    @cli_command
    def command(output: Output) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise SystemError("returned a result with an exception set") from error

    app = typer.Typer()
    app.command("it", cls=Command)(command)
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 130
    assert "interrupted" in result.output
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("number", "hint"), [(errno.ENOSPC, "Free some space"), (errno.EMFILE, "ulimit -n"), (errno.EACCES, "permissions")]
)
def test_an_error_of_the_system_is_never_an_internal_error(number: int, hint: str) -> None:
    @cli_command
    def command(output: Output) -> None:
        raise OSError(number, os.strerror(number), "/data/photo.png")

    app = typer.Typer()
    app.command("it", cls=Command)(command)
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 1
    assert "/data/photo.png" in result.output
    assert hint in result.output
    assert "internal error" not in result.output
