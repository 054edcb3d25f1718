"""Parts that the benchmarks share: the folder of images, the result file with its provenance, child processes.

Every benchmark writes `NAME.json` to `--out`, which is `build/benchmarks` by default. The file holds the results and
their provenance: the command, the date, the machine and the versions.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shlex
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edgedenoise.atomic import check_writable, write_bytes
from edgedenoise.errors import EdgeDenoiseError, UsageError
from edgedenoise.evaluation.environment import Environment, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("EDGEDENOISE_DATA") or ROOT.parent / "shared" / "data")
"""Folder of the data sets; CONTRIBUTING.md, "Real images", lists them."""
OUT = ROOT / "build" / "benchmarks"
PAGE = ROOT / "docs" / "results" / "speed.md"
"""Page of the documentation with the tables of `write_table`."""


@dataclass(frozen=True)
class Provenance:
    """Where results come from."""

    command: str
    date: str
    """UTC, ISO 8601."""
    environment: Environment
    versions: dict[str, str]
    """Versions of other packages that took part, such as those of classical denoisers."""


def provenance(packages: Iterable[str] = ()) -> Provenance:
    """Return the provenance of results that are measured by this process now."""
    script = Path(sys.argv[0])
    name = script.relative_to(ROOT) if script.is_absolute() and script.is_relative_to(ROOT) else script
    versions = {name: metadata.version(name) for name in sorted(packages)}
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Provenance(shlex.join(["python", str(name), *sys.argv[1:]]), date, environment(), versions)


def parser_of(description: str | None, name: str) -> argparse.ArgumentParser:
    """Return a parser with the option `--out`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR", help=f"folder for {name}.json; default: {OUT}")
    return parser


def page_parser_of(description: str | None, name: str, page: Path = PAGE) -> argparse.ArgumentParser:
    """Return a parser with the options `--out` and `--page`."""
    parser = parser_of(description, name)
    parser.add_argument(
        "--page", type=Path, nargs="?", const=page, metavar="FILE", help=f"write the table into a page; default: {page}"
    )
    return parser


def write_table(page: Path, results: Path, text: str) -> None:
    """Replace the table of a benchmark in a page, between two comments, with its command, date and machine.

    Args:
        page: a Markdown file with the comments `<!-- NAME: ... -->` and `<!-- NAME end -->`.
        results: the file `NAME.json` that the benchmark wrote.
        text: the table as Markdown.

    Raises:
        UsageError: the page has no place for the table.
    """
    name = results.stem
    begin, end = f"<!-- {name}: written by benchmarks/{name}.py --page -->\n", f"<!-- {name} end -->\n"
    old = page.read_text(encoding="utf-8")
    before, found, rest = old.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise UsageError(f"{page} has no place for the table: expected the lines {begin.strip()} and {end.strip()}")
    made = msgspec.json.decode(results.read_bytes())["provenance"]
    machine = made["environment"]
    cores = f"{machine['cpu']}, {machine['cores']} processors"
    source = f"{made['date'][:10]}, {cores}:\n\n    {made['command']}\n"
    write_bytes(page, f"{before}{begin}\n{text}\n\n{source}\n{end}{after}".encode())


def check_out(folder: Path, name: str) -> None:
    """Check that results can be written, before they are measured.

    Raises:
        OutputError: they cannot.
    """
    check_writable(folder / f"{name}.json")


def write_results(folder: Path, name: str, results: Any, packages: Iterable[str] = ()) -> Path:
    """Write results and their provenance to `folder/NAME.json`; infinite numbers become null."""
    path = folder / f"{name}.json"
    data = msgspec.json.encode({"provenance": provenance(packages), "results": results})
    write_bytes(path, msgspec.json.format(data, indent=1) + b"\n")
    return path


def run_benchmark(main: Callable[[], None]) -> None:
    """Run a benchmark; exit with the code of an edgedenoise error after printing it."""
    try:
        main()
    except EdgeDenoiseError as error:
        note(f"error: {error}")
        sys.exit(error.exit_code)


def in_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns in a process of its own, because the peak memory of a process never falls.

    Raises:
        BrokenProcessPool: the process ended before it returned, for example killed by the system for its memory.
    """
    # A `multiprocessing.Pool` waits forever for the result of a process that was killed.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """Format rows as a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def note(line: str) -> None:
    """Print a line about the progress to standard error."""
    print(line, file=sys.stderr, flush=True)


def positive(number: str) -> int:
    """Convert a command-line argument to an integer of at least 1."""
    value = int(number)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {value}")
    return value
