"""Calibration sets: which crops of which images, recorded so that the set can be rebuilt and audited.

A set holds hashes and positions, never pixels: it travels inside bundles, and images are private.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgedenoise.calibration.images import (
    Duplicate,
    Finder,
    Photograph,
    different_photographs,
    photographs_of,
)
from edgedenoise.calibration.strata import (
    CANDIDATES_PER_CROP,
    Measures,
    Stratify,
    checked_stratify,
    choose_evenly,
    measure,
)
from edgedenoise.errors import CalibrationError, UsageError
from edgedenoise.imaging.files import read_image, to_unit
from edgedenoise.imaging.normalize import NormalizationKind, Statistics, statistics
from edgedenoise.imaging.tiling import Tiling, reflected
from edgedenoise.noise.synthesis import MAX_LEVEL, add_camera_noise, sample_noise
from edgedenoise.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

DEFAULT_COUNT = 128
"""On PolyU, 32 crops gave away 0.3 dB more than 128, and 512 won 0.05 dB back (docs/results/index.md)."""
DEFAULT_CROP_PX = 128

_DRAWS = 16  # for one crop, before it is given up because every place was taken
_log = logging.getLogger(__name__)


class Crop(msgspec.Struct, frozen=True, omit_defaults=True):
    """One crop: where it lies in which image."""

    photo: str
    """File name, without folders."""
    sha256: str
    """Of the image's file."""
    y: int
    x: int
    noise_level: float | None = None
    """Of the synthetic camera noise that is added, 0 to 1.25 (see `edgedenoise.noise.synthesis`); None for none."""
    draw: int | None = None
    """Which draw of that noise: a chosen crop keeps the one it was measured with. None: its place in the set."""
    measured: Measures | None = None
    """What it was chosen by; None where crops were not stratified."""


