"""Command lines for hints and next steps, ready to be pasted into the shell of this system."""

from __future__ import annotations

import os
import shlex
import subprocess

from edgedenoise.printable import ansi_quoted, is_plain


def command_line(*arguments: object) -> str:
    """Return an `edgedenoise` command, with its arguments quoted where the shell needs it.

    Example:
        >>> command_line("denoise", "a.png", "-o", "b.png")
        'edgedenoise denoise a.png -o b.png'
    """
    return quoted("edgedenoise", *arguments)


def quoted(*arguments: object) -> str:
    """Return the command line of any program, with its words quoted where the shell needs it."""
    words = list(map(str, arguments))
    if os.name == "nt":
        return subprocess.list2cmdline(words)
    return " ".join(shlex.quote(word) if is_plain(word) else ansi_quoted(word) for word in words)
