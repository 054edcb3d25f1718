"""A file or folder that edgedenoise writes is whole, or it is not there."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from edgedenoise import atomic
from edgedenoise.atomic import atomic_file, atomic_folder, restore_interrupted, sha256_of, write_bytes
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.errors import OutputError
from edgedenoise.exchange import exchange

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


# ---------------------------------------------------------------- kills


def killed(code: str, *arguments: object) -> None:
    """Run code in a process that kills itself with `die()`."""
    begin = "import os, signal, sys; from pathlib import Path; from edgedenoise import atomic\n"
    begin += "die = lambda *ignored: os.kill(os.getpid(), signal.SIGKILL)\n"
    done = subprocess.run([sys.executable, "-c", begin + code, *map(str, arguments)], check=False)
    assert done.returncode == -signal.SIGKILL


WITHIN_BLOCKS = """
with atomic.atomic_file(Path(sys.argv[1]) / "image.png") as temporary:
    temporary.write_bytes(b"half")
    with atomic.atomic_folder(Path(sys.argv[1]) / "b.edge") as folder:
        (folder / "half").write_bytes(b"half")
        die()
"""
BETWEEN_RENAMES = """
atomic.exchange = lambda one, other: False
replace = Path.replace
Path.replace = lambda self, target: replace(self, target) if "-old-" in str(target) else die()
with atomic.atomic_folder(Path(sys.argv[1])) as folder:
    (folder / "new").write_bytes(b"new")
"""


@POSIX
def test_the_next_command_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    killed(WITHIN_BLOCKS, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    write_bytes(tmp_path / "other.png", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["other.png"]


@POSIX
def test_what_a_running_command_writes_is_left_alone(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "one.png") as temporary:
        atomic._swept.clear()
        write_bytes(tmp_path / "two.png", b"")
        assert temporary.exists()
    mine = tmp_path / ".notes-edn-1.png"
    mine.write_bytes(b"a hidden file of the user")
    atomic._swept.clear()
    write_bytes(tmp_path / "three.png", b"")
    assert mine.exists()


@POSIX
def test_a_kill_between_two_renames_is_repaired_by_the_next_command(tmp_path: Path, committed_bundle: Path) -> None:
    bundle = shutil.copytree(committed_bundle, tmp_path / "b.edge")
    for repair in (lambda: Bundle.open(bundle), lambda: restore_interrupted(bundle)):
        killed(BETWEEN_RENAMES, bundle)
        assert not bundle.exists()
        repair()
        Bundle.open(bundle).check()
    atomic._swept.clear()
    with atomic_folder(bundle) as folder:
        (folder / "new").write_bytes(b"new")
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["b.edge", "b.edge/new"]


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_folder_is_replaced_with_and_without_an_exchange(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    (one / "old").touch()
    if not exchanges:
        monkeypatch.setattr(atomic, "exchange", lambda *paths: False)
    elif exchange(one, other):
        assert [path.name for path in other.iterdir()] == ["old"]
        exchange(one, other)
    else:
        pytest.skip("this system or file system exchanges no paths")
    with atomic_folder(one) as folder:
        (folder / "new").touch()
    assert [path.name for path in one.iterdir()] == ["new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other"]


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_ctrl_c_between_the_renames_loses_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, moment: str
) -> None:
    """Where the system exchanges no folders, the old one is moved aside, and the new one into its place."""
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "old").touch()
    monkeypatch.setattr(atomic, "exchange", lambda *paths: False)
    replace, renames = type(tmp_path).replace, 0

    def interrupted(path: Path, to: Path) -> Path:
        nonlocal renames
        renames += 1
        if renames == number and moment == "before":
            raise KeyboardInterrupt
        moved = replace(path, to)
        if renames == number:
            raise KeyboardInterrupt
        return moved

    monkeypatch.setattr(type(tmp_path), "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), atomic_folder(target) as folder:
        (folder / "new").touch()
    kept = [path.name for path in target.iterdir()]
    assert kept == (["new"] if (number, moment) == (2, "after") else ["old"])


@POSIX
def test_a_durable_file_is_on_the_disk_before_it_is_renamed_and_its_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    replace = type(tmp_path).replace
    monkeypatch.setattr(atomic, "sync", lambda path: seen.append("folder" if path.is_dir() else "file"))
    monkeypatch.setattr(type(tmp_path), "replace", lambda self, to: [seen.append("rename"), replace(self, to)][1])
    write_bytes(tmp_path / "checkpoint", b"", durable=True)
    assert seen == ["file", "rename", "folder"]
    seen.clear()
    with atomic_folder(tmp_path / "bundle") as folder:
        (folder / "file").touch()
    assert seen == ["file", "folder", "rename", "folder"]


@POSIX
def test_the_umask_of_the_process_is_never_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread would make its files with the wrong mode in the meantime."""
    monkeypatch.setattr(os, "umask", None)
    write_bytes(tmp_path / "file", b"")
    write_bytes(tmp_path / "key", b"", mode=0o600)
    with atomic_folder(tmp_path / "folder"):
        pass
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
