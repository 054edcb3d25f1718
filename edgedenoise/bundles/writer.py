"""Write bundles: the only code that does. A new bundle or a change is written whole, or not at all.

The writer works in one temporary folder, which takes the bundle's place at the end. It records the files that it was
given and no others: files that a file manager or an editor left in the folder are not part of the bundle.
"""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgedenoise.atomic import atomic_folder, output_errors, sha256_of
from edgedenoise.bundles.bundle import MODEL_CARD, Bundle, report_file
from edgedenoise.bundles.bundle_files import BundleFiles
from edgedenoise.bundles.manifest import FileRecord, Manifest, Variant, embedded_metadata
from edgedenoise.bundles.manifest_json import (
    MANIFEST,
    REPLACE_HINT,
    UnknownVariant,
    is_bundle_folder,
    read_manifest,
    write_manifest,
)
from edgedenoise.bundles.model_card import model_card
from edgedenoise.bundles.pretrained import is_shipped
from edgedenoise.errors import BundleError
from edgedenoise.locks import one_writer
from edgedenoise.shell import command_line
from edgedenoise.system_errors import is_full

if TYPE_CHECKING:
    from collections.abc import Iterator


class BundleWriter:
    """A bundle that is being written. Made by `create` and `edit`, which are context managers."""

    def __init__(self, root: Path, target: Path, manifest: Manifest, unknown: tuple[UnknownVariant, ...] = ()) -> None:
        """Continue with the files that `manifest` records in the folder `root`, which will become `target`."""
        self.root = root
        """The temporary folder."""
        self.target = target
        """Where the bundle will be."""
        self.manifest = manifest
        self._unknown = unknown
        self._records = dict(manifest.files)
        self._added: set[str] = set()
        self._new_variants: set[str] = set()
        self._sealed_as: Manifest | None = None

    @classmethod
    @contextmanager
    def create(cls, target: Path, manifest: Manifest) -> Iterator[BundleWriter]:
        """Write a new bundle folder at `target`; an existing bundle is replaced.

        Args:
            target: the folder.
            manifest: what is known so far; files are recorded by the writer.

        Yields:
            The writer; the bundle takes its place when the block ends without an error.

        Raises:
            BundleError: `target` exists and is not a bundle.
        """
        check_replaceable(target)
        with one_writer(target, BundleError), atomic_folder(target) as temporary:
            writer = cls(temporary, target, manifest)
            with _full_disk_reported(target):
                yield writer
            writer.seal()
            check_replaceable(target)

    @classmethod
    @contextmanager
    def edit(cls, bundle: Bundle) -> Iterator[BundleWriter]:
        """Change a bundle folder.

        Args:
            bundle: the opened bundle; every recorded file is checked first.

        Yields:
            The writer, on a copy of the recorded files that takes the bundle's place when the block ends without an
            error. Files that the manifest does not record stay where they were.

        Raises:
            BundleError: the bundle is an archive or a lone file, belongs to the installed package, is being written by
                another command, or was changed by one since it was opened.
            IntegrityError: a file is not what the manifest recorded, or the folder contains a link.
        """
        check_editable(bundle)
        with one_writer(bundle.root, BundleError), atomic_folder(bundle.root) as temporary:
            _check_unchanged(bundle)
            # The content of each file is checked when it is copied.
            BundleFiles(bundle.root, bundle.source, bundle.manifest.files, REPLACE_HINT).check_links()
            with output_errors(bundle.root):
                _copy_recorded(bundle, temporary)
            writer = cls(temporary, bundle.root, bundle.manifest, bundle.unknown_variants)
            with _full_disk_reported(bundle.root):
                yield writer
            writer.seal()
            _check_unchanged(bundle)
            with output_errors(bundle.root):
                _keep_strays(bundle, temporary)

    def write(self, relative: str, data: bytes) -> None:
        """Write one file."""
        with output_errors(self.target):
            self.path(relative).write_bytes(data)

    def write_json(self, relative: str, value: msgspec.Struct) -> None:
        """Write one struct as indented JSON."""
        self.write(relative, msgspec.json.format(msgspec.json.encode(value), indent=1))

    def path(self, relative: str) -> Path:
        """Return where to write a file that the bundle is to record; its folder is made."""
        path = self.root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        self._added.add(relative)
        self._sealed_as = None
        return path

    def remove(self, relative: str) -> None:
        """Remove one file, if it is there."""
        (self.root / relative).unlink(missing_ok=True)
        self._records.pop(relative, None)
        self._added.discard(relative)
        self._sealed_as = None

    def put_variant(self, variant: Variant) -> None:
        """Add a variant, or replace the one of the same name; every file written into its folder is recorded."""
        others = [v for v in self.manifest.variants if v.name != variant.name]
        self.manifest = msgspec.structs.replace(self.manifest, variants=[*others, variant])
        self._new_variants.add(variant.name)
        self._sealed_as = None

    def drop_variants(self, names: set[str]) -> None:
        """Remove variants, their folders and their reports."""
        for name in names:
            shutil.rmtree(self.root / name, ignore_errors=True)
            for relative in [file for file in {*self._records, *self._added} if file.startswith(f"{name}/")]:
                self.remove(relative)
            self.remove(report_file(name))
        self._new_variants -= names
        kept = [v for v in self.manifest.variants if v.name not in names]
        self.manifest = msgspec.structs.replace(self.manifest, variants=kept)

    def metadata(self, variant: Variant) -> bytes:
        """Return the JSON that is embedded in a variant's model file."""
        return embedded_metadata(self.manifest, variant)

    def seal(self) -> Bundle:
        """Write the model card, record every added file and write the manifest; nothing is done twice.

        Returns:
            The bundle as it is now, in the temporary folder.
        """
        if self._sealed_as != self.manifest:
            self.write(MODEL_CARD, model_card(self.manifest).encode())
            for name in self._new_variants:
                self._records = {k: v for k, v in self._records.items() if not k.startswith(f"{name}/")}
                self._added |= {f"{name}/{file}" for file in _files(self.root / name)}
            for relative in self._added:
                path = self.root / relative
                self._records[relative] = FileRecord(sha256_of(path), path.stat().st_size)
            manifest = msgspec.structs.replace(self.manifest, files=dict(sorted(self._records.items())))
            with output_errors(self.target):
                self.manifest = self._sealed_as = write_manifest(self.root, manifest, self._unknown)
            self._added, self._new_variants = set(), set()
        return Bundle(self.root, self.manifest, self.target, self._unknown)


