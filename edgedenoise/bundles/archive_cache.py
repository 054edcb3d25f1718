"""The cache of unpacked archives: each by the hash of its bytes, bounded, the least recently used removed first."""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import ExitStack, suppress
from typing import IO, TYPE_CHECKING

import platformdirs

from edgedenoise.atomic import output_errors, remove_folder, remove_leftovers
from edgedenoise.bundles.archive import MAX_TOTAL_BYTES, unpack_stream
from edgedenoise.errors import BundleError, IntegrityError
from edgedenoise.system_errors import input_errors

if TYPE_CHECKING:
    from pathlib import Path

MAX_CACHE_BYTES = 4 << 30
MAX_CACHED_BUNDLES = 64
_PIECE = 1 << 20


def unpack_to_cache(source: Path) -> Path:
    """Return the folder in the user's cache that holds an archive's content; it is unpacked once.

    The archive is copied to a private file while it is hashed, and unpacked from there: a file that is replaced in the
    meantime cannot put its content under the hash of another.

    Raises:
        BundleError: `source` cannot be read.
        IntegrityError: the archive is damaged or hostile; nothing of it stays in the cache.
        OutputError: the cache cannot be written.
    """
    cache = platformdirs.user_cache_path("edgedenoise") / "bundles"
    known = cache / _sha256(source, None, cache)
    if known.is_dir():
        with suppress(OSError):
            os.utime(known)  # used last
        return known
    with ExitStack() as opening:
        with output_errors(cache):
            cache.mkdir(parents=True, exist_ok=True)
            copy = opening.enter_context(tempfile.TemporaryFile(dir=cache))
        remove_leftovers(cache)
        folder = cache / _sha256(source, copy, cache)
        if not folder.is_dir():
            try:
                unpack_stream(copy, source, folder)
            except BundleError:
                if not folder.is_dir():  # else another process has unpacked the same content
                    raise
    _evict(cache, folder)
    return folder


def _sha256(source: Path, copy: IO[bytes] | None, cache: Path) -> str:
    """Return the hash of a file; the bytes that were hashed are written to `copy`, which is in the cache."""
    digest, size = hashlib.sha256(), 0
    with input_errors(source, BundleError), source.open("rb") as stream:
        while True:
            piece = stream.read(_PIECE)
            if not piece:
                return digest.hexdigest()
            size += len(piece)
            if size > MAX_TOTAL_BYTES:
                raise IntegrityError(f"{source} is too large: expected at most {MAX_TOTAL_BYTES} bytes")
            digest.update(piece)
            if copy is not None:
                with output_errors(cache):
                    copy.write(piece)


def _evict(cache: Path, kept: Path) -> None:
    """Remove the bundles that were not used for longest until the rest is within the bounds; never the one in use."""
    with suppress(OSError):
        folders = sorted(
            (path for path in cache.iterdir() if path.is_dir() and path != kept),
            key=lambda path: path.stat().st_mtime,
            reverse=True,
        )
        used, count = _size(kept), 1
        for folder in folders:
            used, count = used + _size(folder), count + 1
            if used > MAX_CACHE_BYTES or count > MAX_CACHED_BUNDLES:
                remove_folder(folder)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
