"""Read and write bundles as zip archives.

The same bundle gives the same bytes: sorted names, one fixed date and mode, no compression (whose output differs
between zlib builds, and weights hardly compress). An archive that is read may be hostile. It is refused before anything
is written where its own records show it; its manifest is read first, and only files that the manifest records are
unpacked, each checked while it is written.
"""

from __future__ import annotations

import hashlib
import stat
import struct
import zipfile
import zlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from edgedenoise.atomic import atomic_file, atomic_folder, output_errors
from edgedenoise.bundles.bundle_files import BundleFiles
from edgedenoise.bundles.manifest_json import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    REPLACE_HINT,
    is_inside,
    parse_manifest,
    read_manifest_bytes,
)
from edgedenoise.errors import BundleError, IntegrityError
from edgedenoise.system_errors import input_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgedenoise.bundles.manifest import FileRecord

MAX_FILES = 10_000
MAX_TOTAL_BYTES = 2 << 30
MAX_RATIO = 200
"""Largest accepted expansion of one file; our own archives are not compressed."""
MAX_TOTAL_RATIO = 20
"""Largest accepted expansion of a whole archive, beyond the first megabytes."""
_FREE_BYTES = 4 << 20
"""Expanded size that needs no compressed size to justify it."""
_MAX_DIRECTORY_BYTES = 16 << 20
"""Largest accepted table of contents, which `zipfile` reads into memory at once."""
_KINDS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
"""Accepted methods of compression; the memory that others need is chosen by the archive."""
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a zip can hold
_PIECE = 1 << 20
_HINT = "A bundle is a folder with a manifest.json, or a zip of one made by: edgedenoise pack"


def pack(root: Path, target: Path) -> None:
    """Write a bundle folder as an archive, atomically; only the files that its manifest records are packed.

    Args:
        root: the bundle folder.
        target: the archive; an earlier archive of a bundle is replaced.

    Raises:
        BundleError: `target` is inside the bundle, or exists and is not the archive of a bundle.
        ManifestError: `root` has no readable manifest.
        IntegrityError: a file is not what the manifest records, or the folder contains a link.
        OutputError: `target` cannot be written.
    """
    if target.resolve().is_relative_to(root.resolve()):
        raise BundleError(f"{target} is the bundle {root} or inside it", hint="Choose another name with -o.")
    if target.exists() and not _is_archive(target):
        raise BundleError(
            f"{target} exists and is not the archive of a bundle, so it is not overwritten",
            hint="Choose another name with -o, or remove it first.",
        )
    text = read_manifest_bytes(root, root)
    manifest, _ = parse_manifest(text, root / MANIFEST, root)
    files = BundleFiles(root, root, manifest.files, REPLACE_HINT)
    files.check_links()
    with (
        atomic_file(target, durable=True) as temporary,
        output_errors(target),
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,
    ):
        for name in sorted([MANIFEST, *manifest.files]):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            info.create_system = 3  # Unix, on every system
            archive.writestr(info, text if name == MANIFEST else files.read(name))


def unpack(source: Path, target: Path) -> None:
    """Write the bundle in an archive to a new folder: all of it or nothing.

    Files in the archive that the manifest does not record are left out.

    Args:
        source: the archive.
        target: the folder.

    Raises:
        BundleError: `target` exists, or `source` cannot be read.
        ManifestError: the manifest in the archive is unreadable.
        IntegrityError: the archive is damaged or hostile.
        OutputError: `target` cannot be written.
    """
    with input_errors(source, BundleError), source.open("rb") as stream:
        unpack_stream(stream, source, target)


def unpack_stream(stream: IO[bytes], source: Path, target: Path) -> None:
    """Write the bundle in an open archive to a new folder; see `unpack`."""
    if target.exists():
        raise BundleError(f"{target} exists already, so nothing was unpacked", hint="Choose another name.")
    with _reading(source):
        _check_directory(stream, source)
        archive = zipfile.ZipFile(stream)
    members = _checked_members(archive, source, stream.seek(0, 2))
    text = b"".join(_content(archive, members[MANIFEST], source, MAX_MANIFEST_BYTES))
    manifest, _ = parse_manifest(text, source / MANIFEST, source)
    missing = [name for name in manifest.files if name not in members]
    if missing:
        raise IntegrityError(f"{source}: the file {missing[0]} is missing", hint=REPLACE_HINT)
    with atomic_folder(target) as temporary:
        with output_errors(target):
            (temporary / MANIFEST).write_bytes(text)
        for name, record in manifest.files.items():
            _extract(archive, members[name], record, source, temporary / name)


def _is_archive(path: Path) -> bool:
    """Return whether a file is a zip archive with a manifest."""
    try:
        with path.open("rb") as stream, _reading(path):
            _check_directory(stream, path)
            return MANIFEST in zipfile.ZipFile(stream).namelist()
    except (IntegrityError, OSError):
        return False


