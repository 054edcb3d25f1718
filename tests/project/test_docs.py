"""Pages that repeat what the code says are compared with it, and links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import edgedenoise
from edgedenoise import errors

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("edgedenoise", "export", "calibration", "runtimes", "benchmarks", "tools", "tests")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def _classes(base: type[errors.EdgeDenoiseError]) -> list[type[errors.EdgeDenoiseError]]:
    return [c for sub in base.__subclasses__() for c in (sub, *_classes(sub))]


def test_the_table_of_exit_codes_is_the_one_of_the_error_tree() -> None:
    text = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    listed = {int(code): name for code, name in re.findall(r"^\| (\d+) \| `(\w+)` \|", text, re.MULTILINE)}
    assert listed == {c.exit_code: c.__name__ for c in _classes(errors.EdgeDenoiseError)}


def test_every_public_name_is_in_the_python_reference() -> None:
    text = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    listed = re.findall(r"^::: edgedenoise\.(\w+)$", text, re.MULTILINE)
    assert sorted(listed) == sorted(set(edgedenoise.__all__) - {"__version__"})


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert missing == []


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    shown = {page for page in pages if not page.startswith("cards/")}
    assert {page for page in shown if f": {page}\n" not in navigation} == set()


def test_pages_that_source_files_name_exist() -> None:
    files = [path for folder in SOURCES for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts]
    missing = [
        f"{path.relative_to(ROOT)}: {page}"
        for path in files
        for page in re.findall(r"docs/[\w/-]+\.md", path.read_text(encoding="utf-8"))
        if not (ROOT / page).is_file()
    ]
    assert missing == []


def test_the_long_tests_are_those_that_contributing_lists() -> None:
    """`make test` leaves them out, so that marking one more is a decision."""
    section = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("### Long tests")[2].partition("\n#")[0]
    listed = re.findall(r"^\| `(tests/[\w/]+\.py)` \|", section, re.MULTILINE)
    marked = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests").rglob("*.py")
        if re.search(r"^(@|pytestmark = .*)pytest\.mark\.slow\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert sorted(marked) == sorted(listed)
