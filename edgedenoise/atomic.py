"""Write files and folders atomically: to a temporary name, which is then renamed."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from edgedenoise.errors import OutputError
from edgedenoise.system_errors import reason_and_hint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_NAME_BYTES = 100
_log = logging.getLogger(__name__)


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target` that becomes `target` when the block ends without an error.

    The suffix of `target` is kept, because writers choose their format by it. Parent folders are made.

    Raises:
        OutputError: the target cannot be written.
    """
    with _worded(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=_prefix(target.stem), suffix=target.suffix, dir=target.parent)
        os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with _worded(target):
            temporary.chmod(0o666 & ~_umask())  # mkstemp makes private files; outputs have the ordinary mode
            temporary.replace(target)
        _log.info("wrote %s", target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `target` that replaces `target` when the block ends without an error."""
    target = target.resolve()  # "." cannot be renamed; a link keeps pointing to its target
    with _worded(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=_prefix(target.name), dir=target.parent))
    try:
        yield temporary
        with _worded(target):
            temporary.chmod(0o777 & ~_umask())
            _take_the_place_of(target, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_writable(target: Path) -> None:
    """Check, before long work, that `target` can be written; its parent folders are made.

    Raises:
        OutputError: it cannot be written, or it is a folder.
    """
    if target.is_dir():
        raise OutputError(
            f"{target} cannot be written: expected a file, got a folder", hint=f"Name a file in it: {target / 'output'}"
        )
    with _worded(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.parent):
            pass


def write_bytes(target: Path, data: bytes) -> None:
    """Write `data` to `target` atomically."""
    with atomic_file(target) as temporary, _worded(target):
        temporary.write_bytes(data)


def write_stream(target: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write what `write` puts into a binary stream, which can be read and sought, to `target` atomically."""
    with atomic_file(target) as temporary, _worded(target), temporary.open("r+b") as stream:
        write(stream)


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _take_the_place_of(target: Path, new: Path) -> None:
    """Rename the folder `new` to `target`; an old one is moved aside first: a full folder cannot be replaced."""
    if not target.exists():
        new.replace(target)
        return
    aside = Path(tempfile.mkdtemp(prefix=_prefix(target.name, "-old-"), dir=target.parent))
    target.replace(aside / target.name)
    try:
        new.replace(target)
    except OSError:
        (aside / target.name).replace(target)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _worded(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason, hint = reason_and_hint(error, target)
        other = f"Check the permissions and free space of {target.parent}, or choose another output."
        raise OutputError(f"{target} cannot be written: {reason}", hint=hint or other) from error


def _prefix(name: str, end: str = "-") -> str:
    """Return how the temporary name of a file begins; names may have 255 bytes, and this leaves space for the rest."""
    while len(os.fsencode(name)) > _NAME_BYTES:
        name = name[:-1]
    return f".{name}{end}"


def _umask() -> int:
    """Return the umask of the process, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
