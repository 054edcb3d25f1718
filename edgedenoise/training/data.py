"""Noisy photographs as training patches: random crops, turned and normalised. No torch here.

A patch is a function of (seed, step, sample), see `draws.py`. Photographs are decoded once, before the first
step, so that a bad file is told at once and by its name; they stay in memory as stored (8 or 16 bits) within
a budget.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgedenoise.errors import DatasetError, ImageError
from edgedenoise.normalize import Statistics
from edgedenoise.normalize import statistics as whole_statistics
from edgedenoise.photo import EXTENSIONS, list_photos, read_photo, to_unit
from edgedenoise.progress import Progress, silent
from edgedenoise.training.draws import Stream, draw

if TYPE_CHECKING:
    from numpy.typing import NDArray


class NoisyFolder:
    """The noisy photographs of one folder."""

    paths: list[Path]
    """Sorted by name."""
    cached_bytes: int
    """Decoded photographs held in memory."""

    def __init__(
        self,
        folder: Path | str,
        *,
        patch: int,
        statistics: Literal["patch", "photo"] = "patch",
        cache_mb: int = 2048,
        progress: Progress = silent,
    ) -> None:
        """Read every photograph of `folder` once, and keep what fits into `cache_mb` MiB.

        Args:
            folder: photographs lie directly in it; files whose ending is not a picture's are passed over.
            patch: side of the crops in pixels.
            statistics: what a crop is normalised by, itself or the photograph that it is from.
            cache_mb: memory for decoded photographs; those beyond are decoded again for every crop.
            progress: told of every photograph.

        Raises:
            DatasetError: the folder does not exist or holds no photographs, or one of them cannot be read
                or is smaller than the patch.
        """
        self.folder, self.patch = Path(folder), patch
        self.paths = list_photos(self.folder)
        self.cached_bytes = 0
        self._statistics: list[Statistics] = []  # of the photographs, when crops are normalised by those
        self._cache: dict[int, NDArray[Any]] = {}
        if not self.paths:
            raise DatasetError(
                f"{self.folder} holds no photographs{_what_else(self.folder)}; accepted: {', '.join(EXTENSIONS)}",
                hint="Name the folder in which the photographs lie directly; subfolders are not searched.",
            )
        for index, path in enumerate(self.paths):
            progress("read photographs", index, len(self.paths), path.name)
            pixels = self._decode(path)
            if statistics == "photo":
                self._statistics.append(_statistics_of(pixels))
            if self.cached_bytes + pixels.nbytes <= cache_mb << 20:
                self._cache[index] = pixels
                self.cached_bytes += pixels.nbytes
        progress("read photographs", len(self.paths), len(self.paths))

    def __len__(self) -> int:
        """Return the number of photographs."""
        return len(self.paths)

    def pixels(self, index: int) -> NDArray[Any]:
        """Return photograph `index` as stored: (H, W, 1 or 3), uint8 or uint16."""
        cached = self._cache.get(index)
        return self._decode(self.paths[index]) if cached is None else cached

    def crop(self, seed: int, step: int, sample: int) -> NDArray[np.float32]:
        """Return patch `sample` of `step`: (3, patch, patch), normalised per channel.

        Every photograph is equally likely, then every position in it, then each of the 8 flips and turns.
        By its own statistics a patch has zero mean and unit deviation, the deviation having a floor of 1 / patch
        in units of the [0, 1] pixel range, as in the authors' code.
        """
        random = draw(seed, Stream.CROP, step, sample)
        index = int(random.integers(len(self.paths)))
        pixels = self.pixels(index)
        top = int(random.integers(pixels.shape[0] - self.patch + 1))
        left = int(random.integers(pixels.shape[1] - self.patch + 1))
        turn = int(random.integers(8))
        crop = np.rot90(pixels[top : top + self.patch, left : left + self.patch], turn % 4)
        if turn >= 4:
            crop = crop[:, ::-1]
        numbers = self._statistics[index] if self._statistics else _statistics_of(crop)
        return numbers.apply(np.ascontiguousarray(to_unit(crop).transpose(2, 0, 1)))

    def batch(self, seed: int, step: int, size: int) -> NDArray[np.float32]:
        """Return patches 0 ... size - 1 of `step`: (size, 3, patch, patch)."""
        return np.stack([self.crop(seed, step, sample) for sample in range(size)])

    def _decode(self, path: Path) -> NDArray[Any]:
        """Read one photograph and make sure that a patch fits into it."""
        try:
            pixels = read_photo(path).pixels
        except ImageError as error:
            raise DatasetError(
                f"{self.folder} cannot be trained on: {error.message}",
                hint=f"Move {path.name} out of the folder or replace it. {error.hint or ''}".rstrip(),
            ) from error
        height, width = pixels.shape[:2]
        if min(height, width) < self.patch:
            raise DatasetError(
                f"{path} is {width}x{height} pixels, smaller than the patch; "
                f"accepted: at least {self.patch} on each side",
                hint=f"Move {path.name} out of the folder, or train with a smaller patch.",
            )
        return pixels


def _statistics_of(pixels: NDArray[Any]) -> Statistics:
    """Return the mean and deviation of (H, W, C) pixels in units of the [0, 1] range."""
    return whole_statistics(to_unit(pixels).transpose(2, 0, 1), "whole-image")


def _what_else(folder: Path) -> str:
    """Say what a folder without photographs does hold."""
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    if not names:
        return ": it is empty"
    return f", only {', '.join(names[:3])}" + (f" and {len(names) - 3} more" if len(names) > 3 else "")
