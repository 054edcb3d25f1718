"""Read and write bundles as zip archives.

The same bundle gives the same bytes: sorted names, one fixed date and mode, no compression (whose output differs
between zlib builds, and weights hardly compress). An archive that is read may be hostile: absolute paths, `..`,
links, duplicates and zip bombs are refused before anything is written.
"""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import platformdirs

from edgedenoise.atomic import atomic_file, atomic_folder, sha256_of
from edgedenoise.bundles.manifest_json import MANIFEST, read_manifest
from edgedenoise.errors import BundleError, IntegrityError

MAX_FILES = 10_000
MAX_TOTAL_BYTES = 2 << 30
MAX_RATIO = 200
"""Largest accepted expansion of one file; our own archives are not compressed."""

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a zip can hold


def pack(root: Path, target: Path) -> None:
    """Write a bundle folder as an archive, atomically; only the files that its manifest records are packed.

    Args:
        root: the bundle folder.
        target: the archive; an earlier archive of a bundle is replaced.

    Raises:
        BundleError: `target` is inside the bundle, or exists and is not the archive of a bundle.
        ManifestError: `root` has no readable manifest.
    """
    if target.resolve().is_relative_to(root.resolve()):
        raise BundleError(f"{target} is the bundle {root} or inside it", hint="Choose another name with -o.")
    if target.exists() and not _is_archive(target):
        raise BundleError(
            f"{target} exists and is not the archive of a bundle, so it is not overwritten",
            hint="Choose another name with -o, or remove it first.",
        )
    manifest, _ = read_manifest(root, root)
    with atomic_file(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted([MANIFEST, *manifest.files]):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            info.create_system = 3  # Unix, on every system
            archive.writestr(info, (root / name).read_bytes())


def unpack(source: Path, target: Path) -> None:
    """Write the content of an archive to a new folder: all of it or nothing.

    Args:
        source: the archive.
        target: the folder.

    Raises:
        BundleError: `target` exists.
        IntegrityError: the archive is damaged or hostile.
    """
    if target.exists():
        raise BundleError(f"{target} exists already, so nothing was unpacked", hint="Choose another name.")
    try:
        with zipfile.ZipFile(source) as archive:
            members = _checked_members(archive, source)
            with atomic_folder(target) as temporary:
                for member in members:
                    _extract(archive, member, temporary / member.filename)
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise IntegrityError(
            f"{source} is not a bundle that can be read: {error}",
            hint="A bundle is a folder with a manifest.json, or a zip of one made by: edgedenoise pack",
        ) from error


def unpack_to_cache(source: Path) -> Path:
    """Return the folder in the user's cache that holds an archive's content; it is unpacked once."""
    folder = platformdirs.user_cache_path("edgedenoise") / "bundles" / sha256_of(source)
    if not folder.is_dir():
        try:
            unpack(source, folder)
        except BundleError:
            if not folder.is_dir():  # else another process has unpacked the same content
                raise
    return folder


def _is_archive(path: Path) -> bool:
    """Return whether a file is a zip archive with a manifest."""
    try:
        with zipfile.ZipFile(path) as archive:
            return MANIFEST in archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return False


def _checked_members(archive: zipfile.ZipFile, source: Path) -> list[zipfile.ZipInfo]:
    members = [m for m in archive.infolist() if not m.is_dir()]
    total = 0
    seen: set[str] = set()
    for member in archive.infolist():
        pure = PurePosixPath(member.filename)
        if pure.is_absolute() or ".." in pure.parts or "\\" in member.filename or ":" in member.filename:
            raise IntegrityError(f"{source} is hostile: it names {member.filename!r}, a path outside the bundle")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise IntegrityError(f"{source} is hostile: {member.filename!r} is a link")
        if member.filename.casefold() in seen:
            raise IntegrityError(f"{source} is hostile: {member.filename!r} is in it twice")
        seen.add(member.filename.casefold())
        total += member.file_size
        if member.file_size > MAX_RATIO * max(member.compress_size, 1024):
            raise IntegrityError(f"{source} is hostile: {member.filename!r} expands more than {MAX_RATIO} times")
    if len(members) > MAX_FILES or total > MAX_TOTAL_BYTES:
        raise IntegrityError(
            f"{source} is too large: {len(members)} files and {total} bytes; expected at most {MAX_FILES} files"
            f" and {MAX_TOTAL_BYTES} bytes"
        )
    return members


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    # zipfile stops at the declared size and checks the CRC, so a member that lies about its size cannot grow.
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as packed, target.open("wb") as plain:
        shutil.copyfileobj(packed, plain)
