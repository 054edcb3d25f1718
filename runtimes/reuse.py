"""Reuse the previous output of a video where the image has not moved.

The image is divided into blocks. A block has moved where the mean of one of its cells has left the mean over the frames
before, or where its pixels differ from the last frame by more than noise. Blocks around it count as moved too, so that
the output of a block that stands still depends on nothing that moves.

- Moved blocks are denoised. They have exactly the pixels that they have without reuse.
- Blocks that stand still are denoised for `AVERAGED_FRAMES` frames, and their outputs are averaged, which removes more
  noise. After that the average is shown, and nothing is computed for them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgedenoise.imaging.similarity import cell_means

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from edgedenoise.imaging.tiling import Tiling
    from edgedenoise.noise.level import NoiseCurve

    Float = NDArray[np.float32]
    Region = tuple[slice, slice]
    Run = Callable[[slice, slice], NDArray[Any]]

BLOCK_PX: Final = 64
"""Least side of a block; the sides of all blocks are a multiple of it that is larger than the halo of the network."""
AVERAGED_FRAMES: Final = 8
"""Number of outputs that are averaged where the image stands still."""
_CELL_PX: Final = 8
_ENERGY_PX: Final = 16
_DISTANCE: Final = 6.0
"""Distance of the mean of a cell, over the distance of half of the cells, at which it has moved."""
_ENERGY: Final = 2.0
"""Energy of a difference over that of noise at which it is movement, for textures whose mean does not change."""
_LEAST: Final = 0.5 / 255
"""Smallest change that counts, half an 8-bit level."""
_CORRELATION: Final = 3.0
"""Deviation of the mean of a cell of camera noise over that of white noise, at most."""
_FORGET: Final = 1.02
"""Growth of the estimate of the noise per frame: it follows its smallest values, those of frames that stand still."""
_ALL: Final = 0.5
"""Share of blocks to compute from which the whole image is: margins cost as much as the rest saves."""


@dataclass
class _State:
    """What is known of the frames so far."""

    cells: Float
    """(rows, columns, 3): means of the cells over the frames that count."""
    luminance: Float
    """(H, W): the last frame."""
    frames: NDArray[np.int64]
    """(block rows, block columns): number of frames that count."""
    output: Float
    """(H, W, C), in the units of the frames."""
    typical: list[float] = field(default_factory=lambda: [1.0, 1.0])
    """Energy and distance of cells that stand still, over what was estimated from the image alone."""


class BlockReuse:
    """The outputs of the frames of one video, which are given in order.

    Args:
        tiling: what the network needs.
    """

    def __init__(self, tiling: Tiling) -> None:
        step = BLOCK_PX * tiling.multiple_of // np.gcd(BLOCK_PX, tiling.multiple_of)
        self._block_px = int(-(-max(tiling.margin_px, 1) // step) * step)
        self._margin_px = tiling.margin_px
        self._state: _State | None = None
        self.computed_share = 1.0
        """Share of the blocks that were computed for the last frame."""

    def reset(self) -> None:
        """Forget the frames before; the next one is denoised as a whole."""
        self._state = None

    def __call__(self, frame: NDArray[Any], curve: NoiseCurve, run: Run) -> NDArray[Any]:
        """Return the output for the next frame.

        Args:
            frame: (H, W, C) as it is stored: uint8, uint16, or floats in [0, 1].
            curve: noise of the frame.
            run: returns the output for a part of the frame, (h, w, C), of its rows and columns.

        Returns:
            (H, W, C) of the same type.
        """
        unit = np.asarray(frame, np.float32) / np.float32(np.iinfo(frame.dtype).max if frame.dtype.kind == "u" else 1)
        cells, luminance = cell_means(unit, _CELL_PX), unit.mean(axis=2)
        state = self._state
        if state is None or state.output.shape != frame.shape:
            frames = np.ones([-(-side // self._block_px) for side in luminance.shape], np.int64)
            answer = run(slice(0, frame.shape[0]), slice(0, frame.shape[1]))
            self._state = _State(cells, luminance, frames, answer.astype(np.float32))
            self.computed_share = 1.0
            return answer
        moved = _spread(self._moved(state, cells, luminance, curve))
        state.frames = np.where(moved, 1, np.minimum(state.frames + 1, AVERAGED_FRAMES + 1))
        wanted = state.frames <= AVERAGED_FRAMES
        share = np.where(wanted, 1 / state.frames, 0).astype(np.float32)
        # Where a block does not count, the reference stays, so that slow changes add up.
        state.cells = state.cells + self._of_cells(share, cells)[..., None] * (cells - state.cells)
        state.luminance = luminance
        self.computed_share = float(wanted.mean())
        weights = self._per_block(share, luminance.shape)[..., None]
        for rows, columns in self._regions(wanted, luminance.shape):
            answer = self._run_part(luminance.shape, rows, columns, run)
            before, weight = state.output[rows, columns], weights[rows, columns]
            state.output[rows, columns] = np.where(weight == 1, answer, before + weight * (answer - before))
        return _as_stored(state.output, frame.dtype)

    def _moved(self, state: _State, cells: Float, luminance: Float, curve: NoiseCurve) -> NDArray[np.bool_]:
        """Return which blocks have moved, (block rows, block columns)."""
        typical = state.typical
        # Half of the cells of most frames stand still, or else all of the image moves. The noise is what that half
        # shows, and at most as much as was estimated from the image alone.
        means = cell_means(cells, _ENERGY_PX // _CELL_PX).mean(axis=2)
        expected = 2 * np.square(curve.at(means)) + np.float32(_LEAST**2)
        energy = cell_means(np.square(luminance - state.luminance), _ENERGY_PX)[..., 0] / expected
        typical[0] = min(1.0, typical[0] * _FORGET, float(np.median(energy)))
        averaged = self._of_cells(state.frames, cells)
        change = (cells - state.cells) / np.sqrt(1 + 1 / averaged[..., None])
        distance = np.abs(change).max(axis=2)
        unit = _CORRELATION / _CELL_PX * curve.at(cells.mean(axis=2)) + np.float32(1e-6)
        typical[1] = min(1.0, typical[1] * _FORGET, float(np.median(distance / unit)))
        limit = _DISTANCE * typical[1] * unit
        # A slow change of light moves all cells a little: the mean of a block shows it before its cells do.
        cells_per_side = self._block_px // _CELL_PX
        drift = np.abs(cell_means(change, cells_per_side)).max(axis=2)
        has_drifted = drift > cell_means(limit, cells_per_side)[..., 0] / cells_per_side + 2 * _LEAST
        has_left = distance > np.maximum(limit, _LEAST)
        has_changed = energy > _ENERGY * typical[0] + _LEAST**2 / expected
        blocks = self._any_in_block(has_left, _CELL_PX) | self._any_in_block(has_changed, _ENERGY_PX)
        return np.asarray(blocks | has_drifted)

    def _of_cells(self, blocks: NDArray[Any], cells: Float) -> NDArray[Any]:
        """Return values of blocks at the cells in them."""
        repeats = self._block_px // _CELL_PX
        return blocks.repeat(repeats, axis=0).repeat(repeats, axis=1)[: cells.shape[0], : cells.shape[1]]

    def _any_in_block(self, cells: NDArray[np.bool_], cell_px: int) -> NDArray[np.bool_]:
        starts = [np.arange(0, side, self._block_px // cell_px) for side in cells.shape]
        rows = np.logical_or.reduceat(cells, starts[0], axis=0)
        blocks: NDArray[np.bool_] = np.logical_or.reduceat(rows, starts[1], axis=1)
        return blocks

    def _per_block(self, blocks: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """Return values of blocks at the pixels in them."""
        return blocks.repeat(self._block_px, axis=0).repeat(self._block_px, axis=1)[: shape[0], : shape[1]]

    def _regions(self, wanted: NDArray[np.bool_], shape: tuple[int, ...]) -> Iterator[Region]:
        """Yield the parts of the image to compute: the whole, or runs of blocks side by side."""
        if wanted.mean() > _ALL:
            yield slice(0, shape[0]), slice(0, shape[1])
            return
        side = self._block_px
        for row, blocks in enumerate(wanted):
            edges = np.flatnonzero(np.diff(np.concatenate([[0], blocks.astype(np.int8), [0]])))
            for start, stop in zip(edges[::2], edges[1::2], strict=True):
                yield (
                    slice(row * side, min((row + 1) * side, shape[0])),
                    slice(int(start) * side, min(int(stop) * side, shape[1])),
                )

    def _run_part(self, shape: tuple[int, ...], rows: slice, columns: slice, run: Run) -> Float:
        """Return the output of a part, computed with as much of the image around it as the network sees."""
        outer = [
            slice(max(0, part.start - self._margin_px), min(side, part.stop + self._margin_px))
            for part, side in zip((rows, columns), shape, strict=True)
        ]
        top, left = rows.start - outer[0].start, columns.start - outer[1].start
        inner = run(*outer)[top : top + rows.stop - rows.start, left : left + columns.stop - columns.start]
        return np.asarray(inner, np.float32)


def _as_stored(output: Float, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an output as another type; integers are rounded half up."""
    return np.asarray(output + np.float32(0.5) if dtype.kind == "u" else output).astype(dtype)


def _spread(blocks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the blocks and their eight neighbours."""
    padded = np.pad(blocks, 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    return np.asarray(windows.any(axis=(2, 3)), np.bool_)
