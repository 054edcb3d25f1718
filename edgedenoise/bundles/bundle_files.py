"""Read the recorded files of a bundle folder: no links, and only bytes that match the manifest's record."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgedenoise.errors import BundleError, IntegrityError
from edgedenoise.system_errors import input_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from edgedenoise.bundles.manifest import FileRecord

_PIECE = 1 << 20


@dataclass(frozen=True)
class BundleFiles:
    """The files that a manifest records in a folder."""

    root: Path
    source: Path
    """What the user named, for messages."""
    records: Mapping[str, FileRecord]
    hint: str
    """What to do about a damaged bundle."""

    def read(self, relative: str) -> bytes:
        """Read a file once and return the bytes that were checked.

        Raises:
            IntegrityError: the file is missing, is a link, or differs from the record.
            BundleError: the file cannot be read.
        """
        return b"".join(self._checked_pieces(relative))

    def check(self, relative: str) -> None:
        """Check a file without keeping its content; raises as `read`."""
        for _ in self._checked_pieces(relative):
            pass

    def check_links(self) -> None:
        """Check that nothing in the folder is a link or a special file: these lead out of the bundle.

        Raises:
            IntegrityError: something is.
        """
        for folder, folders, files in os.walk(self.root):
            for name in (*folders, *files):
                path = Path(folder, name)
                mode = path.lstat().st_mode
                if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                    self._refuse_link(path.relative_to(self.root).as_posix())

    def _checked_pieces(self, relative: str) -> Iterator[bytes]:
        record = self.records.get(relative)
        if record is None:
            raise IntegrityError(f"{self.source}: the manifest records no file {relative!r}")
        digest, size = hashlib.sha256(), 0
        try:
            self._check_folders(relative)
            descriptor = os.open(self.root / relative, os.O_RDONLY | _NO_LINK | getattr(os, "O_BINARY", 0))
            with os.fdopen(descriptor, "rb") as stream:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode):
                    self._refuse_link(relative)
                if found.st_size != record.size_bytes:
                    self._refuse_size(relative, found.st_size, record)
                while piece := stream.read(min(_PIECE, record.size_bytes + 1 - size)):
                    digest.update(piece)
                    size += len(piece)
                    if size > record.size_bytes:  # it grows while it is read
                        self._refuse_size(relative, size, record)
                    yield piece
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EMLINK):
                self._refuse_link(relative)
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                raise IntegrityError(f"{self.source}: the file {relative} is missing", hint=self.hint) from None
            with input_errors(self.root / relative, BundleError, f"{self.source}: {relative}"):
                raise
        if digest.hexdigest() != record.sha256:
            raise IntegrityError(
                f"{self.source}: {relative} is damaged or was changed: its SHA-256 begins {digest.hexdigest()[:12]},"
                f" the manifest recorded {record.sha256[:12]}",
                hint=self.hint,
            )

    def _check_folders(self, relative: str) -> None:
        path = self.root
        for name in relative.split("/"):
            path = path / name
            if stat.S_ISLNK(os.lstat(path).st_mode):
                self._refuse_link(relative)

    def _refuse_link(self, relative: str) -> None:
        raise IntegrityError(
            f"{self.source}: {relative} is a link or a special file; expected regular files, because a bundle must not"
            " read files of other folders",
            hint="Replace it with the file itself, or remove it.",
        )

    def _refuse_size(self, relative: str, found: int, record: FileRecord) -> None:
        raise IntegrityError(
            f"{self.source}: {relative} has {found} bytes; the manifest recorded {record.size_bytes}", hint=self.hint
        )


_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""Flags of `open`: fail on a link, and do not wait for the writer of a pipe."""
