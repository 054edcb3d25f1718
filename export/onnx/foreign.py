"""Make a bundle of a foreign network: clean its graph, compare it, measure how far it looks, and check its tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec
import numpy as np

from edgedenoise.bundles.writer import check_replaceable
from edgedenoise.errors import ExportError, UsageError
from edgedenoise.exporting.onnx.cleaning import CleanedGraph, ForeignInterface, cleaned, foreign_interface
from edgedenoise.exporting.onnx.float_bundle import FloatGraph, write_float_bundle
from edgedenoise.exporting.onnx.parity import NEGLIGIBLE_LSB
from edgedenoise.exporting.onnx.receptive_field import ReceptiveField, receptive_field
from edgedenoise.exporting.onnx.tile_check import check_tiles, measured_reach
from edgedenoise.imaging.normalize import DEFAULT_LIMIT, Normalization
from edgedenoise.imaging.tiling import Tiling
from edgedenoise.progress import Progress, silent
from edgedenoise.runtimes.base import CHANNELS, INPUT_NAME, OUTPUT_NAME
from edgedenoise.runtimes.noise_plane import SHIPPED
from edgedenoise.runtimes.onnxruntime.reference import Reference
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.exporting.onnx.parity import Answer
    from edgedenoise.imaging.normalize import NormalizationKind

TilingKind: TypeAlias = Literal["exact", "blend"]
"""Whether tiles must have the pixels of the whole image, or are blended because they cannot."""
MAX_HALO_PX: Final = 1024
_BLEND_PX: Final = 32
"""Half the width of the strips in which tiles are blended."""
IMPORT_STEPS: Final = 3
"""Steps that are reported as progress: clean, compare, write."""
_LSB: Final = 255


@dataclass(frozen=True)
class ImportedBundle:
    """A bundle that was made of a foreign graph, and what was measured on the way."""

    bundle: Bundle
    halo_px: int
    """Context that a tile has on every side."""
    measured_px: int | None
    """Largest distance at which a changed input pixel changed the output; None for a network that looks at the whole
    image."""
    multiple_of: int
    """What the sides of a tile are divisible by."""
    max_error_lsb: float
    """Largest difference between the bundle's graph and the foreign one, in 8-bit levels."""
    max_tile_error_lsb: float
    """Largest difference between tiles and the whole image, in 8-bit levels; where tiles are blended, on one test
    image in small tiles."""


@dataclass(frozen=True)
class ForeignNetwork:
    """A network of another project."""

    model: onnx.ModelProto
    """Its ONNX graph."""
    name: str
    answer: Answer
    """Runs the network as its own framework does, on float32 (1, C, H, W)."""
    blend_command: str
    """Command line that imports it with blended tiles."""


