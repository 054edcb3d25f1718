"""Pixels in, pixels out: normalize by the whole image, run exact tiles, undo the normalization.

The Denoiser, the self-test and all measurements run a network through `run_image`.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import numpy as np

from edgedenoise.imaging.normalize import Normalization, Statistics, statistics
from edgedenoise.imaging.tiling import WHOLE, Tiling, largest_tile, plan_tiles, run_tiled
from edgedenoise.runtimes.base import CHANNELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from edgedenoise.runtimes.checked import CheckedSession


def run_image(
    session: CheckedSession,
    pixels: NDArray[np.float32],
    normalization: Normalization,
    tiling: Tiling,
    *,
    tile: int = WHOLE,
    on_tile: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Denoise one image.

    Args:
        session: an opened variant.
        pixels: (3, H, W) float32 in [0, 1], the whole image; (4, H, W) for a network that takes the noise level.
        normalization: normalization that the network was trained with.
        tiling: halo and alignment that the network needs.
        tile: largest tile side in pixels, or `WHOLE`.
        on_tile: called with (done, total) after each tile.

    Returns:
        (3, H, W) float32, not clipped.
    """
    stats = image_statistics(pixels, normalization)
    if session.largest_px is not None:
        tile = largest_tile(session.largest_px, tiling, tile)
    plan = plan_tiles(pixels.shape[1], pixels.shape[2], tiling, tile)
    with ExitStack() as streams:

        def stream(tiles: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
            # Closed with the block: after an error, a traceback would keep the stream open and the session in use.
            return streams.enter_context(closing(session.stream(tiles)))

        return stats.undo(run_tiled(network_input(pixels, stats), plan, stream, on_tile))


def image_statistics(pixels: NDArray[np.float32], normalization: Normalization) -> Statistics:
    """Return the statistics of the image channels of (3, H, W) or (4, H, W)."""
    return statistics(pixels[:CHANNELS], normalization)


def network_input(pixels: NDArray[np.float32], stats: Statistics) -> NDArray[np.float32]:
    """Return what a network takes of a whole image.

    Args:
        pixels: (3, H, W) float32 in [0, 1]; (4, H, W) with the noise level.
        stats: statistics of the image.

    Returns:
        The same shape: the image normalized, the noise level as it is.
    """
    image = stats.apply(pixels[:CHANNELS])
    return image if len(pixels) == CHANNELS else np.concatenate([image, pixels[CHANNELS:]])
