"""Change manifests as another version of the writer would."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import msgspec

from edgedenoise.bundles.manifest_json import MANIFEST

if TYPE_CHECKING:
    from pathlib import Path


def rewrite_manifest(bundle: Path, **changes: object) -> None:
    """Change fields of a manifest, with a valid digest; None removes a field."""
    values = {**json.loads((bundle / MANIFEST).read_bytes()), **changes, "digest": ""}
    values = {key: value for key, value in values.items() if value is not None}
    values["digest"] = hashlib.sha256(msgspec.json.encode(values, order="sorted")).hexdigest()
    (bundle / MANIFEST).write_bytes(msgspec.json.encode(values))
