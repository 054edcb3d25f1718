"""A file or folder that edgedenoise writes is whole, or it is not there."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys
from typing import TYPE_CHECKING

import pytest

from edgedenoise.atomic import atomic_file, atomic_folder, sha256_of, write_bytes
from edgedenoise.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="permissions are POSIX's")


class Stop(Exception):
    """The power went off."""


def test_a_file_takes_its_place_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "picture.png"
    with atomic_file(target) as temporary:
        temporary.write_bytes(b"whole")
        assert not target.exists()
        assert temporary.suffix == ".png"  # writers choose their format by it
    assert target.read_bytes() == b"whole"
    assert list(target.parent.iterdir()) == [target]


def test_an_error_leaves_the_old_file_and_nothing_half_written(tmp_path: Path) -> None:
    target = tmp_path / "picture.png"
    target.write_bytes(b"old")

    def interrupted() -> None:
        with atomic_file(target) as temporary:
            temporary.write_bytes(b"ha")
            raise Stop

    with pytest.raises(Stop):
        interrupted()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_replaces_the_old_one_entirely(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "stale").write_bytes(b"old")
    with atomic_folder(target) as temporary:
        (temporary / "deep").mkdir()
        (temporary / "deep" / "fresh").write_bytes(b"new")
        assert (target / "stale").exists()
    assert [p.relative_to(target).as_posix() for p in sorted(target.rglob("*"))] == ["deep", "deep/fresh"]
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("before", [True, False], ids=["replacing", "new"])
def test_an_error_leaves_the_old_folder_and_nothing_half_written(tmp_path: Path, before: bool) -> None:
    target = tmp_path / "bundle"
    if before:
        target.mkdir()
        (target / "kept").write_bytes(b"old")

    def interrupted() -> None:
        with atomic_folder(target) as temporary:
            (temporary / "half").write_bytes(b"ha")
            raise Stop

    with pytest.raises(Stop):
        interrupted()
    assert [p.name for p in tmp_path.rglob("*")] == (["bundle", "kept"] if before else [])


def test_the_folder_one_stands_in_can_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path

    target = tmp_path / "bundle"
    target.mkdir()
    monkeypatch.chdir(target)
    with atomic_folder(Path()) as temporary:
        (temporary / "fresh").write_bytes(b"new")
    assert [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*"))] == ["bundle", "bundle/fresh"]


@POSIX
def test_what_is_written_has_ordinary_permissions(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        write_bytes(tmp_path / "file", b"")
        with atomic_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o755


@pytest.mark.parametrize("name", ["x" * 250 + ".png", "\u00e9" * 125 + ".png", "\u20ac" * 84 + ".x"])
def test_a_name_as_long_as_the_system_allows_can_be_written(tmp_path: Path, name: str) -> None:
    write_bytes(tmp_path / name, b"file")
    with atomic_folder(tmp_path / name[::-1]) as temporary:
        (temporary / "in it").touch()
    with atomic_folder(tmp_path / name[::-1]):  # replaces the first
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, name[::-1]])


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "Free some space: df -h"),
        (errno.EMFILE, "raise the limit of open files: ulimit -n 4096"),
        (errno.EACCES, "Check the permissions: ls -ld"),
        (errno.EROFS, "Choose a folder on a disk that can be written"),
        (errno.EIO, "or choose another output"),
    ],
)
def test_what_the_system_refuses_is_reported_with_the_path_and_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, hint: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(type(tmp_path), "write_bytes", refuse)
    with pytest.raises(OutputError, match=f"file cannot be written: {os.strerror(number)}") as caught:
        write_bytes(tmp_path / "file", b"data")
    assert hint in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


def test_the_hash_is_the_one_of_the_whole_file(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000  # more than one piece
    (tmp_path / "file").write_bytes(data)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(data).hexdigest()
