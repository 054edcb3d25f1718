"""The artefact, `NAME.edge`: a folder (or a zip of it) with a manifest, one sub-folder per variant and a self-test.

The manifest says what the network needs of its host (normalisation, halo) and records the size and SHA-256 of every
file; a file is checked whenever it is opened through `Bundle.file`. The format is described in
docs/bundle-format.md; archives are in `archive`.
"""

from __future__ import annotations

import hashlib
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, cast, get_args

import msgspec

from edgedenoise.bundles import archive
from edgedenoise.bundles.manifest import SCHEMA, Essentials, FileRecord, Manifest, Precision, Variant
from edgedenoise.bundles.model_card import model_card
from edgedenoise.bundles.pretrained import is_shipped, resolve, suggestion
from edgedenoise.errors import BundleError, IncompatibleError, IntegrityError, ManifestError, UsageError
from edgedenoise.files import atomic_folder, sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterator

MANIFEST = "manifest.json"
MODEL_CARD = "MODEL_CARD.md"
METADATA_KEY = "edgedenoise"
"""Name under which `Essentials` are embedded in ONNX `metadata_props` and OpenVINO `rt_info`."""


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: a folder and its manifest."""

    root: Path
    manifest: Manifest
    source: Path
    """What the user named: the folder itself, the archive, or the lone model file."""

    @classmethod
    def open(cls, path: Path | str) -> Bundle:
        """Open a bundle folder or archive, or a shipped one by its name.

        Archives are unpacked once into the user's cache.

        Raises:
            BundleError: there is nothing at `path`.
            ManifestError: the manifest is missing, unreadable, edited or of an unknown schema.
            IntegrityError: the archive is hostile or damaged.
        """
        source = resolve(path)
        if source.is_dir():
            root = source
        elif source.is_file():
            root = archive.unpack_to_cache(source)
        else:
            raise BundleError(
                f"there is no bundle at {source}",
                hint=suggestion(path),
            )
        return cls(root, _read_manifest(root, source), source)

    @classmethod
    def from_essentials(cls, path: Path, embedded: bytes | str | None) -> Bundle:
        """Make a bundle of one variant from a lone model file and the metadata embedded in it.

        Raises:
            ManifestError: the metadata is missing or unreadable.
        """
        if not embedded:
            raise ManifestError(
                f"{path} carries no edgedenoise metadata, so its normalisation and halo are not known",
                hint="load the bundle that it came from, or a model file that edgedenoise wrote",
            )
        try:
            known = msgspec.json.decode(embedded, type=Essentials)
        except msgspec.MsgspecError as error:
            raise ManifestError(f"the edgedenoise metadata in {path} cannot be read: {error}") from error
        manifest = Manifest(
            schema=known.schema,
            name=path.stem,
            created_by="",
            network=known.network,
            normalization=known.normalization,
            tiling=known.tiling,
            variants=[msgspec.structs.replace(known.variant, path=path.name)],
        )
        _check_schema(known.schema, path)
        return cls(path.parent, manifest, path)

    @property
    def is_lone_file(self) -> bool:
        """Whether there is only a model file: no hashes and no self-test to check it by."""
        return not self.manifest.files

    @property
    def _replace_hint(self) -> str:
        if self.source == self.root:
            return _REPLACE
        return f"if {self.source} itself is sound, its unpacked copy is not: remove {self.root} and try again"

    def variant(self, name: str) -> Variant:
        """Return the variant of that name.

        Raises:
            IncompatibleError: there is none; the message lists those there are.
        """
        for variant in self.manifest.variants:
            if variant.name == name:
                return variant
        raise IncompatibleError(
            f"{self.source} has no variant {name!r}; it has {', '.join(v.name for v in self.manifest.variants)}"
        )

    def has(self, relative: str) -> bool:
        """Tell whether the manifest records a file of that path."""
        return relative in self.manifest.files

    def file(self, relative: str) -> Path:
        """Return the path of a recorded file, after checking its size and hash.

        Raises:
            IntegrityError: the file is missing or is not what the manifest recorded.
        """
        path = self.root / relative
        if self.is_lone_file:
            return path
        record = self.manifest.files.get(relative)
        if record is None:
            raise IntegrityError(f"{self.source}: the manifest records no file {relative!r}")
        if not path.is_file():
            raise IntegrityError(f"{self.source}: the file {relative} is missing", hint=self._replace_hint)
        size = path.stat().st_size
        if size != record.size_bytes:
            raise IntegrityError(
                f"{self.source}: {relative} has {size} bytes; the manifest recorded {record.size_bytes}",
                hint=self._replace_hint,
            )
        found = sha256_of(path)
        if found != record.sha256:
            raise IntegrityError(
                f"{self.source}: {relative} is damaged or was changed: its SHA-256 begins {found[:12]},"
                f" the manifest recorded {record.sha256[:12]}",
                hint=self._replace_hint,
            )
        return path

    def variant_file(self, variant: Variant) -> Path:
        """Return the file that the runtime opens, after checking every file of the variant."""
        for relative in self.variant_records(variant):
            self.file(relative)
        return self.file(variant.path)

    def variant_records(self, variant: Variant) -> dict[str, FileRecord]:
        """Return the records of a variant's files by path."""
        prefix = f"{variant.name}/"
        return {name: record for name, record in self.manifest.files.items() if name.startswith(prefix)}

    def check(self) -> None:
        """Check every recorded file.

        Raises:
            IntegrityError: on the first that is missing or changed.
        """
        for relative in self.manifest.files:
            self.file(relative)

    def copy_to(self, out: Path) -> None:
        """Write a copy of the folder, whole or not at all.

        Raises:
            BundleError: `out` exists and is not a bundle.
        """
        check_replaceable(out)
        with atomic_folder(out) as temporary:
            shutil.copytree(self.root, temporary, dirs_exist_ok=True)

    @contextmanager
    def edit(self) -> Iterator[Draft]:
        """Change a bundle: all of it or nothing.

        The block works on a copy, which takes the bundle's place when the block ends without an error.

        Raises:
            BundleError: the bundle is an archive or a lone file, or belongs to the installed package.
        """
        self.check_editable()
        self.check()
        with atomic_folder(self.root) as temporary:
            shutil.copytree(self.root, temporary, dirs_exist_ok=True)
            draft = Draft(temporary, self.manifest)
            yield draft
            draft.seal()

    def check_editable(self) -> None:
        """Make sure that `edit` may change it.

        Raises:
            BundleError: as `edit`.
        """
        if is_shipped(self.root):
            raise BundleError(
                f"{self.manifest.name} is a part of the installed package, and cannot be changed",
                hint=f"take a copy first: edgedenoise pack {self.manifest.name} --unpack -o MINE.edge",
            )
        if self.source != self.root:
            raise BundleError(
                f"{self.source} is not a bundle folder and cannot be changed in place",
                hint=f"unpack it first: edgedenoise pack {self.source} --unpack -o FOLDER.edge",
            )


