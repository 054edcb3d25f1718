"""Texts keep to one vocabulary: one noun for one thing, and plain verbs."""

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
PACKAGES = ("edgedenoise", "export", "runtimes", "calibration", "benchmarks")
REFUSED = {
    r"rooms?": "package or module",
    r"(?<!subject, )verbs?": "command",
    r"mend(s|ed|ing)?": "fix, install or repair",
    r"pictures?|photographs?": "image",
    r"oracles?": "reference execution",
    r"tells?|told": "return, report or check",
    r"essentials": "embedded metadata",
    r"never run|ran here|built here, [a-z]+": "tested on hardware, emulated or not tested",
}
"""Pattern of a word -> the words to use instead."""
WORDS = re.compile("|".join(rf"\b(?:{word})\b" for word in REFUSED), re.IGNORECASE)
PLACEHOLDER = re.compile(r"\b(?:B|MINE|NAME|BUNDLE)\.edge\b|\b(?:DIR|PHOTOS?|IMAGES?|RUN|OUT)\b")
OPENINGS = re.compile(r"(?:Tell|Say|Word|Give|Let)s?\b")
CODE = re.compile(r"`[^`]*`|\]\([^)]*\)|https?://\S+|(?<=\{)[^{}]*(?=\})")
"""Names in code, links, and expressions of f-strings."""
STRINGS = (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING))


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def pages() -> list[Path]:
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return sorted(page for page in found if page.parent.name != "cards")  # which quote titles of other people's works


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of what people read: comments and strings of a module, or a page without its code."""
    content = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        for token in tokenize.generate_tokens(io.StringIO(content).readline):
            if token.type in STRINGS and " " in token.string:  # other strings are names and keys
                yield from enumerate(CODE.sub("", token.string).splitlines(), start=token.start[0])
        return
    code = False
    for number, line in enumerate(content.splitlines(), start=1):
        code ^= line.lstrip().startswith("```")
        if not code:
            yield number, CODE.sub("", line)


def better(word: str) -> str:
    return next(words for pattern, words in REFUSED.items() if re.fullmatch(pattern, word, re.IGNORECASE))


def test_texts_use_the_words_of_the_vocabulary() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {match[0]!r}; write {better(match[0])}"
        for path in [*modules(), *pages()]
        for line, text in texts(path)
        for match in WORDS.finditer(text)
    ]
    assert not found, "\n".join(found)


def test_docstrings_begin_with_a_verb_of_what_is_done() -> None:
    found = []
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
                opening = OPENINGS.match(ast.get_docstring(node) or "")
                if opening is not None:
                    found.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}: {opening[0]!r}")
    assert not found, "begin with Return, Raise, Compute, Check, Open, Read, Write or the like:\n" + "\n".join(found)


def test_hints_begin_with_a_capital_letter_and_hold_no_placeholder() -> None:
    found = []
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "hint":
                parts = [part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant)]
                words = [part for part in parts if isinstance(part, str)]
                where = f"{path.relative_to(ROOT)}:{node.value.lineno}"
                if isinstance(node.value, ast.Constant | ast.JoinedStr) and words and words[0][:1].islower():
                    found.append(f"{where}: begins with {words[0][:20]!r}")
                found += [f"{where}: placeholder {match[0]}" for word in words for match in PLACEHOLDER.finditer(word)]
    assert not found, "\n".join(found)