def check_editable(bundle: Bundle) -> None:
    """Check, before long work, that a bundle can be changed.

    Raises:
        BundleError: it belongs to the installed package, or is not a folder.
    """
    if is_shipped(bundle.root):
        raise BundleError(
            f"{bundle.manifest.name} is part of the installed package and cannot be changed",
            hint=f"Make a copy first: {command_line(*editable_copy(bundle)[0])}",
        )
    if bundle.is_lone_file:
        raise BundleError(f"{bundle.source} is not a bundle folder; expected one", hint=lone_file_hint(bundle))
    if bundle.is_archive:
        raise BundleError(
            f"{bundle.source} is not a bundle folder and cannot be changed in place",
            hint=f"Unpack it first: {command_line(*editable_copy(bundle)[0])}",
        )


def editable_copy(bundle: Bundle) -> tuple[list[str], Path]:
    """Return the arguments of the command that copies a bundle to a folder, and the folder that can then be changed.

    There are no arguments where the bundle can be changed as it is.

    Args:
        bundle: a folder, an archive or a shipped bundle. No command makes a bundle of a lone model file: see
            `lone_file_hint`.
    """
    if is_shipped(bundle.root):
        name, folder = bundle.manifest.name, Path(f"my-{bundle.manifest.name}.edge")
    elif bundle.is_archive:
        name, folder = str(bundle.source), bundle.source.with_suffix(".edge")
        if folder == bundle.source:
            folder = bundle.source.with_suffix(".unpacked.edge")
    else:
        return [], bundle.source
    return ["pack", name, "--unpack", "-o", str(folder)], folder


def lone_file_hint(bundle: Bundle) -> str:
    """Return what to do about a lone model file that a change was asked of."""
    return f"Load the bundle that {bundle.source.name} came from: a model file alone cannot be changed."


def check_replaceable(target: Path) -> None:
    """Check that a bundle may be written at `target`.

    Raises:
        BundleError: `target` exists and is not a bundle.
    """
    if target.exists() and not is_bundle_folder(target):
        raise BundleError(
            f"{target} exists and is not a bundle, so it is not overwritten",
            hint="Choose another name, or remove it first.",
        )


def copy_bundle(bundle: Bundle, out: Path) -> None:
    """Write a copy of a bundle's own files to the folder `out`.

    Raises:
        BundleError: `out` exists and is not a bundle.
        IntegrityError: a file is not what the manifest recorded.
    """
    check_replaceable(out)
    with one_writer(out, BundleError), atomic_folder(out) as temporary, output_errors(out):
        _copy_recorded(bundle, temporary)
        write_manifest(temporary, bundle.manifest, bundle.unknown_variants)


@contextmanager
def _full_disk_reported(target: Path) -> Iterator[None]:
    """Report a full disk that whoever writes into the bundle has met; other errors of the system are their own."""
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        with output_errors(target):
            raise


def _check_unchanged(bundle: Bundle) -> None:
    current, _ = read_manifest(bundle.root, bundle.source)
    if current.digest != bundle.manifest.digest:
        raise BundleError(
            f"{bundle.source} was changed by another command in the meantime, so this change was not written",
            hint="Run the command again.",
        )


def _copy_recorded(bundle: Bundle, folder: Path) -> None:
    """Write the bytes that were checked; nothing is read through a link, and no other file is copied."""
    for relative in bundle.manifest.files:
        copied = folder / relative
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_bytes(bundle.read(relative))


def _keep_strays(bundle: Bundle, folder: Path) -> None:
    """Put the user's own files, which no manifest records, into the folder that takes the bundle's place."""
    for relative in bundle.strays():
        stray, kept = bundle.root / relative, folder / relative
        if os.path.lexists(kept) or not stat.S_ISREG(stray.lstat().st_mode):
            continue
        kept.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(stray, kept, follow_symlinks=False)
        except (OSError, NotImplementedError):  # a file system without hard links
            shutil.copy2(stray, kept, follow_symlinks=False)


def _files(folder: Path) -> list[str]:
    """Return every file below a folder but its manifest, relative to it."""
    found = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return [name for name in found if name != MANIFEST]
