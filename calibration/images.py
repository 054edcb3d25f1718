"""The images behind a calibration set: listed, each different one taken once, and found again by hash.

They come from a folder, or from a text file that lists them. The same image under another name would count twice,
so it is dropped; one that was recorded is known again by its SHA-256, whatever it is called now.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from edgedenoise.errors import CalibrationError
from edgedenoise.files import sha256_of
from edgedenoise.imaging.files import EXTENSIONS, list_images, read_image
from edgedenoise.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Sequence

_ACCEPTED = "accepted: a folder of images, or a text file with the path of one image per line"


class Duplicate(msgspec.Struct, frozen=True):
    """An image that was dropped, because another one shows the same."""

    photo: str
    """File name, without folders."""
    sha256: str
    """Of its file."""
    same_as: str
    """File name of the one that was kept."""
    by: Literal["file", "pixels"]
    """`file`: byte for byte. `pixels`: another container, compression or metadata around the same pixels."""


@dataclass(frozen=True)
class Photograph:
    """An image that crops can be drawn from."""

    path: Path
    sha256: str
    """Of its file."""
    height: int
    width: int


def photographs_of(data: Path | str) -> list[Path]:
    """Return the images of a folder, sorted by name, or those that a list names, in its order.

    A list is UTF-8 text with one path per line, relative to the list's own folder; empty lines and those that begin
    with `#` are skipped.

    Raises:
        CalibrationError: there are none, `data` is neither a folder nor a list, or a listed file does not exist.
        DatasetError: there is nothing at `data`.
    """
    data = Path(data)
    found = _listed_in(data) if data.is_file() else list_images(data)
    if not found:
        raise CalibrationError(f"{data} holds no images to calibrate on; {_ACCEPTED}")
    return found


def different_photographs(
    paths: Sequence[Path], most: int, progress: Progress = silent
) -> tuple[list[Photograph], list[Duplicate]]:
    """Read images in order until `most` different ones are found; return them and what was dropped.

    One image is in memory at a time.

    Raises:
        ImageError: an image cannot be read.
    """
    found: list[Photograph] = []
    dropped: list[Duplicate] = []
    files: dict[str, str] = {}
    images: dict[str, str] = {}
    total = min(most, len(paths))
    for path in paths:
        if len(found) == most:
            break
        digest = sha256_of(path)
        if digest in files:
            dropped.append(Duplicate(path.name, digest, files[digest], "file"))
        else:
            photo = read_image(path)
            image, height, width = photo.pixels_sha256, photo.height, photo.width
            del photo  # before the next one is read
            if image in images:
                dropped.append(Duplicate(path.name, digest, images[image], "pixels"))
            else:
                found.append(Photograph(path, digest, height, width))
                images[image] = path.name
            files[digest] = images[image]
        progress("photographs", min(len(found) + len(dropped), total), total)
    progress("photographs", total, total)  # duplicates may have used the list up before `most` were found
    return found, dropped


class Finder:
    """Finds recorded images again: by name first, then by hash among all others."""

    def __init__(self, data: Path | str) -> None:
        """List the images of a folder or of a list; see `photographs_of`."""
        self._data = Path(data)
        self._paths = photographs_of(data)
        self._digests: dict[Path, str] = {}

    def path_of(self, photo: str, sha256: str) -> Path:
        """Return where a recorded image is.

        Raises:
            CalibrationError: it is missing, or there is another one under its name.
        """
        named = [path for path in self._paths if path.name == photo]
        for path in named or self._paths:  # renamed ones are looked for only where nothing bears the name
            if self._digest(path) == sha256:
                return path
        if not named:
            raise CalibrationError(
                f"the calibration set names {photo}, which is not in {self._data}, by name or by content (SHA-256"
                f" {sha256[:12]}...)",
                hint="put the file back, or draw a new set: edgedenoise calibrate B.edge --data DIR",
            )
        raise CalibrationError(
            f"{named[0]} is not the image that the calibration set recorded: its SHA-256 begins"
            f" {self._digest(named[0])[:12]}, the set has {sha256[:12]}",
            hint="put the recorded file back, or draw a new set: edgedenoise calibrate B.edge --data DIR",
        )

    def _digest(self, path: Path) -> str:
        if path not in self._digests:
            self._digests[path] = sha256_of(path)
        return self._digests[path]


def _listed_in(path: Path) -> list[Path]:
    """Return the images that a text file names."""
    if path.suffix.lower() in EXTENSIONS:
        raise CalibrationError(f"{path} is one image; {_ACCEPTED}")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{path} cannot be read as a list of images: {error}; {_ACCEPTED}") from None
    found = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        photo = path.parent / text
        if not photo.is_file():
            raise CalibrationError(
                f"line {number} of {path} names {text!r}, and there is no file {photo}",
                hint="Paths are relative to the folder that the list is in.",
            )
        found.append(photo)
    return found
