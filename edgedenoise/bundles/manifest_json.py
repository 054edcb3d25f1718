"""Read and write `manifest.json`: schema, digest, paths, and variants that only a newer version knows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from edgedenoise.bundles.manifest import BLENDED_SCHEMA, SCHEMA, VARIANT_NAME, Manifest, Variant
from edgedenoise.errors import IntegrityError, ManifestError
from edgedenoise.shell import command_line
from edgedenoise.system_errors import input_errors

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 16 << 20
"""Largest accepted manifest; ours have some kilobytes, and 10,000 files take two megabytes."""
REPLACE_HINT = "Copy the bundle again from where it came, or rebuild it with: edgedenoise build"


@dataclass(frozen=True)
class UnknownVariant:
    """A variant that this version cannot read: a newer one wrote it. It is listed, and kept when the bundle changes."""

    name: str
    runtime: str
    precision: str
    reason: str
    """Which field cannot be read."""
    raw: dict[str, Any]
    """The entry as it stands in the manifest."""


class _Outline(msgspec.Struct, frozen=True):
    """The fields of a variant that every version has."""

    name: VARIANT_NAME
    runtime: str
    precision: str
    path: str


def read_manifest(root: Path, source: Path) -> tuple[Manifest, tuple[UnknownVariant, ...]]:
    """Read and check the manifest of a bundle folder.

    Args:
        root: the folder.
        source: what the user named, for messages.

    Returns:
        The manifest with the variants that this version can read, and the other variants.

    Raises:
        ManifestError: the manifest is missing, unreadable or of another schema.
        IntegrityError: the manifest was changed, or names files outside the bundle.
    """
    return parse_manifest(read_manifest_bytes(root, source), root / MANIFEST, source)


def read_manifest_bytes(root: Path, source: Path) -> bytes:
    """Read the manifest of a bundle folder without parsing it; arguments and errors as for `read_manifest`."""
    path = root / MANIFEST
    if path.is_symlink():
        raise IntegrityError(
            f"{path} is a link; expected a file, because a bundle must not read files of other folders",
            hint=REPLACE_HINT,
        )
    if not path.is_file():
        made = command_line("export", source, "-o", f"{source.absolute().name}.edge")
        raise ManifestError(
            f"{source} is not a bundle: it has no {MANIFEST}", hint=f"To make one of a training run: {made}"
        )
    return _content(path)


def parse_manifest(data: bytes, path: Path, source: Path) -> tuple[Manifest, tuple[UnknownVariant, ...]]:
    """Read and check the content of a manifest; see `read_manifest`.

    Args:
        data: the JSON.
        path: where it came from, for messages.
        source: what the user named, for messages.
    """
    try:
        raw = msgspec.json.decode(data, type=dict[str, Any])
        check_schema(raw.get("schema"), source)
        variants, unknown = _variants(raw.get("variants"))
        manifest = msgspec.convert({**raw, "variants": []}, type=Manifest)
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
        raise ManifestError(f"{path} cannot be read: {error}", hint=REPLACE_HINT) from error
    if manifest.digest != _digest(raw):
        raise IntegrityError(
            f"{path} is damaged or was changed by hand: its digest does not match its content", hint=REPLACE_HINT
        )
    named = [*((v.name, v.path) for v in variants), *((u.name, str(u.raw["path"])) for u in unknown)]
    for relative in [*manifest.files, *(file for _, file in named)]:
        if not is_inside(relative):
            raise IntegrityError(f"{path} names a file outside the bundle: {relative!r}")
    for name, file in named:
        if not file.startswith(f"{name}/"):
            raise IntegrityError(f"{path} has the variant {name} outside its folder: {file!r}")
    return msgspec.structs.replace(manifest, variants=variants), tuple(unknown)


def is_inside(relative: str) -> bool:
    """Return whether a name is a plain relative path with `/`, which cannot lead out of the folder on any system."""
    pure = PurePosixPath(relative)
    plain = pure.as_posix() == relative and relative != "." and not pure.is_absolute() and ".." not in pure.parts
    return plain and not any(sign in relative for sign in "\\:") and relative.isprintable()


def _content(path: Path) -> bytes:
    """Return the content of a manifest, up to a size that none of ours has."""
    with input_errors(path, ManifestError), path.open("rb") as stream:
        data = stream.read(MAX_MANIFEST_BYTES + 1)
    if len(data) > MAX_MANIFEST_BYTES:
        raise ManifestError(f"{path} is too large: expected at most {MAX_MANIFEST_BYTES} bytes", hint=REPLACE_HINT)
    return data


def _drop_missing(values: dict[str, Any], *fields: str) -> None:
    """Remove the fields whose value is None."""
    for field in fields:
        if values[field] is None:
            del values[field]


def write_manifest(root: Path, manifest: Manifest, unknown: tuple[UnknownVariant, ...] = ()) -> Manifest:
    """Write `manifest.json` with its digest.

    Args:
        root: the bundle folder.
        manifest: its content; `digest` is computed here.
        unknown: variants of newer versions, which are written as they were read.

    Returns:
        The manifest with its digest.
    """
    values: dict[str, Any] = msgspec.to_builtins(manifest)
    # A bundle without them has the same bytes as in versions that had no such fields.
    _drop_missing(values, "noise_level", "normalization_limit", "limits")
    for variant in values["variants"]:
        _drop_missing(variant, "loss")
        if variant["encoding"] is not None:
            _drop_missing(variant["encoding"], "trained_ranges")
    values["variants"] += [one.raw for one in unknown]
    values["digest"] = _digest(values)
    data = msgspec.json.format(msgspec.json.encode(values), indent=2)
    (root / MANIFEST).write_bytes(data + b"\n")
    return msgspec.structs.replace(manifest, digest=values["digest"])


def check_schema(schema: object, source: Path) -> None:
    """Check that this version reads a schema.

    Raises:
        ManifestError: it does not.
    """
    if schema not in (SCHEMA, BLENDED_SCHEMA):
        raise ManifestError(
            f"{source} has another schema; expected {SCHEMA!r}, got {schema!r}",
            hint="Upgrade with: pip install -U edgedenoise",
        )


def is_bundle_folder(folder: Path) -> bool:
    """Return whether a folder holds a manifest of ours, of any version."""
    try:
        raw = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return str(raw.get("schema", "")).startswith(SCHEMA.partition("/")[0] + "/")


def _variants(raw: object) -> tuple[list[Variant], list[UnknownVariant]]:
    """Return the variants that can be read, and those that cannot although every version's fields are there."""
    found: list[Variant] = []
    unknown: list[UnknownVariant] = []
    for entry in msgspec.convert(raw, type=list[dict[str, Any]]):
        try:
            found.append(msgspec.convert(entry, type=Variant))
        except msgspec.ValidationError as error:
            outline = msgspec.convert(entry, type=_Outline)
            unknown.append(UnknownVariant(outline.name, outline.runtime, outline.precision, str(error), entry))
    return found, unknown


def _digest(values: dict[str, Any]) -> str:
    """Return the hash of the manifest's JSON values as written, so that fields of newer writers count too."""
    return hashlib.sha256(msgspec.json.encode({**values, "digest": ""}, order="sorted")).hexdigest()
