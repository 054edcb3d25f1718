"""Denoise an image as it is stored: its pixels become floats tile by tile, and its output is stored band by band.

One stored input and one stored output are in memory at most, and neither where both are files. What a network needs to
know about the whole image (statistics, noise, whether it is gray) is read in a pass before.
"""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedenoise.errors import DeviceMemoryError
from edgedenoise.imaging.hidden import HiddenColours
from edgedenoise.imaging.image import from_unit_as, is_gray, to_unit
from edgedenoise.imaging.normalize import IDENTITY, Statistics, statistics_of_rows
from edgedenoise.imaging.pixel_rows import BAND_ROWS, PixelRows, RowWindow, taken
from edgedenoise.runtimes import noise_plane
from edgedenoise.runtimes.pipeline import image_bands, network_input, session_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from edgedenoise.imaging.normalize import Normalization
    from edgedenoise.imaging.tiling import Tiling
    from edgedenoise.runtimes.checked import CheckedSession
    from edgedenoise.runtimes.noise_plane import ImageNoise

_log = logging.getLogger(__name__)
_CHUNK_SAMPLES = 1 << 18


@dataclass(frozen=True, eq=False)
class StoredImage:
    """The pixels of an image, and what is found in passes over them."""

    pixels: PixelRows
    """Colours or gray as they are stored."""
    visible: NDArray[np.bool_] | None = None
    """(H, W), True where a pixel is not fully transparent; None where all are visible."""
    known_gray: bool | None = None
    """Whether it is gray, where that is known: a part is gray where the whole image is."""

    @classmethod
    def of(cls, array: NDArray[Any], alpha: NDArray[Any] | None = None) -> StoredImage:
        """Return the image of an array (H, W) or (H, W, C) in memory."""
        return cls(PixelRows.of(array), None if alpha is None or alpha.all() else alpha > 0)

    @cached_property
    def is_gray(self) -> bool:
        """Whether its visible pixels have one channel, or three equal ones."""
        if self.known_gray is not None:
            return self.known_gray
        if self.pixels.channels == 1:
            return True
        top = 0
        for band in self.pixels.start(BAND_ROWS):
            if not is_gray(band, None if self.visible is None else self.visible[top : top + len(band)]):
                return False
            top += len(band)
        return True

    @cached_property
    def hidden(self) -> HiddenColours | None:
        """Colours of the pixels that are fully transparent; None where there are none."""
        if self.visible is None:
            return None
        window = self.pixels.window(BAND_ROWS)
        return HiddenColours.of(self.visible, lambda start, stop: to_unit(window.rows(start, stop)))

    def unit(self, stored: NDArray[Any], rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return stored pixels (h, w, C) at some rows and columns as float32 (h, w, 3) in [0, 1]."""
        unit = to_unit(stored)
        return unit if self.hidden is None else self.hidden.fill(unit, rows, columns)

    def unit_bands(self) -> Iterator[NDArray[np.float32]]:
        """Yield the image as float32 (rows, W, 3) in [0, 1], in bands of `BAND_ROWS` rows."""
        top, columns = 0, np.arange(self.pixels.width)
        for band in self.pixels.start(BAND_ROWS):
            yield self.unit(band, np.arange(top, top + len(band)), columns)
            top += len(band)

    def statistics(self, normalization: Normalization) -> Statistics:
        """Return the statistics that a normalization needs."""
        if self.pixels.dtype.kind != "u" or self.hidden is not None:
            return statistics_of_rows(self.unit_bands, normalization)
        white = float(np.iinfo(self.pixels.dtype).max)
        return statistics_of_rows(lambda: self.pixels.start(BAND_ROWS), normalization, white=white)

    def noise(self, stated_lsb: float | None) -> ImageNoise:
        """Return the noise that the user stated in 8-bit levels, or estimate it where that is None."""
        height, width = self.pixels.height, self.pixels.width
        if stated_lsb is not None:
            return noise_plane.stated_noise(stated_lsb, height, width)
        return noise_plane.noise_of_rows(self.unit_bands(), height, width)


@dataclass(frozen=True, eq=False)
class ImageRun:
    """One image on its way through a network."""

    image: StoredImage
    session: CheckedSession
    tiling: Tiling
    stats: Statistics = IDENTITY
    noise: ImageNoise | None = None
    """Noise of the image, for a network that takes its level."""
    strength: float = 1.0
    """How much of the noise to remove."""
    on_tile: Callable[[int, int], None] | None = None
    """Called with (done, total) after each tile."""

    def bands(self, tile: int, smaller: Callable[[int, int], int] | None = None) -> Iterator[NDArray[Any]]:
        """Denoise the image, and yield it as it is stored, in bands (rows, W, C) from top to bottom.

        Args:
            tile: largest side of a tile.
            smaller: returns the tile to go on with after one did not fit into memory, of the rows that are left and
                that tile; None to raise.

        Raises:
            DeviceMemoryError: a tile does not fit into memory.
        """
        top, height, width = 0, self.image.pixels.height, self.image.pixels.width
        plan = session_plan(self.session, height, width, self.tiling, tile)
        window = self.image.pixels.window(plan.tile_height)
        while True:
            try:
                bands = image_bands(self.session, plan, _Cut(self, window), self.on_tile)
                with closing(bands):
                    for band in bands:
                        stored = self._stored(band, window, top)
                        del band  # not held while the next one is filled
                        yield stored
                        top += len(stored)
                        window.drop(plan.needed_from(top))
            except (DeviceMemoryError, MemoryError):
                if smaller is None:
                    raise
                tile = smaller(height - top, tile)
                _log.info("out of memory: the rows from %d on are denoised with tiles of %d pixels", top, tile)
                plan = session_plan(self.session, height, width, self.tiling, tile, top=top)
            else:
                return

    def unchanged(self) -> Iterator[NDArray[Any]]:
        """Yield the image as `bands` does, without the network."""
        top = 0
        for stored in self.image.pixels.start(BAND_ROWS):
            yield self._as_stored(self._unit(stored, top), stored, top)
            top += len(stored)

    def _stored(self, band: NDArray[np.float32], window: RowWindow, top: int) -> NDArray[Any]:
        """Return the output of the network for some rows, (3, rows, W), as the image is stored."""
        count, width = band.shape[1:]
        before = window.rows(top, top + count)
        result = np.empty_like(before)
        rows = max(1, _CHUNK_SAMPLES // width)
        for start in range(0, count, rows):  # chunks stay in the cache, and no second copy of the band is made
            part = slice(start, start + rows)
            unit = self.stats.undo(band[:, part]).transpose(1, 2, 0)
            if self.noise is None and self.strength != 1:
                given = self._unit(before[part], top + start)
                unit = given + np.float32(self.strength) * (unit - given)
            result[part] = self._as_stored(unit, before[part], top + start)
        return result

    def _unit(self, stored: NDArray[Any], top: int) -> NDArray[np.float32]:
        """Return stored rows from row `top` on as floats."""
        return self.image.unit(stored, np.arange(top, top + len(stored)), np.arange(stored.shape[1]))

    def _as_stored(self, unit: NDArray[np.float32], before: NDArray[Any], top: int) -> NDArray[Any]:
        """Return floats as stored rows from row `top` on; hidden pixels are as they were before."""
        pixels, visible = self.image.pixels, self.image.visible
        after = from_unit_as(unit, pixels.dtype, pixels.channels, gray=self.image.is_gray)
        return after if visible is None else np.where(visible[top : top + len(after), :, None], after, before)


class _Cut:
    """Cuts the inputs of a network out of a pass over an image."""

    def __init__(self, run: ImageRun, window: RowWindow) -> None:
        self._run, self._window = run, window
        self._plane: tuple[int, NDArray[np.float32]] | None = None

    def __call__(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the input (C, h, w) at some rows and columns."""
        first, last = int(rows.min()), int(rows.max())
        held = self._window.rows(first, last + 1)
        stored = taken(taken(held, rows - first, 0), columns, 1)
        planes = self._run.image.unit(stored, rows, columns).transpose(2, 0, 1)
        if self._run.noise is not None:
            level = taken(taken(self._plane_of(first, last + 1), rows - first, 0), columns, 1)
            planes = noise_plane.with_plane(planes, level)
        return network_input(planes, self._run.stats)

    def _plane_of(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the noise level of some rows; it is kept for the other tiles in these rows."""
        noise = self._run.noise
        if noise is None:
            raise ValueError("this network takes no noise level")
        if self._plane is None or self._plane[0] != start or len(self._plane[1]) != stop - start:
            self._plane = start, noise.plane_of(start, stop, self._run.strength)
        return self._plane[1]
