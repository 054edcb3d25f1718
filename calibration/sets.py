"""Calibration sets: crops of images, recorded so that the set can be rebuilt and audited.

A set holds hashes and positions, never pixels: it travels inside bundles, and images are private.

Crops that quantization is judged on must not be those that its ranges were measured on. So calibration leaves out one
image in `HELD_OUT_EVERY`, and `draw_held_out` takes crops of images that calibration did not use. Where there are
none, it takes smaller crops from the parts of the other images that no calibration crop covers.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgedenoise.atomic import sha256_of
from edgedenoise.calibration.crops import CalibrationCrop, CropSource, Window, network_input
from edgedenoise.calibration.drawing import DEFAULT_COUNT, DEFAULT_CROP_PX, NO_MARGIN, Drawing, SetOptions, draw
from edgedenoise.calibration.images import Duplicate, Finder, images_of
from edgedenoise.calibration.strata import Stratify
from edgedenoise.errors import CalibrationError
from edgedenoise.imaging.files import read_image
from edgedenoise.imaging.normalize import UNIT
from edgedenoise.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgedenoise.imaging.normalize import Normalization, Statistics
    from edgedenoise.imaging.tiling import Tiling

HELD_OUT_EVERY = 8
"""Of this many images or more, calibration leaves one in this many to held-out crops."""

_log = logging.getLogger(__name__)


class CalibrationSet(msgspec.Struct, frozen=True):
    """A list of crops, in the order in which they are read (all of one image together)."""

    seed: int
    crop_px: int
    """Side of the square that counts; the network is given a halo around it as well."""
    crops: list[CalibrationCrop]
    stratify: Stratify = "none"
    """How the crops were chosen."""
    candidates: int = 0
    """Number of crops that were measured to choose from; 0 where all drawn crops were taken."""
    duplicates: list[Duplicate] = []
    """Images that were dropped because another one shows the same."""
    overlapping: int = 0
    """Crops (or candidates) that were dropped because their image had no other place left."""

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
        """Return `count` random crops of different images.

        An image with the same file or the same pixels as another one is dropped, and so is a crop that would lie
        exactly where another one (of the same noise level) does: there may be fewer than `count` then.

        Args:
            folder: images as noisy as those to be denoised, or clean ones with `noise_levels`; or a text file that
                lists them, see `images_of`.
            count: number of crops, at least 1.
            seed: the same seed draws the same crops.
            crop_px: side of a crop in pixels; an image that is smaller is taken whole.
            noise_levels: levels of the synthetic camera noise that is added, each 0 to `MAX_LEVEL`.
            stratify: see `SetOptions`.
            progress: called after each image.

        Returns:
            The set.

        Raises:
            UsageError: `count`, `crop_px`, a noise level or `stratify` is not accepted.
            CalibrationError: the folder or the list holds no images.
            ImageError: an image cannot be read.

        Example:
            >>> from edgedenoise import CalibrationSet
            >>> crops = CalibrationSet.from_folder("photos", count=16)
            >>> len(crops.crops)
            16
        """
        options = SetOptions(count, seed, crop_px, noise_levels, stratify)
        return draw_set(folder, options, progress=progress).crops

    @classmethod
    def of(cls, drawing: Drawing, options: SetOptions) -> CalibrationSet:
        """Return the record of a drawing."""
        return cls(
            options.seed,
            options.crop_px,
            drawing.crops,
            options.stratify,
            drawing.candidates,
            drawing.duplicates,
            drawing.overlapping,
        )

    @property
    def images(self) -> int:
        """Number of different images that the crops come from."""
        return len({crop.sha256 for crop in self.crops})

    @property
    def noise_levels(self) -> list[float]:
        """Levels of the added synthetic noise, ascending; empty for none."""
        return sorted({crop.noise_level for crop in self.crops if crop.noise_level is not None})

    def check(self, folder: Path, progress: Progress = silent) -> None:
        """Check, before long work, that every recorded image is in a folder or a list.

        Raises:
            CalibrationError: an image is missing or was changed; up to five are named.
        """
        finder = Finder(folder)
        recorded = list(dict.fromkeys((crop.image, crop.sha256) for crop in self.crops))
        lost: list[CalibrationError] = []
        names: list[str] = []
        for done, (name, sha256) in enumerate(recorded, 1):
            try:
                finder.path_of(name, sha256)
            except CalibrationError as error:
                lost.append(error)
                names.append(name)
            progress("images", done, len(recorded))
        if lost:
            more = f"; {len(lost)} of its {len(recorded)} images are missing or changed: " if lost[1:] else ""
            listed = ", ".join(names[:5]) + (", ..." if names[5:] else "") if more else ""
            raise CalibrationError(f"{lost[0].message}{more}{listed}", hint=lost[0].hint)

    def inputs(
        self, folder: Path, normalization: Normalization, tiling: Tiling, *, takes_level: bool = False
    ) -> Iterator[tuple[NDArray[np.float32], Statistics]]:
        """Yield what the network is given for each crop, (1, C, h, w) with its halo, and the image's statistics.

        Crops are normalized by the whole image, as the Denoiser does, with one image in memory at a time. With noise
        levels the image is the clean one, so the normalization must be `unit`. Sides are multiples of
        `tiling.multiple_of`.

        Args:
            folder: where the images are, or a list of them; a renamed one is found by its hash.
            normalization: the normalization of the network's input.
            tiling: halo and grid of the network.
            takes_level: whether the network takes the noise level. It is estimated on the whole noisy image; where
                noise is added to a clean crop, on the crop and its surroundings.

        Raises:
            CalibrationError: an image is missing from `folder` or was changed.
        """
        finder = Finder(folder)
        current, source = "", None
        for index, crop in enumerate(self.crops):
            if crop.sha256 != current or source is None:
                # Pixels stay as stored, and only crops become floats: an image would take four times the memory.
                source = None  # two whole images are never held at once
                pixels = read_image(finder.path_of(crop.image, crop.sha256)).pixels
                source = CropSource(pixels, normalization, tiling, self.crop_px)
                del pixels
                current = crop.sha256
            yield network_input(source.window(crop, takes_level=takes_level), crop, self.seed, index)


@dataclass(frozen=True)
class DrawnSet:
    """A set that was just drawn, with the windows of its crops: measuring it decodes no image again."""

    crops: CalibrationSet
    folder: Path
    normalization: Normalization
    tiling: Tiling
    windows: list[Window] | None
    """One per crop; None where they would take too much memory, and the images are decoded again."""
    takes_level: bool = False
    """Whether the network takes the noise level."""

    def inputs(self) -> Iterator[tuple[NDArray[np.float32], Statistics]]:
        """Yield what the network is given for each crop; see `CalibrationSet.inputs`."""
        if self.windows is None:
            yield from self.crops.inputs(self.folder, self.normalization, self.tiling, takes_level=self.takes_level)
            return
        for index, (crop, window) in enumerate(zip(self.crops.crops, self.windows, strict=True)):
            yield network_input(window, crop, self.crops.seed, index)

    def clean(self) -> Iterator[NDArray[np.float32]]:
        """Yield each crop with its margin, (3, h, w) in [0, 1], before noise is added to it."""
        plain = [msgspec.structs.replace(crop, noise_level=None) for crop in self.crops.crops]
        windows = None if self.windows is None else [window.in_unit() for window in self.windows]
        without = DrawnSet(msgspec.structs.replace(self.crops, crops=plain), self.folder, UNIT, self.tiling, windows)
        for x, _ in without.inputs():
            yield x[0]


def draw_set(
    folder: Path,
    options: SetOptions,
    normalization: Normalization = UNIT,
    tiling: Tiling = NO_MARGIN,
    *,
    takes_level: bool = False,
    hold_out: bool = False,
    progress: Progress = silent,
) -> DrawnSet:
    """Return a new set of random crops; see `CalibrationSet.from_folder`.

    Args:
        folder: images, or a text file that lists them; see `images_of`.
        options: how to draw.
        normalization: the normalization of the network's input.
        tiling: halo and grid of the network.
        takes_level: whether the network takes the noise level.
        hold_out: whether to leave out one image in `HELD_OUT_EVERY` for `draw_held_out`.
        progress: called after each image.

    Raises:
        CalibrationError: the folder or the list holds no images.
        ImageError: an image cannot be read.
    """
    paths = images_of(folder)
    rng = np.random.default_rng(options.seed)
    order = [paths[i] for i in rng.permutation(len(paths))]
    if hold_out and len(paths) >= HELD_OUT_EVERY:
        order = order[: len(paths) - len(paths) // HELD_OUT_EVERY]
    most = min(options.candidates, len(order))
    drawing = draw(order, most, options, normalization, tiling, takes_level=takes_level, rng=rng, progress=progress)
    for one in drawing.duplicates:
        _log.info("dropped %s: the same %s as %s", one.image, one.by, one.same_as)
    return DrawnSet(CalibrationSet.of(drawing, options), folder, normalization, tiling, drawing.windows, takes_level)


def draw_held_out(
    known: CalibrationSet,
    folder: Path,
    options: SetOptions,
    normalization: Normalization,
    tiling: Tiling,
    progress: Progress = silent,
    *,
    takes_level: bool = False,
) -> DrawnSet:
    """Return crops that share no pixel with those of a calibration set.

    Args:
        known: the calibration set.
        folder: images, or a text file that lists them. If calibration did not use some of them, under any name and
            in any format, only those are taken. Otherwise crops of half the side are taken from what calibration did
            not cover.
        options: how to draw.
        normalization: the normalization of the network's input.
        tiling: halo and grid of the network.
        progress: called after each image.
        takes_level: whether the network takes the noise level.

    Raises:
        CalibrationError: calibration has seen everything, or the folder cannot be used.
        ImageError: an image cannot be read.
    """
    avoid: dict[str, list[tuple[int, int, int]]] = {}
    for crop in known.crops:
        avoid.setdefault(crop.sha256, []).append((crop.y, crop.x, known.crop_px))
    names = {crop.image for crop in known.crops}
    dropped = {one.sha256 for one in known.duplicates}
    paths = images_of(folder)
    rng = np.random.default_rng(options.seed)
    order = [paths[i] for i in rng.permutation(len(paths))]
    unseen: list[Path] = []
    seen: list[Path] = []
    for path in sorted(order, key=lambda path: path.name in names):  # other names first: fewer files are hashed
        if len(unseen) == options.candidates:
            break
        sha256 = sha256_of(path)
        if sha256 in avoid:
            seen.append(path)
        elif sha256 not in dropped:
            unseen.append(path)
    pixels = {crop.pixels_sha256 for crop in known.crops}
    drawing = draw(
        unseen,
        len(unseen),
        options,
        normalization,
        tiling,
        takes_level=takes_level,
        known_pixels=pixels,
        rng=rng,
        progress=progress,
    )
    if not drawing.crops:  # smaller crops fit between those of calibration
        options = replace(options, crop_px=max(1, options.crop_px // 2))
        most = min(options.candidates, len(seen))
        drawing = draw(
            seen, most, options, normalization, tiling, takes_level=takes_level, avoid=avoid, rng=rng, progress=progress
        )
    found = len(drawing.crops)
    if not found:
        raise CalibrationError(
            f"calibration has seen every part of the images in {folder}, so nothing is left to measure on",
            hint="Give other images with --data, or calibrate on fewer crops with --count.",
        )
    if found < options.count and not unseen:
        _log.warning(
            "only %d of %d held-out crops were found: calibration has seen most of %s", found, options.count, folder
        )
    return DrawnSet(CalibrationSet.of(drawing, options), folder, normalization, tiling, drawing.windows, takes_level)