@contextmanager
def _reading(source: Path) -> Iterator[None]:
    """Translate whatever `zipfile` raises for damaged bytes; it has no one class for that."""
    try:
        yield
    except (IntegrityError, MemoryError):
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, struct.error) as error:
        raise IntegrityError(f"{source} is not a bundle that can be read: {error}", hint=_HINT) from error
    except (ValueError, LookupError, OverflowError, OSError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise IntegrityError(f"{source} is not a bundle that can be read: {reason}", hint=_HINT) from error


def _check_directory(stream: IO[bytes], source: Path) -> None:
    """Check the size of the table of contents, which `zipfile` would read at once, whatever it is."""
    size = stream.seek(0, 2)
    stream.seek(max(0, size - (1 << 16) - 22))
    tail = stream.read()
    # zipfile takes a record at the very end first, then the last one that it finds.
    start = len(tail) - 22 if tail[-22:-18] == b"PK\5\6" and tail[-2:] == b"\0\0" else tail.rfind(b"PK\5\6")
    if start < 0 or len(tail) - start < 22:
        raise IntegrityError(f"{source} is not a bundle that can be read: it is not a zip archive", hint=_HINT)
    entries, directory = struct.unpack_from("<HI", tail, start + 10)
    if tail[max(0, start - 20) : start].startswith(b"PK\6\7"):
        raise IntegrityError(f"{source} is too large: expected at most {MAX_FILES} files and {MAX_TOTAL_BYTES} bytes")
    if entries > MAX_FILES or directory > _MAX_DIRECTORY_BYTES:
        raise IntegrityError(
            f"{source} is too large: {entries} files, whose list has {directory} bytes; expected at most {MAX_FILES}"
            f" files and {_MAX_DIRECTORY_BYTES} bytes"
        )
    stream.seek(0)


def _checked_members(archive: zipfile.ZipFile, source: Path, size_bytes: int) -> dict[str, zipfile.ZipInfo]:
    """Return the files of an archive by name, after checking all that its records say."""
    total = 0
    seen: set[str] = set()
    for member in archive.infolist():
        if not is_inside(member.filename.removesuffix("/")):
            raise IntegrityError(f"{source} is hostile: it names {member.filename!r}, a path outside the bundle")
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise IntegrityError(f"{source} is hostile: {member.filename!r} is a link or a special file")
        if member.filename.casefold() in seen:
            raise IntegrityError(f"{source} is hostile: {member.filename!r} is in it twice")
        if member.compress_type not in _KINDS:
            raise IntegrityError(
                f"{source} cannot be read: {member.filename!r} has the compression {member.compress_type}; expected"
                f" stored ({zipfile.ZIP_STORED}) or deflated ({zipfile.ZIP_DEFLATED})",
                hint=_HINT,
            )
        seen.add(member.filename.casefold())
        total += member.file_size
        if member.file_size > MAX_RATIO * max(member.compress_size, 1024):
            raise IntegrityError(f"{source} is hostile: {member.filename!r} expands more than {MAX_RATIO} times")
    if len(seen) > MAX_FILES or total > MAX_TOTAL_BYTES:
        raise IntegrityError(
            f"{source} is too large: {len(seen)} files and {total} bytes; expected at most {MAX_FILES} files"
            f" and {MAX_TOTAL_BYTES} bytes"
        )
    if total > _FREE_BYTES + MAX_TOTAL_RATIO * size_bytes:
        raise IntegrityError(f"{source} is hostile: it expands more than {MAX_TOTAL_RATIO} times")
    members = {member.filename: member for member in archive.infolist() if not member.is_dir()}
    if MANIFEST not in members:
        raise IntegrityError(f"{source} is not a bundle that can be read: it has no {MANIFEST}", hint=_HINT)
    return members


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, record: FileRecord, source: Path, target: Path) -> None:
    digest = hashlib.sha256()
    with output_errors(target):  # what is damaged is reported by _content; here the disk may be full
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as plain:
            for piece in _content(archive, member, source, record.size_bytes):
                digest.update(piece)
                plain.write(piece)
    if digest.hexdigest() != record.sha256:
        raise IntegrityError(
            f"{source}: {member.filename} is damaged or was changed: its SHA-256 begins {digest.hexdigest()[:12]}, the"
            f" manifest recorded {record.sha256[:12]}",
            hint=REPLACE_HINT,
        )


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo, source: Path, largest: int) -> Iterator[bytes]:
    """Yield the content of a file, which zipfile ends at the declared size and compares with its checksum."""
    if member.file_size > largest:
        raise IntegrityError(f"{source}: {member.filename} has {member.file_size} bytes; expected at most {largest}")
    with _reading(source):
        packed = archive.open(member)
    with packed:
        while True:
            with _reading(source):
                piece = packed.read(_PIECE)
            if not piece:
                return
            yield piece
