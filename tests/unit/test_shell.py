"""Commands in hints work when they are pasted into a shell."""

from __future__ import annotations

import os
from pathlib import PurePosixPath, PureWindowsPath

import pytest

from edgedenoise.shell import command_line


@pytest.mark.parametrize(
    ("system", "path", "quoted"),
    [
        ("posix", PurePosixPath("/my images/a.png"), "'/my images/a.png'"),
        ("nt", PureWindowsPath(r"C:\my images\a.png"), r'"C:\my images\a.png"'),
        ("nt", PureWindowsPath(r"C:\images\a.png"), r"C:\images\a.png"),
    ],
)
def test_paths_are_quoted_as_the_system_does(
    monkeypatch: pytest.MonkeyPatch, system: str, path: object, quoted: str
) -> None:
    monkeypatch.setattr(os, "name", system)
    assert command_line("inspect", path) == f"edgedenoise inspect {quoted}"
