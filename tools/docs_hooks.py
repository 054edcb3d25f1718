"""A hook of mkdocs that writes the help of every command into the command line reference.

The help pages are those of tests/project/golden/help, which tests/project/test_cli_help.py compares with the commands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

HELP = Path(__file__).resolve().parents[1] / "tests" / "project" / "golden" / "help"
MARK = "<!-- help of every command -->"


def help_pages() -> str:
    """Return one section per command, in alphabetical order."""
    pages = [path for path in sorted(HELP.glob("*.txt")) if path.stem != "edgedenoise"]
    return "\n\n".join(
        f"### {path.stem}\n\n```text\n{path.read_text(encoding='utf-8').rstrip()}\n```" for path in pages
    )


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the mark on a page by the help of every command."""
    return markdown.replace(MARK, help_pages())
