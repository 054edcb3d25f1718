"""`diagnose` reports whether bundles can be served to browsers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edgedenoise import diagnose
from edgedenoise.cli.doctor import text_of_diagnosis
from edgedenoise.doctor import _WEB_FILES, _web_status

if TYPE_CHECKING:
    from pathlib import Path


def test_missing_browser_files_are_named_with_the_command(tmp_path: Path) -> None:
    first, *others = _WEB_FILES
    for name in others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    status = _web_status(tmp_path)
    assert not status.available
    assert status.command == "make web"
    assert first in str(status.reason)
    text = text_of_diagnosis(msgspec.structs.replace(diagnose(), web=status))
    assert "web          not built" in text
    assert text.endswith("to fix, in a checkout of the source: make web")


def test_complete_browser_files_are_available(tmp_path: Path) -> None:
    for name in _WEB_FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    status = _web_status(tmp_path)
    assert status.available
    assert status.command is None
    assert text_of_diagnosis(msgspec.structs.replace(diagnose(), web=status)).count("web          built") == 1
