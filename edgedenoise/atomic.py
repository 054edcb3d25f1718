"""Write files and folders atomically: to a temporary name beside the target, which is then renamed.

A command that is killed leaves a temporary file or folder behind. Its name holds the process that made it, so that the
next command that writes the same target removes it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import shutil
import tempfile
import zlib
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from edgedenoise.errors import OutputError
from edgedenoise.exchange import exchange
from edgedenoise.system_errors import reason_and_hint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


_NAME_BYTES = 100
_log = logging.getLogger(__name__)
_TEMPORARY = re.compile(
    r"\.(?P<stem>.+)\.edn-(?P<host>[0-9a-f]{8})-(?P<pid>\d{1,9})-(?P<kind>new|old)-[0-9a-f]{8}(?P<suffix>\.[^.]*)?"
)
_swept: set[Path] = set()
"""Folders whose leftovers this process has removed."""


@contextmanager
def atomic_file(target: Path, *, durable: bool = False, mode: int = 0o666) -> Iterator[Path]:
    """Yield a temporary path beside `target` that becomes `target` when the block ends without an error.

    The suffix of `target` is kept, because writers choose their format by it. Parent folders are made.

    Args:
        target: the file.
        durable: whether the file must survive a power cut from the moment when the block has ended.
        mode: permissions of the file, less the umask of the process.

    Raises:
        OutputError: the target cannot be written.
    """
    with output_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target.parent)
        temporary = _temporary(target, "new")
        os.close(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode))  # the system applies the umask
    try:
        yield temporary
        with output_errors(target):
            if durable:
                sync(temporary)
            temporary.replace(target)
            if durable:
                sync(target.parent)
        _log.info("wrote %s", target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `target` that replaces `target` when the block ends without an error.

    Where the system can, the folders are exchanged in one step, so that there is a whole one at every instant. The new
    folder survives a power cut from the moment when the block has ended.

    Raises:
        OutputError: the target cannot be written.
    """
    target = target.resolve()  # "." cannot be renamed; a link keeps pointing to its target
    with output_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        restore_interrupted(target)
        remove_leftovers(target.parent)
        temporary = _temporary(target, "new")
        temporary.mkdir()
    try:
        yield temporary
        with output_errors(target):
            for path in (*temporary.rglob("*"), temporary):
                sync(path)
            _take_the_place_of(target, temporary)
            sync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def restore_interrupted(target: Path) -> None:
    """Move a folder back that a killed command had moved aside, where the command did not put the new one in place."""
    try:
        if os.path.lexists(target):
            return
    except ValueError:  # no file can have this name
        return
    for aside, meant in _leftovers(target.parent, "old"):
        if meant == target.name:
            with suppress(OSError):  # another command restores it at the same time
                aside.replace(target)
                _log.warning("restored %s, which an interrupted command had moved aside", target)
                return


def remove_leftovers(folder: Path) -> None:
    """Remove, once per process, the temporary files and folders that killed commands left in a folder."""
    if folder in _swept:
        return
    _swept.add(folder)
    old = [aside for aside, meant in _leftovers(folder, "old") if os.path.lexists(folder / meant)]
    for path in (*old, *(path for path, _ in _leftovers(folder, "new"))):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def remove_folder(folder: Path) -> None:
    """Remove a folder: it is gone at once, and a kill leaves no part of it under its name; errors are ignored."""
    aside = _temporary(folder, "new")
    with suppress(OSError):
        folder.replace(aside)
        shutil.rmtree(aside, ignore_errors=True)


def check_writable(target: Path) -> None:
    """Check, before long work, that `target` can be written; its parent folders are made.

    Raises:
        OutputError: it cannot be written, or it is a folder.
    """
    if target.is_dir():
        raise OutputError(
            f"{target} cannot be written: expected a file, got a folder", hint=f"Name a file in it: {target / 'output'}"
        )
    with output_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.parent):
            pass


def check_writable_folder(folder: Path) -> None:
    """Check, before long work, that files can be written to a folder; it is made.

    Raises:
        OutputError: they cannot, or it is a file.
    """
    if folder.is_file():
        raise OutputError(
            f"{folder} cannot be written: expected a folder, got a file",
            hint=f"Name a folder: {folder.with_suffix('')}",
        )
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def write_bytes(target: Path, data: bytes, *, durable: bool = False, mode: int = 0o666) -> None:
    """Write `data` to `target` atomically; see `atomic_file`."""
    with atomic_file(target, durable=durable, mode=mode) as temporary, output_errors(target):
        temporary.write_bytes(data)


def write_stream(target: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write what `write` puts into a binary stream, which can be read and sought, to `target` atomically."""
    with atomic_file(target) as temporary, output_errors(target), temporary.open("r+b") as stream:
        write(stream)


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, is on the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows has no such call for folders
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() or os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not path.is_dir():
            raise
        _log.debug("the file system cannot sync the folder %s: %s", path, error)
    finally:
        os.close(descriptor)


@contextmanager
def output_errors(target: Path) -> Iterator[None]:
    """Translate errors of the system, such as a full disk, that occur in the block while `target` is written.

    Raises:
        OutputError: `target` cannot be written.
    """
    try:
        yield
    except OSError as error:
        reason, hint = reason_and_hint(error, target)
        other = f"Check the permissions and free space of {target.parent}, or choose another output."
        raise OutputError(f"{target} cannot be written: {reason}", hint=hint or other) from error


def _take_the_place_of(target: Path, new: Path) -> None:
    """Put the folder `new` at `target`; an old one ends up at a temporary name, and is removed."""
    if not target.exists():
        new.replace(target)
        return
    if exchange(new, target):
        return
    aside = _temporary(target, "old")  # a full folder cannot be replaced
    try:
        target.replace(aside)
        new.replace(target)
    except BaseException:  # Ctrl-C, too
        if aside.exists() and not target.exists():
            aside.replace(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _temporary(target: Path, kind: str) -> Path:
    """Return a new name beside `target`, hidden, with the suffix of `target`."""
    stem = target.stem
    while len(os.fsencode(stem)) > _NAME_BYTES:  # names may have 255 bytes, and this leaves space for the rest
        stem = stem[:-1]
    suffix = target.suffix if len(os.fsencode(target.suffix)) < 40 else ""
    return target.with_name(f".{stem}.edn-{_host()}-{os.getpid()}-{kind}-{secrets.token_hex(4)}{suffix}")


def _leftovers(folder: Path, kind: str) -> list[tuple[Path, str]]:
    """Return the temporary paths in a folder whose process runs no more, each with the name that it was for."""
    found = []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _TEMPORARY.fullmatch(entry.name)
            if match and match["kind"] == kind and match["host"] == _host() and not _runs(int(match["pid"])):
                found.append((folder / entry.name, match["stem"] + (match["suffix"] or "")))
    return found


def _host() -> str:
    """Return a short code of this machine: on a shared disk, another machine's processes cannot be looked up."""
    import platform

    return f"{zlib.crc32(platform.node().encode()):08x}"


def _runs(pid: int) -> bool:
    """Return whether a process runs on this machine; on Windows, where that cannot be asked simply, yes."""
    if pid == os.getpid() or os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
