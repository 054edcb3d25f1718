"""Pixels in, pixels out: normalize by the whole image, run exact tiles, undo the normalization.

The self-test and all measurements run a network through `run_image`; the Denoiser runs it on stored pixels, through
`image_bands` too.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import numpy as np

from edgedenoise.imaging.normalize import Normalization, Statistics, statistics
from edgedenoise.imaging.pixel_rows import taken
from edgedenoise.imaging.tiling import WHOLE, TilePlan, Tiling, joined, largest_tile, plan_tiles, run_bands
from edgedenoise.runtimes.base import CHANNELS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from numpy.typing import NDArray

    from edgedenoise.imaging.tiling import Cut
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
    height, width = pixels.shape[1:]

    def cut(rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.float32]:
        return network_input(taken(taken(pixels, rows, 1), columns, 2), stats)

    plan = session_plan(session, height, width, tiling, tile)
    return joined((stats.undo(band) for band in image_bands(session, plan, cut, on_tile)), height, width)


def session_plan(
    session: CheckedSession, height: int, width: int, tiling: Tiling, tile: int, *, top: int = 0
) -> TilePlan:
    """Return the plan of the tiles of an image from row `top` on, at most as large as the session accepts."""
    if session.largest_px is not None:
        tile = largest_tile(session.largest_px, tiling, tile)
    return plan_tiles(height, width, tiling, tile, top=top)


def image_bands(
    session: CheckedSession, plan: TilePlan, cut: Cut, on_tile: Callable[[int, int], None] | None = None
) -> Generator[NDArray[np.float32], None, None]:
    """Run a network over an image, and yield its output a row of tiles at a time; see `run_bands`."""
    with ExitStack() as streams:

        def stream(tiles: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
            # Closed with the block: after an error, a traceback would keep the stream open and the session in use.
            return streams.enter_context(closing(session.stream(tiles)))

        yield from run_bands(plan, cut, stream, on_tile)


def image_statistics(pixels: NDArray[np.float32], normalization: Normalization) -> Statistics:
    """Return the statistics of the image channels of (3, H, W) or (4, H, W)."""
    return statistics(pixels[:CHANNELS], normalization)


def network_input(pixels: NDArray[np.float32], stats: Statistics) -> NDArray[np.float32]:
    """Return what a network takes of an image or a part of it.

    Args:
        pixels: (3, H, W) float32 in [0, 1]; (4, H, W) with the noise level.
        stats: statistics of the whole image.

    Returns:
        The same shape: the image normalized, the noise level as it is.
    """
    image = stats.apply(pixels[:CHANNELS])
    return image if len(pixels) == CHANNELS else np.concatenate([image, pixels[CHANNELS:]])
