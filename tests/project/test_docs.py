"""Pages that repeat what the code says are held to it, and links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgedenoise import errors

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def _classes(base: type[errors.EdgeDenoiseError]) -> list[type[errors.EdgeDenoiseError]]:
    return [c for sub in base.__subclasses__() for c in (sub, *_classes(sub))]


def test_the_table_of_exit_codes_is_the_one_of_the_error_tree() -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    told = {int(code): name for code, name in re.findall(r"^\| (\d+) \| `(\w+)` \|", text, re.MULTILINE)}
    assert told == {c.exit_code: c.__name__ for c in _classes(errors.EdgeDenoiseError)}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert missing == []
