"""Names of files cannot reach the terminal as commands, and cannot begin a line of their own."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from edgedenoise.printable import is_plain, one_line, paragraph, printable, printable_json, utf8
from edgedenoise.shell import quoted

HOSTILE = {
    "a\x1b[2Jb": r"a\x1b[2Jb",
    "a\x1b]0;title\x07b": r"a\x1b]0;title\x07b",
    "a\x9b31mb": r"a\u009b31mb",
    "a\rb": r"a\rb",
    "a\x7fb": r"a\x7fb",
    "a\u202eb": r"a\u202eb",
    "a\u2028b": r"a\u2028b",
    "a\udce9b": r"a\xe9b",
}


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_terminal_obeys_is_escaped(text: str) -> None:
    assert printable(text) == one_line(text) == paragraph(text) == HOSTILE[text]
    assert not is_plain(text)


@pytest.mark.parametrize("text", ["photo.png", "Größe 4 × 4", "写真.jpg", "a b", "😀.png"])
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert printable(text) == one_line(text) == paragraph(text) == text
    assert is_plain(text)


def test_a_name_begins_no_line() -> None:
    assert one_line("a\ndenoised 5 of 5\tb") == r"a\ndenoised 5 of 5\tb"
    assert paragraph("a\ndenoised 5 of 5") == r"a\ndenoised 5 of 5"
    assert paragraph("the graph is wrong:\n  node a\n  node b") == "the graph is wrong:\n  node a\n  node b"


def test_json_keeps_its_value_and_lines() -> None:
    assert printable_json('{\n  "a": "\x9b\u202e\\u001b"\n}') == '{\n  "a": "\\u009b\\u202e\\u001b"\n}'
    assert utf8("a\udce9\nb") == "a\\xe9\nb"


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed: apt-get install bash")
@pytest.mark.parametrize(
    "name", ["a\nb 'c' \\n", "a\x1b[31m", "caf\udce9 x", "$HOME `id` a", "it's\u202e", "\x01" + "f"]
)
def test_a_command_in_a_hint_names_the_file_in_the_shell(name: str) -> None:
    line = quoted("printf", "%s", name)
    assert is_plain(line)
    env = {**os.environ, "LC_ALL": "C.UTF-8"}
    assert subprocess.run(["bash", "-c", line], capture_output=True, check=True, env=env).stdout == os.fsencode(name)
