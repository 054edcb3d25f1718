"""The images of a calibration set: listed, without duplicates, and found again by hash.

They come from a folder, or from a text file that lists them. The same image under another name would count twice, so
it is dropped. A recorded image is found by its SHA-256, even if it was renamed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from edgedenoise.atomic import sha256_of
from edgedenoise.errors import CalibrationError
from edgedenoise.imaging.files import EXTENSIONS
from edgedenoise.imaging.folders import list_images
from edgedenoise.system_errors import is_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_ACCEPTED = "accepted: a folder of images, or a text file with the path of one image per line"


class Duplicate(msgspec.Struct, frozen=True, rename={"image": "photo"}):
    """An image that was dropped, because another one shows the same."""

    image: str
    """File name, without folders."""
    sha256: str
    """SHA-256 of the image file."""
    same_as: str
    """File name of the image that was kept."""
    by: Literal["file", "pixels"]
    """`file`: byte for byte. `pixels`: another container, compression or metadata around the same pixels."""


def images_of(data: Path | str) -> list[Path]:
    """Return the images of a folder, sorted by name, or those that a list names, in its order.

    A list is UTF-8 text with one path per line, relative to the list's own folder; empty lines and those that begin
    with `#` are skipped.

    Raises:
        CalibrationError: there are none, `data` is neither a folder nor a list, or a listed file does not exist.
        DatasetError: there is nothing at `data`.
    """
    data = Path(data)
    found = _listed_in(data) if is_file(data) else list_images(data)
    if not found:
        raise CalibrationError(f"{data} holds no images to calibrate on; {_ACCEPTED}")
    return found


def distinct_files(paths: Iterable[Path], dropped: list[Duplicate]) -> Iterator[tuple[Path, str]]:
    """Yield each path whose file differs from all before it, with its SHA-256; the others are added to `dropped`."""
    names: dict[str, str] = {}
    for path in paths:
        digest = sha256_of(path)
        if digest in names:
            dropped.append(Duplicate(path.name, digest, names[digest], "file"))
        else:
            names[digest] = path.name
            yield path, digest


class Finder:
    """Find recorded images again: by name first, then by hash among all others."""

    def __init__(self, data: Path | str) -> None:
        """List the images of a folder or of a list; see `images_of`."""
        self._data = Path(data)
        self._paths = images_of(data)
        self._digests: dict[Path, str] = {}

    def path_of(self, name: str, sha256: str) -> Path:
        """Return where a recorded image is.

        Raises:
            CalibrationError: it is missing, or another image has its name.
        """
        named = [path for path in self._paths if path.name == name]
        for path in named or self._paths:  # a renamed image is searched for only where no file has the name
            if self._digest(path) == sha256:
                return path
        if not named:
            raise CalibrationError(
                f"the calibration set names {name}, which is not in {self._data}, by name or by content (SHA-256"
                f" {sha256[:12]}...)",
                hint=f"Put the file back, or calibrate the bundle again with --data {self._data}.",
            )
        raise CalibrationError(
            f"{named[0]} is not the image that the calibration set recorded: its SHA-256 begins"
            f" {self._digest(named[0])[:12]}, the set has {sha256[:12]}",
            hint=f"Put the recorded file back, or calibrate the bundle again with --data {self._data}.",
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
        listed = path.parent / text
        if not is_file(listed):
            raise CalibrationError(
                f"line {number} of {path} names {text!r}, and there is no file {listed}",
                hint="Paths are relative to the folder that the list is in.",
            )
        found.append(listed)
    return found
