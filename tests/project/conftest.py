"""What the tests of this repository share: golden files, the installed command, environments of their own."""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Protocol

import pytest

GOLDEN = Path(__file__).parent / "golden"


class Golden(Protocol):
    def __call__(self, name: str, actual: str) -> None:
        """Fail when `actual` differs from the golden file `name`, with the difference."""


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    update: bool = request.config.getoption("--update-golden")

    def compare(name: str, actual: str) -> None:
        file = GOLDEN / name
        if update:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(actual, encoding="utf-8")
            return
        expected = file.read_text(encoding="utf-8") if file.is_file() else ""
        if actual != expected:
            changes = difflib.unified_diff(
                expected.splitlines(), actual.splitlines(), f"golden/{name}", "now", lineterm=""
            )
            pytest.fail(
                "\n".join(changes) + "\n\nUsers will see this change. If it is meant, run "
                f"`pytest {request.node.nodeid.partition('::')[0]} --update-golden`, read the difference, "
                "and say it in CHANGELOG.md.",
                pytrace=False,
            )

    return compare


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    return GOLDEN


@pytest.fixture(scope="session")
def plain_environment() -> dict[str, str]:
    """Environment variables of a child: no colours, a fixed width, the `edgedenoise` under test first."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "COV_", "FORCE_"))}
    kept.pop("PYTHONPATH", None)
    scripts = str(Path(sys.executable).parent)
    return kept | {
        "COLUMNS": "100",
        "LINES": "40",
        "NO_COLOR": "1",
        "TERM": "dumb",
        "PYTHONIOENCODING": "utf-8",
        "PATH": os.pathsep.join([scripts, kept.get("PATH", "")]),
    }


class Environment:
    """A virtual environment of a test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scripts = folder / ("Scripts" if os.name == "nt" else "bin")

    def install(self, *arguments: str | Path, cwd: Path) -> None:
        """Run `pip install`; skips the test when no package index answers."""
        command = [self.scripts / "python", "-m", "pip", "install", "--disable-pip-version-check", *arguments]
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        if re.search(
            r"NewConnectionError|NameResolutionError|ConnectTimeoutError|ProxyError|Retrying \(Retry",
            done.stderr,
        ):
            pytest.skip("no package index can be reached; connect to one to run this test")
        pytest.fail(f"pip install {arguments} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}", pytrace=False)


class MakeEnvironment(Protocol):
    def __call__(self, folder: Path, python: str) -> Environment:
        """Make an empty virtual environment in `folder` with the interpreter `python`."""


@pytest.fixture(scope="session")
def make_environment() -> MakeEnvironment:
    def make(folder: Path, python: str) -> Environment:
        done = subprocess.run([python, "-m", "venv", folder], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"{python} cannot make a virtual environment: {done.stdout}{done.stderr}")
        return Environment(folder)

    return make