def import_network(
    network: ForeignNetwork,
    out: Path,
    *,
    normalization: NormalizationKind,
    tiling: TilingKind,
    halo_px: int | None,
    about: str,
    progress: Progress = silent,
) -> ImportedBundle:
    """Make a bundle of a foreign network; arguments and errors as for `import_onnx`."""
    progress("import", 0, IMPORT_STEPS, "cleaning")
    interface = foreign_interface(network.model)
    blended = tiling == "blend"
    graph = cleaned(network.model, interface, blended=blended, blend_command=network.blend_command)
    data = graph.model.SerializeToString()
    field = _field(graph.model)
    progress("import", 1, IMPORT_STEPS, "comparing")
    error = _check_same(network.answer, interface, graph, field)
    if blended and not field.reads_whole_image:
        raise UsageError(
            f"the network looks {field.halo_px} px far and can be tiled exactly; blended tiles would be slower",
            hint="Leave out --tiling blend.",
        )
    reach = None if blended else measured_reach(data, field, interface.channels)
    halo = _halo(halo_px, reach, field)
    chosen = Normalization(normalization, DEFAULT_LIMIT if normalization == "whole-image-bounded" else None)
    blend_px = -(-_BLEND_PX // field.multiple_of) * field.multiple_of if blended else None
    tiles = Tiling(halo, field.multiple_of, blend_px=blend_px or msgspec.UNSET)
    tile_error = check_tiles(data, tiles, chosen, interface.channels)
    progress("import", 2, IMPORT_STEPS, "writing")
    bundle = write_float_bundle(
        out,
        FloatGraph(
            graph.model,
            name=network.name,
            normalization=chosen,
            halo_px=halo,
            multiple_of=field.multiple_of,
            blend_px=blend_px,
            noise_level=SHIPPED if interface.channels > CHANNELS else None,
        ),
        about=about,
    )
    progress("import", IMPORT_STEPS, IMPORT_STEPS)
    return ImportedBundle(bundle, halo, reach, field.multiple_of, error, tile_error)


def blend_command(command: str, source: Path, out: Path, *options: str) -> str:
    """Return the command line that imports a file with blended tiles."""
    return command_line(command, source, "-o", out, "--tiling", "blend", *options)


def check_options(out: Path, halo_px: int | None) -> None:
    """Check what can be checked before the network is read.

    Raises:
        UsageError: `halo_px` is out of range.
        BundleError: `out` exists and is not a bundle.
    """
    if halo_px is not None and not 0 <= halo_px <= MAX_HALO_PX:
        raise UsageError(f"the halo is not accepted: expected 0 to {MAX_HALO_PX} pixels, got {halo_px}")
    check_replaceable(out)


def _field(model: onnx.ModelProto) -> ReceptiveField:
    """Return the receptive field of a cleaned graph.

    Raises:
        ExportError: it is not known, or too large.
    """
    field = receptive_field(model)
    if field is None:
        raise ExportError(
            "the network cannot be tiled exactly: it joins tensors of different resolutions, or returns another"
            " resolution than that of the image",
            hint="Expected one output pixel for every input pixel, and equal strides in both directions.",
        )
    if field.halo_px > MAX_HALO_PX:
        raise ExportError(
            f"the network looks {field.halo_px} px far; expected at most {MAX_HALO_PX}",
            hint="Train it with fewer layers or smaller dilations.",
        )
    return field


def _halo(wanted: int | None, reach: int | None, field: ReceptiveField) -> int:
    if reach is not None and reach > field.halo_px:
        raise ExportError(
            f"a pixel changed the output {reach} px away; the graph allows {field.halo_px} px",
            hint="Please report this with the model.",
        )
    if wanted is not None and wanted < field.halo_px:
        raise ExportError(
            f"the network looks {field.halo_px} px far, and would not be tiled exactly with a halo of {wanted} px",
            hint="Leave out --halo to take the receptive field of the graph.",
        )
    return field.halo_px if wanted is None else wanted


def _check_same(answer: Answer, interface: ForeignInterface, graph: CleanedGraph, field: ReceptiveField) -> float:
    """Compare the cleaned graph with the original network, and return the largest difference in 8-bit levels.

    Raises:
        ExportError: they differ by more than rounding.
    """
    ours = Reference(graph.model.SerializeToString())
    step, worst = field.multiple_of, 0.0
    margin = field.halo_px if graph.padding_moved else 0
    rng = np.random.default_rng(0)
    for base in (64, 104):
        sides = tuple(
            fixed or -(-(base + extra + 2 * margin) // step) * step
            for fixed, extra in zip(interface.sides, (0, 24), strict=True)
        )
        if min(sides) <= 2 * margin:
            raise ExportError(
                f"the graph is made for {sides[0]}x{sides[1]} pixels, of which padding reaches {margin} on each side,"
                " so that nothing is left to compare",
                hint="Export it again with symbolic height and width.",
            )
        x = rng.random((1, interface.channels, *sides), np.float32)
        given = x.copy()
        given[:, CHANNELS:] /= SHIPPED.gain
        expected = answer(given)
        found = ours.run({INPUT_NAME: x})[OUTPUT_NAME]
        if expected.shape != found.shape:
            raise ExportError(f"the graph answers {expected.shape} to {x.shape}; expected {found.shape}")
        kept = np.s_[..., margin : sides[0] - margin, margin : sides[1] - margin]
        difference = float(np.abs(found[kept] - expected[kept]).max()) * _LSB
        limit = NEGLIGIBLE_LSB * max(1.0, float(np.abs(expected).max()))
        if not difference <= limit:
            raise ExportError(
                f"the cleaned graph differs from the original by {difference:.3g} 8-bit levels at"
                f" {sides[0]}x{sides[1]} pixels; expected at most {limit:.3g}",
                hint="Its size is part of the graph, or an operator was not understood. Export it again with symbolic"
                " height and width.",
            )
        worst = max(worst, difference)
    return worst