class CalibrationSet(msgspec.Struct, frozen=True):
    """A list of crops, in the order in which they are read (all of one image together)."""

    seed: int
    crop_px: int
    """Side of the square that counts; the network is given a halo around it as well."""
    crops: list[Crop]
    stratify: Stratify = "none"
    """How the crops were chosen."""
    candidates: int = 0
    """How many were drawn and measured to choose from; 0 where all that were drawn were taken."""
    duplicates: list[Duplicate] = []
    """Images that were dropped because another one shows the same."""
    overlapping: int = 0
    """Crops (candidates, where there are any) that were dropped because their image had no other place left."""

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        count: int = DEFAULT_COUNT,
        seed: int = 0,
        crop_px: int = DEFAULT_CROP_PX,
        noise_levels: Sequence[float] = (),
        *,
        stratify: Stratify = "none",
        progress: Progress = silent,
    ) -> CalibrationSet:
        """Draw `count` random crops of different images.

        Images of which another one has the same file or the same pixels are dropped, and so are crops that lie
        exactly where another one (of equal noise level) does: there may be fewer than `count` then.

        Args:
            folder: noisy images, as noisy as those that will be denoised; clean ones with `noise_levels`. Or a
                text file that lists them, see `photographs_of`.
            count: how many crops, at least 1.
            seed: the same seed draws the same crops.
            crop_px: side of a crop in pixels; an image that is smaller is taken whole.
            noise_levels: of the synthetic camera noise that is added, each 0 to `MAX_LEVEL`, one crop after another.
            stratify: `none` spreads the crops evenly over the images; `noise` draws four times as many, measures
                noise, brightness and texture of each, and chooses evenly from every kind that there is.
            progress: told of every image that is read and every candidate that is measured.

        Raises:
            UsageError: `count` or `crop_px` is not positive, a noise level is outside 0 to `MAX_LEVEL`, or there is
                no such way to stratify.
            CalibrationError: the folder or the list holds no images.
            ImageError: an image cannot be read.
        """
        if count < 1 or crop_px < 1:
            raise UsageError(f"a calibration set needs count >= 1 and crop >= 1; received {count} and {crop_px}")
        if not all(0 <= level <= MAX_LEVEL for level in noise_levels):
            raise UsageError(
                f"noise levels {', '.join(map(str, noise_levels))} were received; accepted: each 0 to {MAX_LEVEL}"
            )
        wanted = count * (CANDIDATES_PER_CROP if checked_stratify(stratify) == "noise" else 1)
        paths = photographs_of(folder)
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(paths))
        photographs, duplicates = different_photographs([paths[i] for i in order], wanted, progress)
        crops, overlapping = _draw(photographs, wanted, crop_px, noise_levels, rng)
        drawn = cls(seed, crop_px, crops, duplicates=duplicates, overlapping=overlapping)
        for one in duplicates:
            _log.info("dropped %s: the same %s as %s", one.photo, one.by, one.same_as)
        return drawn if stratify == "none" else drawn._stratified(folder, count, progress)

    @property
    def photographs(self) -> int:
        """How many different images the crops come from."""
        return len({crop.sha256 for crop in self.crops})

    @property
    def noise_levels(self) -> list[float]:
        """The levels of synthetic noise that are added, ascending; empty for none."""
        return sorted({crop.noise_level for crop in self.crops if crop.noise_level is not None})

    def check(self, folder: Path, progress: Progress = silent) -> None:
        """Make sure, before long work, that every recorded image is in a folder or a list.

        Raises:
            CalibrationError: one is missing or has been changed; up to five such are named.
        """
        finder = Finder(folder)
        recorded = list(dict.fromkeys((crop.photo, crop.sha256) for crop in self.crops))
        lost: list[CalibrationError] = []
        names: list[str] = []
        for done, (photo, sha256) in enumerate(recorded, 1):
            try:
                finder.path_of(photo, sha256)
            except CalibrationError as error:
                lost.append(error)
                names.append(photo)
            progress("photographs", done, len(recorded))
        if lost:
            more = f"; {len(lost)} of its {len(recorded)} images are missing or changed: " if lost[1:] else ""
            listed = ", ".join(names[:5]) + (", ..." if names[5:] else "") if more else ""
            raise CalibrationError(f"{lost[0].message}{more}{listed}", hint=lost[0].hint)

    def inputs(
        self, folder: Path, kind: NormalizationKind, tiling: Tiling
    ) -> Iterator[tuple[NDArray[np.float32], Statistics]]:
        """Yield what the network is given for each crop, (1, 3, h, w) with its halo, and the image's statistics.

        Normalised by the whole image, as the Denoiser does, with one image in memory at a time. With noise
        levels that is the clean one, so `kind` must be `unit`. Sides are multiples of `tiling.multiple_of`.

        Args:
            folder: where the images are, or a list of them; one that was renamed is found by its hash.
            kind: how the network wants its input.
            tiling: its halo and grid.

        Raises:
            CalibrationError: an image is missing from `folder` or is another one than was recorded.
        """
        finder = Finder(folder)
        current, stats = "", None
        pixels: NDArray[Any] = np.empty((0, 0, 3), np.uint8)
        for index, crop in enumerate(self.crops):
            if crop.sha256 != current or stats is None:
                # Pixels stay as stored, and only crops become floats: an image would take four times the memory.
                pixels = pixels[:0].copy()  # two whole ones are never held at once
                pixels = read_image(finder.path_of(crop.photo, crop.sha256)).pixels
                stats = _statistics(pixels, kind)
                current = crop.sha256
            margin, step = tiling.margin_px, tiling.multiple_of
            height, width = pixels.shape[:2]
            y, x = crop.y // step * step, crop.x // step * step
            tall = -(-min(self.crop_px, height - y) // step) * step
            wide = -(-min(self.crop_px, width - x) // step) * step
            rows = reflected(y - margin, y + tall + margin, height)
            columns = reflected(x - margin, x + wide + margin, width)
            window = _planes(pixels[rows[:, None], columns[None, :]])
            if crop.noise_level is not None:
                draw = index if crop.draw is None else crop.draw
                window = _with_noise(window, crop.noise_level, np.random.default_rng([self.seed, draw]))
            yield stats.apply(window)[None], stats

    def _stratified(self, folder: Path, count: int, progress: Progress) -> CalibrationSet:
        """Return `count` of the crops, evenly over strata of what they look like."""
        measured: list[Measures] = []
        for x, _ in self.inputs(folder, "unit", Tiling(halo_px=0)):
            measured.append(measure(x[0]))
            progress("candidates", len(measured), len(self.crops))
        chosen = [
            msgspec.structs.replace(
                self.crops[i], draw=None if self.crops[i].noise_level is None else i, measured=measured[i]
            )
            for i in choose_evenly(measured, count, self.seed)
        ]
        return msgspec.structs.replace(self, crops=chosen, stratify="noise", candidates=len(measured))


def _draw(
    photographs: Sequence[Photograph],
    count: int,
    crop_px: int,
    noise_levels: Sequence[float],
    rng: np.random.Generator,
) -> tuple[list[Crop], int]:
    """Draw crops, no two alike, evenly over the images; return also how many were given up."""
    crops: list[Crop] = []
    dropped = 0
    for rank, photo in enumerate(photographs):
        taken: set[tuple[int, int, float | None]] = set()
        for _ in range(count // len(photographs) + (rank < count % len(photographs))):
            level = noise_levels[len(crops) % len(noise_levels)] if noise_levels else None
            for _ in range(_DRAWS):
                y = int(rng.integers(0, max(1, photo.height - crop_px + 1)))
                x = int(rng.integers(0, max(1, photo.width - crop_px + 1)))
                if (y, x, level) not in taken:
                    taken.add((y, x, level))
                    crops.append(Crop(photo.path.name, photo.sha256, y, x, level))
                    break
            else:
                dropped += 1
    return crops, dropped


def _planes(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """Return stored pixels, (H, W, C), as (3, H, W) in [0, 1]."""
    return np.ascontiguousarray(to_unit(pixels).transpose(2, 0, 1))


def _statistics(pixels: NDArray[Any], kind: NormalizationKind) -> Statistics:
    """Return the statistics of stored pixels, (H, W, C), without making floats of all of them."""
    white = np.iinfo(pixels.dtype).max if np.issubdtype(pixels.dtype, np.integer) else 1
    return statistics(np.broadcast_to(pixels, (*pixels.shape[:2], 3)).transpose(2, 0, 1), kind, white=white)


def _with_noise(planes: NDArray[np.float32], level: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return (3, h, w) in [0, 1] with the noise of some camera at a level."""
    noisy = add_camera_noise(planes.transpose(1, 2, 0), sample_noise(rng, level=level), rng)
    return np.ascontiguousarray(noisy.transpose(2, 0, 1))
