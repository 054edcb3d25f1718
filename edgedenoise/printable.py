r"""Texts that are safe on a terminal: names of files may hold escape sequences, line breaks and bytes that are no text.

A name is written so that it cannot move the cursor, change colours or the window's title, or look like another line.
"""

from __future__ import annotations

import re
from typing import Final

# Control characters (also those of 8 bits), marks that change the direction of text, and bytes that are not UTF-8.
# Line feeds and tabs are added where a text must stay on one line.
_HIDDEN: Final = "\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff"
_UNSAFE: Final = re.compile(f"[{_HIDDEN}]")
_UNSAFE_IN_A_LINE: Final = re.compile(f"[\\n\\t{_HIDDEN}]")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_FORGED: Final = re.compile(r"\n(?!  )")


def printable(text: str) -> str:
    r"""Return a text of several lines with everything escaped that a terminal would obey.

    Example:
        >>> print(printable("a\x1b[2Jb"))
        a\x1b[2Jb
    """
    return _UNSAFE.sub(_escaped, text)


def one_line(value: object) -> str:
    r"""Return the text of a value on one line, with everything escaped that a terminal would obey.

    Example:
        >>> print(one_line("a\ndenoised 5 of 5"))
        a\ndenoised 5 of 5
    """
    return _UNSAFE_IN_A_LINE.sub(_escaped, str(value))


def paragraph(text: str) -> str:
    r"""Return a message on one line, but for the lines that it indents by two spaces itself: names cannot begin one."""
    return printable(_FORGED.sub(lambda _: r"\n", text))


def utf8(text: str) -> str:
    """Return a text that can be encoded as UTF-8: bytes of names that are not are escaped."""
    return _SURROGATES.sub(_escaped, text)


def printable_json(text: str) -> str:
    """Return JSON in which characters that a terminal would obey are escaped: they stand in strings alone."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def is_plain(text: str) -> bool:
    """Return whether a text may be written as it is, on one line."""
    return _UNSAFE_IN_A_LINE.search(text) is None


def ansi_quoted(word: str) -> str:
    r"""Return a word in the quotes of bash and zsh that take escapes: `$'a\nb'` is one word with a line break."""
    plain = word.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{_UNSAFE_IN_A_LINE.sub(_escaped, plain)}'"


def _escaped(found: re.Match[str]) -> str:
    """Return the escape of a character, as Python and the shells write it."""
    code = ord(found[0])
    if found[0] in "\n\t\r":
        return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}[found[0]]
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"
