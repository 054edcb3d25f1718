"""The files of one variant in memory: read once, checked, and given to the runtime from here.

A file on disk can be replaced between the check of its hash and the moment when a runtime opens it. Backends therefore
take the bytes that were checked. A backend whose library takes paths only works on a private copy of these bytes.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from edgedenoise.bundles.onnx_data import external_tensor
from edgedenoise.errors import BundleError, InferenceError, IntegrityError
from edgedenoise.system_errors import input_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_COMPANIONS = {".xml": ".bin", ".plan": ".json"}
"""Suffix of a model file -> suffix of the file that belongs to it."""


@dataclass(frozen=True)
class ModelFiles:
    """The checked files of one variant, or a lone model file with the files that belong to it."""

    path: Path
    """Path of the file that the runtime opens, for messages and hints; its content is `data`."""
    root: Path
    """The folder that the names in `contents` are relative to."""
    contents: Mapping[str, bytes]
    """Name relative to `root`, with `/` -> content."""

    def __post_init__(self) -> None:
        for name, data in self.contents.items():
            if name.lower().endswith(".onnx"):
                _check_onnx(self.root / name, data)

    @property
    def name(self) -> str:
        """Name of the file that the runtime opens, relative to `root`."""
        return self.path.relative_to(self.root).as_posix()

    @property
    def data(self) -> bytes:
        """Content of the file that the runtime opens."""
        return self.contents[self.name]

    @cached_property
    def onnx_data(self) -> bytes:
        """Content of the file that the runtime opens, for readers of ONNX; a file of any name is checked.

        Raises:
            InferenceError: it is not an ONNX model.
            IntegrityError: it keeps weights in other files.
        """
        if not self.name.lower().endswith(".onnx"):  # those are checked when they are read
            _check_onnx(self.path, self.data)
        return self.data

    def companion(self, suffix: str) -> bytes | None:
        """Return the content of the file of the same name with another suffix; None where there is none."""
        return self.contents.get(PurePosixPath(self.name).with_suffix(suffix).as_posix())

    @contextmanager
    def private_copy(self) -> Iterator[Path]:
        """Yield the path of the model in a private folder that holds these files and no others."""
        with tempfile.TemporaryDirectory(prefix="edgedenoise-") as scratch:  # mode 0700
            for name, data in self.contents.items():
                target = Path(scratch) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
            yield Path(scratch) / self.name

    @classmethod
    def of_bytes(cls, name: str, data: bytes) -> ModelFiles:
        """Return a model that is in no file, with a name whose suffix states its format."""
        return cls(Path(name), Path(), {name: data})

    @classmethod
    def read(cls, path: Path) -> ModelFiles:
        """Read a model file that no manifest records, with the files that belong to it; a package is a folder.

        Raises:
            BundleError: a file cannot be read.
            IntegrityError: the model keeps weights in other files.
        """
        package = path if path.is_dir() else path.parent if path.name == "Manifest.json" else None
        if package is not None:
            files = sorted(file for file in package.rglob("*") if file.is_file())
        else:
            companion = path.with_suffix(_COMPANIONS.get(path.suffix.lower(), path.suffix))
            files = [path] if companion == path or not companion.is_file() else [path, companion]
        root = path.parent if package is None else package.parent
        with input_errors(path, BundleError):
            return cls(path, root, {file.relative_to(root).as_posix(): file.read_bytes() for file in files})


def _check_onnx(path: Path, data: bytes) -> None:
    """Check that an ONNX model holds all its weights; its path is for messages."""
    try:
        tensor = external_tensor(data)
    except ValueError as error:
        raise InferenceError(f"ONNX cannot open {path}: it is not an ONNX model: {error}") from None
    if tensor is not None:
        raise IntegrityError(
            f"{path} keeps the weights {tensor!r} in another file, which no hash protects; expected all weights in the"
            " model file",
            hint="Export the model again without external data.",
        )
