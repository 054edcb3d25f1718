"""What a backend is given to build a variant: the graph, the precision, the shapes of its input, the folder."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgedenoise.bundles.manifest import embedded_metadata
from edgedenoise.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.bundles.manifest import Precision, Variant


@dataclass(frozen=True)
class BuildOptions:
    """How a backend's file is built. At most one of `tile`, `tiles` and `tile_range` may be given."""

    tile: int | None = None
    """Side in pixels of the one square input, margins (halo) included; None for the default."""
    tiles: tuple[int, ...] = ()
    """Accepted sides (Core ML's enumerated shapes)."""
    tile_range: tuple[int, int, int] | None = None
    """(least, best, most) side; all sides between are accepted (TensorRT's profile, Core ML's ranged shapes)."""
    more: Mapping[str, str] = field(default_factory=dict)
    """The backend's own options, by name."""


@dataclass(frozen=True)
class BuildJob:
    """One variant that is to be built."""

    bundle: Bundle
    """The bundle that the graph comes from, as it is."""
    root: Path
    """Folder that is written to: `build` puts the variant's files into the sub-folder of the variant's name."""
    source: Variant
    """ONNX variant that is compiled: the float graph, or the QDQ graph of one of the backend's schemes."""
    graph: Path
    """File of that ONNX variant."""
    precision: Precision
    """Precision to build."""
    options: BuildOptions = field(default_factory=BuildOptions)
    progress: Progress = silent

    def new_folder(self, variant: Variant) -> Path:
        """Return the empty folder that a variant's files go into; those of an earlier build are removed."""
        folder = self.root / variant.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def metadata(self, variant: Variant) -> str:
        """Return the JSON text that is embedded in a variant's model file, so that a lone file can be loaded."""
        return embedded_metadata(self.bundle.manifest, variant).decode()