class Draft:
    """A bundle that is being written: add files, set the manifest, and `seal` it."""

    def __init__(self, root: Path, manifest: Manifest) -> None:
        self.root = root
        self.manifest = manifest

    def write(self, relative: str, data: bytes) -> None:
        """Write one file."""
        path = self.root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def put_variant(self, variant: Variant) -> None:
        """Add a variant, or replace the one of the same name."""
        others = [v for v in self.manifest.variants if v.name != variant.name]
        self.manifest = msgspec.structs.replace(self.manifest, variants=[*others, variant])

    def essentials(self, variant: Variant) -> bytes:
        """Return what is to be embedded in a variant's model file, as JSON."""
        manifest = self.manifest
        return msgspec.json.encode(
            Essentials(manifest.schema, manifest.network, manifest.normalization, manifest.tiling, variant)
        )

    def drop_variants(self, names: set[str]) -> None:
        """Remove variants, their folders and what is reported of them."""
        for name in names:
            shutil.rmtree(self.root / name, ignore_errors=True)
            (self.root / report_file(name)).unlink(missing_ok=True)
        kept = [v for v in self.manifest.variants if v.name not in names]
        self.manifest = msgspec.structs.replace(self.manifest, variants=kept)

    def seal(self) -> None:
        """Write the model card, record every file, and write the manifest."""
        self.write(MODEL_CARD, model_card(self.manifest).encode())
        paths = sorted(p for p in self.root.rglob("*") if p.is_file() and p.name != MANIFEST)
        files = {p.relative_to(self.root).as_posix(): FileRecord(sha256_of(p), p.stat().st_size) for p in paths}
        manifest = msgspec.structs.replace(self.manifest, files=files)
        manifest = msgspec.structs.replace(manifest, digest=_digest(msgspec.to_builtins(manifest)))
        self.manifest = manifest
        data = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
        (self.root / MANIFEST).write_bytes(data + b"\n")


