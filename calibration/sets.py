"""Calibration sets: which crops of which photographs, recorded so that the set can be rebuilt and audited.

A set holds hashes and positions, never pixels: it travels inside bundles, and photographs are private.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgedenoise.errors import CalibrationError, UsageError
from edgedenoise.files import sha256_of
from edgedenoise.noise import add_camera_noise, sample_noise
from edgedenoise.normalize import NormalizationKind, Statistics, statistics
from edgedenoise.photo import list_photos, read_photo
from edgedenoise.tiling import Tiling, reflected

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

DEFAULT_COUNT = 128
"""On PolyU, 32 crops gave away 0.3 dB more than 128, and 512 won 0.05 dB back (docs/results.md)."""
DEFAULT_CROP_PX = 128


class Crop(msgspec.Struct, frozen=True):
    """One crop: where it lies in which photograph."""

    photo: str
    """File name, without folders."""
    sha256: str
    """Of the photograph's file."""
    y: int
    x: int
    noise_level: float | None = None
    """Of the synthetic camera noise that is added, 0 to 1 (see `edgedenoise.noise`); None for none."""


class CalibrationSet(msgspec.Struct, frozen=True):
    """A list of crops, in the order in which they are read (all of one photograph together)."""

    seed: int
    crop_px: int
    """Side of the square that counts; the network is given a halo around it as well."""
    crops: list[Crop]

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        count: int = DEFAULT_COUNT,
        seed: int = 0,
        crop_px: int = DEFAULT_CROP_PX,
        noise_levels: Sequence[float] = (),
    ) -> CalibrationSet:
        """Draw `count` random crops, spread evenly over the photographs of a folder.

        Args:
            folder: noisy photographs, as noisy as those that will be denoised; clean ones with `noise_levels`.
            count: how many crops, at least 1.
            seed: the same seed draws the same crops.
            crop_px: side of a crop in pixels; a photograph that is smaller is taken whole.
            noise_levels: of the synthetic camera noise that is added, each 0 to 1, one crop after another.

        Raises:
            UsageError: `count` or `crop_px` is not positive, or a noise level is outside 0 to 1.
            CalibrationError: the folder holds no photographs.
            ImageError: a photograph cannot be read.
        """
        if count < 1 or crop_px < 1:
            raise UsageError(f"a calibration set needs count >= 1 and crop >= 1; received {count} and {crop_px}")
        if not all(0 <= level <= 1 for level in noise_levels):
            raise UsageError(f"noise levels {', '.join(map(str, noise_levels))} were received; accepted: each 0 to 1")
        photos = list_photos(folder)
        if not photos:
            raise CalibrationError(f"{folder} holds no photographs to calibrate on")
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(photos))
        shares = [count // len(photos) + (rank < count % len(photos)) for rank in range(len(photos))]
        crops: list[Crop] = []
        for index, share in zip(order, shares, strict=True):
            if share == 0:
                continue
            path = photos[index]
            height, width = read_photo(path).pixels.shape[:2]
            digest = sha256_of(path)
            for _ in range(share):
                y = int(rng.integers(0, max(1, height - crop_px + 1)))
                x = int(rng.integers(0, max(1, width - crop_px + 1)))
                level = noise_levels[len(crops) % len(noise_levels)] if noise_levels else None
                crops.append(Crop(path.name, digest, y, x, level))
        return cls(seed, crop_px, crops)

    @property
    def photographs(self) -> int:
        """How many different photographs the crops come from."""
        return len({crop.sha256 for crop in self.crops})

    def inputs(
        self, folder: Path, kind: NormalizationKind, tiling: Tiling
    ) -> Iterator[tuple[NDArray[np.float32], Statistics]]:
        """Yield what the network is given for each crop, (1, 3, h, w) with its halo, and the photograph's statistics.

        Normalised by the whole photograph, as the Denoiser does, with one photograph in memory at a time. With noise
        levels that is the clean one, so `kind` must be `unit`. Sides are multiples of `tiling.multiple_of`.

        Raises:
            CalibrationError: a photograph is missing from `folder` or is another one than was recorded.
        """
        current, pixels, stats = "", np.empty((3, 0, 0), np.float32), None
        for index, crop in enumerate(self.crops):
            if crop.photo != current or stats is None:
                pixels = _recorded_photo(folder / crop.photo, crop.sha256)
                stats = statistics(pixels, kind)
                current = crop.photo
            margin, step = tiling.margin_px, tiling.multiple_of
            _, height, width = pixels.shape
            y, x = crop.y // step * step, crop.x // step * step
            tall = -(-min(self.crop_px, height - y) // step) * step
            wide = -(-min(self.crop_px, width - x) // step) * step
            rows = reflected(y - margin, y + tall + margin, height)
            columns = reflected(x - margin, x + wide + margin, width)
            window = pixels[:, rows[:, None], columns[None, :]]
            if crop.noise_level is not None:
                window = _with_noise(window, crop.noise_level, np.random.default_rng([self.seed, index]))
            yield stats.apply(window)[None], stats


def _with_noise(planes: NDArray[np.float32], level: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return (3, h, w) in [0, 1] with the noise of some camera at a level."""
    noisy = add_camera_noise(planes.transpose(1, 2, 0), sample_noise(rng, level=level), rng)
    return np.ascontiguousarray(noisy.transpose(2, 0, 1))


def _recorded_photo(path: Path, digest: str) -> NDArray[np.float32]:
    if not path.is_file():
        raise CalibrationError(f"the calibration set names {path.name}, which is not in {path.parent}")
    if sha256_of(path) != digest:
        raise CalibrationError(
            f"{path} is not the photograph that the calibration set recorded",
            hint="calibrate again: edgedenoise calibrate B.edge --data DIR",
        )
    return np.ascontiguousarray(read_photo(path).unit().transpose(2, 0, 1))
