"""Read images as training patches: random crops, turned and normalised. No torch here.

A patch is a function of (seed, step, sample), see `draws.py`. Images are decoded once before the first step, so that a
damaged file is reported at once and by its name. They stay in memory as stored (8 or 16 bits) within a budget.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgedenoise.datacheck.check import list_training_images, read_training_image
from edgedenoise.errors import DatasetError
from edgedenoise.imaging.files import to_unit
from edgedenoise.imaging.normalize import WHOLE_IMAGE, Normalization, Statistics
from edgedenoise.imaging.normalize import statistics as whole_statistics
from edgedenoise.progress import Progress, silent
from edgedenoise.training.data.draws import Stream, draw

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


PREVIEW_PX = 1_500_000
"""Largest number of pixels in a preview; of a larger image the middle is shown, with the statistics of the whole."""
_ENOUGH_TO_HOLD_OUT = 8


def split_held_out(paths: list[Path], count: int | Literal["auto"]) -> tuple[list[Path], list[Path]]:
    """Return the images to train on and those held out, evenly spread over the folder.

    Args:
        paths: all images.
        count: number of images to hold out; `auto` is a twentieth, at least one, of 8 or more images, and none of
            fewer.

    Raises:
        DatasetError: nothing would be left to train on.
    """
    if count == "auto":
        return split_held_out(paths, max(1, len(paths) // 20) if len(paths) >= _ENOUGH_TO_HOLD_OUT else 0)
    if count >= len(paths):
        raise DatasetError(
            f"held_out = {count} of {len(paths)} images leaves none to train on",
            hint="Hold out fewer, or none: --set held_out=0.",
        )
    if count == 0:
        return paths, []
    places = {index * len(paths) // count for index in range(count)}
    return (
        [path for index, path in enumerate(paths) if index not in places],
        [path for index, path in enumerate(paths) if index in places],
    )


class ImageFolder:
    """The images of one folder, or some of them."""

    paths: list[Path]
    """Files, sorted by name."""
    cached_bytes: int
    """Size of the decoded images in memory."""
    statistics: list[Statistics]
    """Statistics of each image when crops are normalised by those; else empty."""

    def __init__(
        self,
        folder: Path | str,
        *,
        patch: int,
        paths: list[Path] | None = None,
        statistics: Literal["patch", "photo"] = "patch",
        normalization: Normalization = WHOLE_IMAGE,
        cache_mb: int = 2048,
        progress: Progress = silent,
    ) -> None:
        """Read every image of `folder` once, and keep those that fit into `cache_mb` MiB.

        Args:
            folder: images lie directly in it; files whose ending is not an image's are passed over.
            patch: side of the crops in pixels.
            paths: images of the folder to take, one or more; None for all.
            statistics: what a crop is normalized by, itself or the image that it is from.
            normalization: how a crop is normalized.
            cache_mb: memory for decoded images; those beyond are decoded again for every crop.
            progress: called after each image.

        Raises:
            DatasetError: the folder does not exist or holds no images, or one of them cannot be read
                or is smaller than the patch.
        """
        self.folder, self.patch = Path(folder), patch
        self._normalization = normalization
        self.paths = list_training_images(self.folder) if paths is None else paths
        self.cached_bytes = 0
        self.statistics = []
        self._cache: dict[int, NDArray[Any]] = {}
        for index, path in enumerate(self.paths):
            progress("read images", index, len(self.paths), path.name)
            pixels = self._decode(path)
            if statistics == "photo":
                self.statistics.append(self._statistics_of(pixels))
            if self.cached_bytes + pixels.nbytes <= cache_mb << 20:
                self._cache[index] = pixels
                self.cached_bytes += pixels.nbytes
        progress("read images", len(self.paths), len(self.paths))

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.paths)

    def pixels(self, index: int) -> NDArray[Any]:
        """Return image `index` as stored: (H, W, 1 or 3), uint8 or uint16."""
        cached = self._cache.get(index)
        return self._decode(self.paths[index]) if cached is None else cached

    def crop(self, seed: int, step: int, sample: int, *, stream: Stream = Stream.CROP) -> NDArray[np.float32]:
        """Return patch `sample` of `step`: (3, patch, patch), normalized per channel.

        Every image is equally likely, then every position in it, then each of the 8 flips and turns. Normalized by
        itself, a patch has zero mean and, without a limit, unit deviation; the deviation has a floor of 1 / patch in
        units of the [0, 1] pixel range, as in the authors' code.
        """
        index, crop = self.cut(draw(seed, stream, step, sample), self.patch)
        numbers = self.statistics[index] if self.statistics else self._statistics_of(crop)
        return numbers.apply(unit_planes(crop))

    def cut(self, random: np.random.Generator, side: int) -> tuple[int, NDArray[Any]]:
        """Return a random image's index and a random square of it, turned at random: (side, side, C).

        Args:
            random: source of random numbers.
            side: side of the square in pixels, at most `patch`.
        """
        index = int(random.integers(len(self.paths)))
        pixels = self.pixels(index)
        top = int(random.integers(pixels.shape[0] - side + 1))
        left = int(random.integers(pixels.shape[1] - side + 1))
        turn = int(random.integers(8))
        return index, turned(pixels[top : top + side, left : left + side], turn)

    def batch(
        self, seed: int, step: int, samples: Iterable[int], *, stream: Stream = Stream.CROP
    ) -> NDArray[np.float32]:
        """Return the given patches of `step`: (samples, 3, patch, patch)."""
        return np.stack([self.crop(seed, step, sample, stream=stream) for sample in samples])

    def _statistics_of(self, pixels: NDArray[Any]) -> Statistics:
        """Return the mean and deviation of (H, W, C) pixels in units of the [0, 1] range."""
        return whole_statistics(unit_planes(pixels), self._normalization)

    def _decode(self, path: Path) -> NDArray[Any]:
        """Read one image and check that a patch fits into it."""
        pixels = read_training_image(self.folder, path).pixels
        height, width = pixels.shape[:2]
        if min(height, width) < self.patch:
            raise DatasetError(
                f"{path} is {width}x{height} pixels, smaller than the patch; "
                f"expected at least {self.patch} on each side",
                hint=f"Move {path.name} out of the folder, or train with a smaller patch.",
            )
        return pixels


def turned(pixels: NDArray[Any], turn: int) -> NDArray[Any]:
    """Return flip or turn 0 to 7 of (H, W, C) pixels, as a view."""
    pixels = np.rot90(pixels, turn % 4)
    return pixels[:, ::-1] if turn >= 4 else pixels


def middle(unit: NDArray[np.float32], most_px: int) -> NDArray[np.float32]:
    """Return (H, W, 3), or the middle of it in the same proportions with at most `most_px` pixels."""
    height, width = unit.shape[:2]
    share = min(1.0, math.sqrt(most_px / (height * width)))
    rows, columns = max(1, round(height * share)), max(1, round(width * share))
    top, left = (height - rows) // 2, (width - columns) // 2
    return unit[top : top + rows, left : left + columns]


def unit_planes(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """Return stored (H, W, C) pixels as the input of a network: (3, H, W) in [0, 1]."""
    return np.ascontiguousarray(to_unit(pixels).transpose(2, 0, 1))