def report_file(variant: str) -> str:
    """Return where a bundle keeps what is reported of a variant, as JSON."""
    return f"reports/{variant}.json"


def checked_precision(name: str) -> Precision:
    """Return a precision by name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in get_args(Precision):
        raise UsageError(f"there is no precision {name!r}; accepted are {', '.join(get_args(Precision))}")
    return cast("Precision", name)


def check_replaceable(target: Path) -> None:
    """Refuse to write a bundle over something else.

    Raises:
        BundleError: `target` exists and is not a bundle.
    """
    if target.exists() and not (target / MANIFEST).is_file():
        raise BundleError(
            f"{target} exists and is not a bundle, so it is not overwritten",
            hint="choose another name, or remove it first",
        )


@contextmanager
def create_bundle(target: Path, manifest: Manifest) -> Iterator[Draft]:
    """Write a new bundle folder at `target`: all of it or nothing.

    Raises:
        BundleError: `target` exists and is not a bundle (an existing bundle is replaced).
    """
    check_replaceable(target)
    with atomic_folder(target) as temporary:
        draft = Draft(temporary, manifest)
        yield draft
        draft.seal()


_REPLACE = "copy the bundle again from where it came, or rebuild it: edgedenoise build RUN --data DIR -o NAME.edge"


def _digest(values: dict[str, object]) -> str:
    """Hash the manifest's JSON values; as written, so that fields of newer writers count too."""
    return hashlib.sha256(msgspec.json.encode({**values, "digest": ""}, order="sorted")).hexdigest()


def _read_manifest(root: Path, source: Path) -> Manifest:
    path = root / MANIFEST
    if not path.is_file():
        raise ManifestError(f"{source} is not a bundle: it has no {MANIFEST}")
    data = path.read_bytes()
    try:
        raw = msgspec.json.decode(data, type=dict[str, object])
        _check_schema(raw.get("schema"), source)
        manifest = msgspec.convert(raw, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} cannot be read: {error}", hint=_REPLACE) from error
    if manifest.digest != _digest(raw):
        raise IntegrityError(
            f"{path} is damaged or was changed by hand: its digest does not match its content", hint=_REPLACE
        )
    for relative in [*manifest.files, *(v.path for v in manifest.variants)]:
        pure = PurePosixPath(relative)
        if pure.is_absolute() or ".." in pure.parts or "\\" in relative:
            raise IntegrityError(f"{path} names a file outside the bundle: {relative!r}")
    for variant in manifest.variants:
        if not variant.path.startswith(f"{variant.name}/"):
            raise IntegrityError(f"{path} has the variant {variant.name} outside its folder: {variant.path!r}")
    return manifest


def _check_schema(schema: object, source: Path) -> None:
    if schema != SCHEMA:
        raise ManifestError(
            f"{source} has schema {schema!r}; this version of edgedenoise reads {SCHEMA!r}",
            hint="upgrade with: pip install -U edgedenoise",
        )
