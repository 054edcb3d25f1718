"""A recording layer between the code and the disk, which computes what a power cut would leave.

A file system may write names and contents at any time and in any order, but what was synced is on the disk. For every
instant at which a command syncs or renames something, two disks are computed: one on which nothing exists but what was
synced, and one on which all names are as they were at that instant, but contents that were not synced are lost.
"""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedenoise import atomic

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

Tree = dict[str, Any]
"""Name -> content of a file, or the tree of a folder."""


@dataclass
class Disk:
    """What was synced below a folder."""

    root: Path
    names: dict[int, dict[str, int]] = field(default_factory=dict)
    """Inode of a folder -> its entries when it was synced last."""
    contents: dict[int, bytes] = field(default_factory=dict)
    """Inode of a file -> its content when it was synced last."""
    after_cuts: list[Tree] = field(default_factory=list)
    """Trees that a power cut could leave, over all instants."""
    _held: dict[int, int] = field(default_factory=dict)
    """Descriptors that keep inodes from being used again."""

    def sync_all(self) -> None:
        """Take everything as synced, as it is before the command begins."""
        for path in (self.root, *self.root.rglob("*")):
            self.sync(path.stat().st_ino, path)

    def sync(self, inode: int, path: Path) -> None:
        """Record that a file or folder was synced."""
        if path.is_dir():
            with os.scandir(path) as entries:
                self.names[inode] = {entry.name: entry.inode() for entry in entries}
        else:
            self.contents[inode] = path.read_bytes()

    def record(self) -> None:
        """Record what a power cut now would leave."""
        self.hold()
        self.after_cuts += [self._synced(self.root.stat().st_ino), self._named(self.root)]

    def hold(self) -> None:
        """Keep every inode that exists now."""
        for path in (self.root, *self.root.rglob("*")):
            inode = path.stat().st_ino
            if inode not in self._held:
                self._held[inode] = os.open(path, os.O_RDONLY)

    def close(self) -> None:
        """Close what was held."""
        for descriptor in self._held.values():
            os.close(descriptor)

    def _synced(self, inode: int) -> Tree:
        return {
            name: self._synced(child) if self._is_folder(child) else self.contents.get(child, b"")
            for name, child in self.names.get(inode, {}).items()
        }

    def _is_folder(self, inode: int) -> bool:
        return stat.S_ISDIR(os.fstat(self._held[inode]).st_mode)

    def _named(self, folder: Path) -> Tree:
        return {
            path.name: self._named(path) if path.is_dir() else self.contents.get(path.stat().st_ino, b"")
            for path in folder.iterdir()
        }


@contextmanager
def recorded(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """Yield the disk below `root`; what the block syncs and renames there is recorded."""
    disk = Disk(root)
    disk.sync_all()
    fsync, replace, exchange = os.fsync, os.replace, atomic.exchange

    def recording(call: Any) -> Any:
        def called(*arguments: Any, **options: Any) -> Any:
            disk.record()
            result = call(*arguments, **options)
            disk.record()
            return result

        return called

    def synced(descriptor: int) -> None:
        disk.hold()
        fsync(descriptor)
        disk.sync(os.fstat(descriptor).st_ino, Path(f"/proc/self/fd/{descriptor}"))

    with monkeypatch.context() as patches:
        patches.setattr(os, "fsync", recording(synced))
        patches.setattr(os, "replace", recording(replace))
        patches.setattr(atomic, "exchange", recording(exchange))
        yield disk
        disk.record()
    disk.close()


def restore(tree: Tree, folder: Path) -> Path:
    """Write a tree to a new folder, as the disk is found after the power is back."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in tree.items():
        if isinstance(content, dict):
            restore(content, folder / name)
        else:
            (folder / name).write_bytes(content)
    return folder
