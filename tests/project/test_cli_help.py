"""What `--help` says is a promise too: golden/help/ has one page per command."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import typer.main

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from conftest import Golden

TOP = "edgedenoise"


def command_names() -> list[str]:
    """Every command that is shown to users, read from the application itself."""
    from edgedenoise.cli import app

    command = typer.main.get_command(app)
    found: dict[str, object] = getattr(command, "commands")  # noqa: B009 - a group; its type differs between typer versions
    return sorted(name for name, one in found.items() if not getattr(one, "hidden", False))


def help_page(name: str, environment: dict[str, str]) -> str:
    words = [] if name == TOP else [name]
    code = "from edgedenoise.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv[0] = 'edgedenoise'; {code}", *words, "--help"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=environment,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, f"edgedenoise {' '.join(words)} --help exited {done.returncode}:\n{done.stderr}"
    assert not done.stderr, "help belongs on stdout"
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines()) + "\n"


def test_help_pages_are_the_golden_ones(golden: Golden, plain_environment: dict[str, str]) -> None:
    pages = [TOP, *command_names()]
    with ThreadPoolExecutor(max_workers=2) as pool:
        texts = list(pool.map(lambda page: help_page(page, plain_environment), pages))
    for page, text in zip(pages, texts, strict=True):
        golden(f"help/{page}.txt", text)


def test_no_golden_page_is_left_of_a_command_that_is_gone(golden_folder: Path, pytestconfig: pytest.Config) -> None:
    stale = [page for page in (golden_folder / "help").glob("*.txt") if page.stem not in (TOP, *command_names())]
    if pytestconfig.getoption("--update-golden"):
        for page in stale:
            page.unlink()
        stale = []
    assert not stale


def test_the_designed_commands_are_there() -> None:
    """The commands that README and the demo's last lines tell people to type."""
    designed = {
        "bench",
        "build",
        "calibrate",
        "compare",
        "compile",
        "demo",
        "denoise",
        "doctor",
        "evaluate",
        "export",
        "import-tf",
        "inspect",
    }
    designed |= {"pack", "quantize", "train", "verify"}
    assert designed <= set(command_names())
