"""Image files in folders, and the entries of a folder that are left out, with the reason for each."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgedenoise.errors import DatasetError
from edgedenoise.imaging.files import EXTENSIONS, READABLE
from edgedenoise.system_errors import reason_and_hint

if TYPE_CHECKING:
    from collections.abc import Iterator

VIDEO_EXTENSIONS: Final = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp"}
)
"""Extensions of video files, in lower case."""
VIDEO: Final = "a video: name the file itself to denoise it"
"""Reason why a video in a folder is left out: one may take longer than all images."""
SUB_FOLDER: Final = "a sub-folder: add -r (recursive=True) to read it"
"""Reason why a folder in a folder is left out."""


@dataclass(frozen=True)
class LeftOut:
    """A file or folder that was found but not read."""

    path: Path
    """The file or folder."""
    reason: str
    """Why it was left out; equal texts stand for the same reason."""


@dataclass(frozen=True)
class FoundImages:
    """The contents of a folder."""

    images: tuple[Path, ...]
    """Files with the extension of an image format, sorted."""
    left_out: tuple[LeftOut, ...]
    """Everything else, sorted, except hidden files that have no extension of an image format."""


def find_images(folder: Path | str, *, recursive: bool = False, apart_from: Path | None = None) -> FoundImages:
    """Return the image files of a folder, and what it holds besides them.

    Args:
        folder: the folder to search.
        recursive: also search its sub-folders. Links to folders are not followed.
        apart_from: a folder that is not searched: the output of the same run.

    Returns:
        The images and the entries that are left out.

    Raises:
        DatasetError: there is no such folder, or it cannot be read.
    """
    images: list[Path] = []
    left_out: list[LeftOut] = []
    skipped = None if apart_from is None else apart_from.resolve()
    for path, reason in _entries(Path(folder), recursive=recursive, skipped=skipped):
        if reason is None:
            images.append(path)
        else:
            left_out.append(LeftOut(path, reason))
    return FoundImages(tuple(sorted(images)), tuple(sorted(left_out, key=lambda entry: entry.path)))


def is_video(path: Path) -> bool:
    """Return whether a file has the extension of a video."""
    return path.suffix.lower() in VIDEO_EXTENSIONS


def list_images(folder: Path | str) -> list[Path]:
    """Return the image files directly in a folder, sorted by name, without hidden ones and camera raw files.

    Raises:
        DatasetError: there is no such folder, or it cannot be read.
    """
    return [path for path in find_images(folder).images if path.suffix.lower() in EXTENSIONS]


def _entries(folder: Path, *, recursive: bool, skipped: Path | None) -> Iterator[tuple[Path, str | None]]:
    """Yield each entry of a folder with the reason to leave it out; None for an image."""
    for entry in _listed(folder):
        path = Path(entry)
        if _is_hidden(path):
            continue
        if not entry.is_dir():
            yield path, _reason(path, is_file=entry.is_file())
        elif skipped is not None and path.resolve() == skipped:
            yield path, "the output folder of this run"
        elif not recursive:
            yield path, SUB_FOLDER
        elif entry.is_symlink():
            yield path, "a link to a folder, which is not followed"
        else:
            try:
                yield from _entries(path, recursive=True, skipped=skipped)
            except DatasetError as error:
                yield path, error.message


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except NotADirectoryError:
        raise DatasetError(
            f"{folder} cannot be listed: expected a folder of images, got a file",
            hint=f"Name its folder: {folder.parent}",
        ) from None
    except FileNotFoundError:
        raise DatasetError(
            f"{folder} cannot be listed: there is no such folder",
            hint=f"Check the name: relative paths start at {Path.cwd()}.",
        ) from None
    except OSError as error:
        reason, hint = reason_and_hint(error, folder)
        raise DatasetError(f"{folder} cannot be listed: {reason}", hint=hint) from error


def _is_hidden(path: Path) -> bool:
    """Return whether an entry is hidden and no image: `.DS_Store`, the `._a.jpg` of macOS, a hidden folder."""
    if not path.name.startswith("."):
        return False
    return path.name.startswith("._") or path.suffix.lower() not in READABLE or path.is_dir()


def _reason(path: Path, *, is_file: bool) -> str | None:
    """Return why a file is left out; None for an image."""
    if is_video(path):
        return VIDEO
    if path.suffix.lower() not in READABLE:
        return f"no image format has the extension {path.suffix.lower()}" if path.suffix else "it has no extension"
    if path.name.startswith("."):
        return "a hidden file"
    return None if is_file else "not a file that can be read"
