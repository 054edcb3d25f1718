"""Read bundles, `NAME.edge`: a folder (or a zip of it) with a manifest, one sub-folder per variant and a self-test.

The manifest describes what the network needs (normalization, halo) and records the size and SHA-256 of every file.
`Bundle.file` checks a file each time it is opened. docs/reference/bundle-format.md describes the format; `archive`
reads and writes archives, `writer` writes bundles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast, get_args

import msgspec

from edgedenoise.atomic import restore_interrupted
from edgedenoise.bundles.archive_cache import unpack_to_cache
from edgedenoise.bundles.bundle_files import BundleFiles
from edgedenoise.bundles.manifest import EmbeddedMetadata, FileRecord, Manifest, Precision, Variant
from edgedenoise.bundles.manifest_json import MANIFEST, REPLACE_HINT, UnknownVariant, check_schema, read_manifest
from edgedenoise.bundles.model_files import ModelFiles
from edgedenoise.bundles.pretrained import is_shipped, named, resolve, suggestion
from edgedenoise.errors import BundleError, IncompatibleError, ManifestError, UsageError
from edgedenoise.system_errors import input_errors, is_dir, is_file

if TYPE_CHECKING:
    from pathlib import Path

MODEL_CARD = "MODEL_CARD.md"
METADATA_KEY = "edgedenoise"
"""Name under which `EmbeddedMetadata` are embedded in ONNX `metadata_props` and OpenVINO `rt_info`."""


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: a folder and its manifest."""

    root: Path
    manifest: Manifest
    source: Path
    """What the user named, for messages: the folder, the archive, the lone model file, or a shipped bundle's name."""
    unknown_variants: tuple[UnknownVariant, ...] = ()
    """Variants of a newer version, which this one cannot run."""

    @classmethod
    def open(cls, path: Path | str) -> Bundle:
        """Open a bundle folder or archive, or a shipped one by its name.

        Archives are unpacked once into the user's cache.

        Args:
            path: a folder, an archive, or the name of a shipped bundle.

        Returns:
            The bundle; its files are checked when they are used.

        Raises:
            BundleError: there is nothing at `path`.
            ManifestError: the manifest is missing, unreadable, edited or of an unknown schema.
            IntegrityError: the archive is hostile or damaged.

        Example:
            >>> from edgedenoise import Bundle
            >>> bundle = Bundle.open("edge-tiny")
            >>> [variant.name for variant in bundle.manifest.variants]
            ['onnx-fp32', 'onnx-int8-u8s7']
        """
        place, source = resolve(path), named(path)
        restore_interrupted(place)
        if is_dir(place):
            root = place
        elif is_file(place):
            root = unpack_to_cache(place)
        else:
            raise BundleError(f"there is no bundle at {place}", hint=suggestion(path))
        manifest, unknown = read_manifest(root, source)
        return cls(root, manifest, source, unknown)

    @classmethod
    def from_metadata(cls, path: Path, embedded: bytes | str | None) -> Bundle:
        """Return a bundle of one variant: a lone model file with the metadata embedded in it.

        Raises:
            ManifestError: the metadata is missing or unreadable.
        """
        if not embedded:
            raise ManifestError(
                f"{path} carries no edgedenoise metadata, so its normalization and halo are unknown",
                hint="Load the bundle that it came from, or a model file that edgedenoise wrote.",
            )
        try:
            known = msgspec.json.decode(embedded, type=EmbeddedMetadata)
        except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
            raise ManifestError(f"the edgedenoise metadata in {path} cannot be read: {error}") from error
        manifest = Manifest(
            schema=known.schema,
            name=path.stem,
            created_by="",
            network=known.network,
            normalization=known.normalization,
            normalization_limit=known.normalization_limit,
            tiling=known.tiling,
            variants=[msgspec.structs.replace(known.variant, path=path.name)],
            noise_level=known.noise_level,
        )
        check_schema(known.schema, path)
        return cls(path.parent, manifest, path)

    @property
    def is_lone_file(self) -> bool:
        """Whether this is a model file alone, without hashes and self-test."""
        return not self.manifest.files

    @property
    def is_archive(self) -> bool:
        """Whether the user named an archive; the root is then its copy in the cache."""
        return not self.is_lone_file and self.source != self.root and not is_shipped(self.root)

    @property
    def _files(self) -> BundleFiles:
        return BundleFiles(self.root, self.source, self.manifest.files, self._replace_hint)

    @property
    def _replace_hint(self) -> str:
        if is_shipped(self.root):
            return "Install the package again with: pip install --force-reinstall --no-deps edgedenoise"
        if not self.is_archive:
            return REPLACE_HINT
        return f"The unpacked copy of {self.source} is damaged: remove {self.root} and try again."

    def variant(self, name: str) -> Variant:
        """Return a variant by name.

        Raises:
            IncompatibleError: there is none of that name; the message lists the variants.
        """
        for variant in self.manifest.variants:
            if variant.name == name:
                return variant
        for unknown in self.unknown_variants:
            if unknown.name == name:
                raise IncompatibleError(
                    f"this version of edgedenoise cannot read the variant {name!r} of {self.source}: {unknown.reason}",
                    hint="Upgrade with: pip install -U edgedenoise",
                )
        raise IncompatibleError(
            f"{self.source} has no variant {name!r}; it has {', '.join(v.name for v in self.manifest.variants)}"
        )

    def has(self, relative: str) -> bool:
        """Return whether the manifest records a file."""
        return relative in self.manifest.files

    def read(self, relative: str) -> bytes:
        """Read a recorded file once, check these bytes and return them.

        Raises:
            IntegrityError: the file is missing, is a link, or differs from the manifest's record.
        """
        if self.is_lone_file:
            with input_errors(self.root / relative, BundleError):
                return (self.root / relative).read_bytes()
        return self._files.read(relative)

    def file(self, relative: str) -> Path:
        """Check the size and hash of a recorded file and return its path.

        Content that is used is read by `read`: the file at the path may be replaced after the check.

        Raises:
            IntegrityError: as `read`.
        """
        if not self.is_lone_file:
            self._files.check(relative)
        return self.root / relative

    def variant_file(self, variant: Variant) -> Path:
        """Check every file of a variant and return the path of the one that a runtime opens."""
        return self.model_files(variant).path

    def model_files(self, variant: Variant) -> ModelFiles:
        """Read every file of a variant once, check these bytes and return them.

        Raises:
            IntegrityError: a file is missing, is a link or was changed; or weights are kept in another file.
        """
        path = self.root / variant.path
        if self.is_lone_file:
            return ModelFiles.read(path)
        names = {variant.path, *self.variant_records(variant)}
        prefix = f"{variant.name}/"
        return ModelFiles(
            path,
            self.root / variant.name,
            {name.removeprefix(prefix): self._files.read(name) for name in sorted(names)},
        )

    def variant_records(self, variant: Variant) -> dict[str, FileRecord]:
        """Return the records of a variant's files by path."""
        prefix = f"{variant.name}/"
        return {name: record for name, record in self.manifest.files.items() if name.startswith(prefix)}

    def check(self) -> None:
        """Check every recorded file.

        Raises:
            IntegrityError: a file is missing or was changed, or the folder contains a link.
        """
        if self.is_lone_file:
            return
        self._files.check_links()
        for relative in self.manifest.files:
            self._files.check(relative)

    def strays(self) -> list[str]:
        """Return the files in the folder that the manifest does not record, relative to it."""
        if self.is_lone_file:
            return []
        found = sorted(p.relative_to(self.root).as_posix() for p in self.root.rglob("*") if p.is_file())
        return [name for name in found if name != MANIFEST and name not in self.manifest.files]


def report_file(variant: str) -> str:
    """Return the path of a variant's report inside a bundle."""
    return f"reports/{variant}.json"


def checked_precision(name: str) -> Precision:
    """Return a precision by name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in get_args(Precision):
        raise UsageError(
            f"there is no precision {name!r}; expected one of {', '.join(get_args(Precision))}",
            hint="Take int8 for speed, fp16 for a graphics card, fp32 for the exact output.",
        )
    return cast("Precision", name)
