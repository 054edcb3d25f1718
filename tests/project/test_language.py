"""Texts use the project's vocabulary: one noun for one thing, and plain verbs (CONTRIBUTING.md, 'Language')."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]


REFUSED = {
    r"rooms?": "package or module",
    r"verbs?": "command",
    r"mend(s|ed|ing)?": "fix, install or repair",
    r"pictures?|photographs?": "image",
    r"oracles?": "reference execution",
    r"tells?|told": "return, report or check",
    r"essentials": "embedded metadata",
    r"never run|ran here|built here": "tested on hardware, emulated or not tested",
}
"""Pattern of a word -> what to write instead."""
OPENINGS = re.compile(r"(Tell|Say|Word|Give|Let)s?\b")
PACKAGES = ("edgedenoise", "export", "runtimes", "calibration", "benchmarks")
PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md")


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of everything in a module that people read: comments, docstrings and other strings."""
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type in kinds:
            yield token.start[0], token.string


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of a page of documentation, without code."""
    code = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        code ^= line.lstrip().startswith("```")
        if not code:
            yield number, re.sub(r"`[^`]*`|\]\([^)]*\)|https?://\S+", "", line)


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def test_no_text_uses_a_word_that_the_vocabulary_replaces() -> None:
    pages = [ROOT / page for page in PAGES] + sorted((ROOT / "docs").rglob("*.md"))
    found = []
    for path in [*modules(), *(page for page in pages if page.is_file())]:
        for line, text in prose(path) if path.suffix == ".md" else texts(path):
            for word, better in REFUSED.items():
                found += [
                    f"{path.relative_to(ROOT)}:{line + text[: match.start()].count(chr(10))}: "
                    f"{match[0]!r}; write {better}"
                    for match in re.finditer(rf"\b({word})\b", text, re.IGNORECASE)
                ]
    assert not found, "\n".join(found)


def test_docstrings_begin_with_a_verb_of_what_is_done() -> None:
    found = []
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
                opening = OPENINGS.match(ast.get_docstring(node) or "")
                if opening:
                    found.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}: {opening[0]!r}")
    assert not found, "Begin with Return, Raise, Compute, Check, Open, Read, Write, ...:\n" + "\n".join(found)
