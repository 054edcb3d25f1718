"""Measure how far a network looks, and check that its tiles give the pixels of the whole image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from edgedenoise.errors import ExportError
from edgedenoise.exporting.onnx.float_bundle import selftest_image
from edgedenoise.exporting.onnx.parity import NEGLIGIBLE_LSB
from edgedenoise.imaging.tiling import Tiling, reflected
from edgedenoise.runtimes.base import CHANNELS, INPUT_NAME, OUTPUT_NAME
from edgedenoise.runtimes.onnxruntime.reference import Reference, open_reference
from edgedenoise.runtimes.pipeline import run_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgedenoise.exporting.onnx.receptive_field import ReceptiveField
    from edgedenoise.imaging.normalize import Normalization

_MOST_PHASES: Final = 16
_SMALLEST_CHANGE: Final = 1e-6
"""Change of the output, relative to its largest value, that counts as one: smaller ones are rounding."""
_LSB: Final = 255


def measured_reach(model: bytes, field: ReceptiveField, channels: int = CHANNELS) -> int:
    """Measure the largest distance in pixels at which a changed input pixel changes the output.

    All pixels on one side of an edge are changed, for edges at every place within a block of pixels that the network
    treats as one. The farthest output pixel beyond the edge that changes is the reach: at most that of the graph,
    and less where the weights hide the farthest pixels.

    Args:
        model: serialized graph of the graph contract.
        field: receptive field as computed from the graph.
        channels: number of input channels.

    Returns:
        The reach in pixels, over rows and columns and both directions.
    """
    reference, step = Reference(model), field.multiple_of
    half = -(-(field.halo_px + step) // step) * step + step
    short = max(-(-16 // step), 2) * step
    farthest = 0
    for along_rows in (False, True):
        sides = (2 * half, short) if along_rows else (short, 2 * half)
        image, other = np.random.default_rng(0).random((2, channels, *sides), np.float32)

        def answer(x: NDArray[np.float32], along_rows: bool = along_rows) -> NDArray[np.float32]:
            found: NDArray[np.float32] = reference.run({INPUT_NAME: x[None]})[OUTPUT_NAME][0]
            return found.swapaxes(1, 2) if along_rows else found

        before = answer(image)
        threshold = _SMALLEST_CHANGE * float(np.abs(before).max())
        for phase in range(0, step, max(1, step // _MOST_PHASES)):
            edge = half + phase
            for first in (True, False):
                changed = image.copy()
                view = changed.swapaxes(1, 2) if along_rows else changed
                source = other.swapaxes(1, 2) if along_rows else other
                part = slice(0, edge) if first else slice(edge, None)
                view[:, :, part] = source[:, :, part]
                moved = np.flatnonzero((np.abs(answer(changed) - before) > threshold).any(axis=(0, 1)))
                if moved.size:
                    farthest = max(farthest, int(moved[-1]) - edge + 1 if first else edge - int(moved[0]))
    return farthest


def check_tiles(model: bytes, tiling: Tiling, normalization: Normalization, channels: int = CHANNELS) -> float:
    """Check that an image that is denoised in tiles has the pixels of one that is denoised whole.

    Args:
        model: serialized graph of the graph contract.
        tiling: halo and alignment to check.
        normalization: the normalization of the input.
        channels: number of input channels.

    Returns:
        The largest difference in 8-bit levels, which is rounding where tiles are exact, and not judged otherwise.

    Raises:
        ExportError: they differ by more than rounding, where tiles are exact.
    """
    tile = -(-32 // tiling.multiple_of) * tiling.multiple_of
    small = selftest_image(channels)
    image = np.ascontiguousarray(small[:, :, reflected(0, 3 * tile - 5, small.shape[2])][:, : 2 * tile + 3])
    with open_reference(model) as session:
        whole = run_image(session, image, normalization, tiling)
        tiled = run_image(session, image, normalization, tiling, tile=tile)
    worst = float(np.abs(tiled - whole).max()) * _LSB
    limit = max(NEGLIGIBLE_LSB, NEGLIGIBLE_LSB * float(np.abs(whole).max()))
    if tiling.is_exact and not worst <= limit:
        raise ExportError(
            f"tiles with a halo of {tiling.halo_px} px differ from the whole image by {worst:.3g} 8-bit levels;"
            f" expected at most {limit:.3g}",
            hint="Leave out --halo to take the receptive field of the graph.",
        )
    return worst
