"""Draw crops from images at random; each image is decoded once, and one image is in memory at a time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from edgedenoise.calibration.crops import (
    CalibrationCrop,
    CropSource,
    Window,
    network_input,
    stored_statistics,
    window_of,
)
from edgedenoise.calibration.images import Duplicate, distinct_files
from edgedenoise.calibration.strata import (
    CANDIDATES_PER_CROP,
    Measures,
    Stratify,
    checked_stratify,
    choose_evenly,
    measure,
)
from edgedenoise.errors import UsageError
from edgedenoise.imaging.files import read_image
from edgedenoise.imaging.normalize import UNIT
from edgedenoise.imaging.tiling import Tiling
from edgedenoise.noise.synthesis import MAX_LEVEL
from edgedenoise.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edgedenoise.imaging.normalize import Normalization

    Box = tuple[int, int, int]
    """A square in an image: (y, x, side)."""

DEFAULT_COUNT = 128
"""On PolyU, 32 crops gave 0.3 dB less than 128, and 512 gave 0.05 dB more (docs/results/index.md)."""
DEFAULT_CROP_PX = 128
NO_MARGIN = Tiling(halo_px=0)
"""For crops as they are in the image, without context around them."""

_TRIES = 16  # for one crop, before it is dropped because every place is taken
_TRIES_BESIDE = 256  # the same, where other crops must not be touched
_WINDOW_BYTES = 128 << 20  # of windows that are kept; the images of a larger set are decoded again when it is measured


@dataclass(frozen=True)
class SetOptions:
    """How the crops of a set are drawn."""

    count: int = DEFAULT_COUNT
    """Number of crops, at least 1."""
    seed: int = 0
    """The same seed draws the same crops."""
    crop_px: int = DEFAULT_CROP_PX
    """Side of a crop in pixels; an image that is smaller is taken whole."""
    noise_levels: Sequence[float] = ()
    """Levels of the synthetic camera noise that is added, each 0 to `MAX_LEVEL`, one crop after another."""
    stratify: Stratify = "none"
    """`none` spreads the crops evenly over the images; `noise` draws four times as many, measures noise, brightness
    and texture of each, and chooses evenly from every kind that there is."""
    strengths: Sequence[float] = ()
    """Strengths that the noise level is multiplied by, for networks that take it, each with every noise level; none
    stand for 1."""

    def __post_init__(self) -> None:
        checked_stratify(self.stratify)
        if self.count < 1 or self.crop_px < 1:
            raise UsageError(f"a calibration set needs count >= 1 and crop >= 1, got {self.count} and {self.crop_px}")
        if not all(0 <= level <= MAX_LEVEL for level in self.noise_levels):
            raise UsageError(
                f"noise levels are out of range; expected 0 to {MAX_LEVEL}, got"
                f" {', '.join(map(str, self.noise_levels))}"
            )

    @property
    def candidates(self) -> int:
        """Number of crops that are drawn to choose from."""
        return self.count * (CANDIDATES_PER_CROP if self.stratify == "noise" else 1)


@dataclass
class Drawing:
    """Drawn crops, and their windows as they were decoded."""

    crops: list[CalibrationCrop] = field(default_factory=list)
    windows: list[Window] | None = field(default_factory=list)
    """One per crop; None where they would take too much memory."""
    duplicates: list[Duplicate] = field(default_factory=list)
    overlapping: int = 0
    """Crops that were dropped because their image had no other place left."""
    candidates: int = 0
    """Crops to choose from; 0 where all were taken."""


def draw(
    paths: Sequence[Path],
    most: int,
    options: SetOptions,
    normalization: Normalization,
    tiling: Tiling,
    *,
    takes_level: bool = False,
    avoid: Mapping[str, Sequence[Box]] | None = None,
    known_pixels: Collection[str] = (),
    rng: np.random.Generator,
    progress: Progress = silent,
) -> Drawing:
    """Draw crops, no two at the same place with the same noise, evenly over different images.

    Args:
        paths: images, in the order in which they are used.
        most: number of images to use.
        options: how to draw.
        normalization: the normalization of the network's input.
        tiling: halo and grid of the network.
        takes_level: whether the network takes the noise level.
        avoid: squares that no crop may overlap, by the SHA-256 of the image file.
        known_pixels: SHA-256 of the pixels of images that are left out.
        rng: the source of positions.
        progress: called after each image.

    Raises:
        ImageError: an image cannot be read.
    """
    artist = _Artist(options, normalization, tiling, avoid or {}, rng, takes_level=takes_level)
    duplicates = artist.drawing.duplicates
    files = distinct_files(paths, duplicates)
    queue = deque(islice(files, most))
    kept: list[tuple[Path, str, str]] = []
    seen = dict.fromkeys(known_pixels, "an image of another set")
    total = len(queue)
    while queue:
        path, sha256 = queue.popleft()
        image = read_image(path)
        pixels_sha256 = image.pixels_sha256
        if pixels_sha256 in seen:
            duplicates.append(Duplicate(path.name, sha256, seen[pixels_sha256], "pixels"))
            queue.extend(islice(files, 1))
        else:
            seen[pixels_sha256] = path.name
            kept.append((path, sha256, pixels_sha256))
            artist.draw_from(path, sha256, pixels_sha256, image.pixels, images_left=len(queue) + 1)
        del image  # before the next one is read
        progress("images", total - min(len(queue), total), total)
    if any(one.by == "pixels" for one in duplicates):  # the others give more instead
        for left, (path, sha256, pixels_sha256) in zip(range(len(kept), 0, -1), kept, strict=True):
            if artist.remaining:
                artist.draw_from(path, sha256, pixels_sha256, read_image(path).pixels, images_left=left)
    return artist.finished()


class _Artist:
    """Draws the crops of one image after another."""

    def __init__(
        self,
        options: SetOptions,
        normalization: Normalization,
        tiling: Tiling,
        avoid: Mapping[str, Sequence[Box]],
        rng: np.random.Generator,
        *,
        takes_level: bool,
    ) -> None:
        self.options, self.normalization, self.tiling, self.avoid, self.rng = options, normalization, tiling, avoid, rng
        self.takes_level = takes_level
        self.remaining = options.candidates
        self.drawing = Drawing()
        self._measures: list[Measures] = []
        self._taken: set[tuple[str, int, int, float | None]] = set()
        self._window_bytes = 0

    def draw_from(self, path: Path, sha256: str, pixels_sha256: str, pixels: NDArray[Any], *, images_left: int) -> None:
        """Draw an image's share of the remaining crops."""
        share = -(-self.remaining // images_left)
        source = CropSource(pixels, self.normalization, self.tiling, self.options.crop_px) if share else None
        avoided = self.avoid.get(sha256, ())
        for _ in range(share):
            place = self._place(sha256, pixels.shape[:2], avoided)
            if place is None:
                self.drawing.overlapping += 1
                if not avoided:  # what finds no place beside other crops may find one in the next image
                    self.remaining -= 1
                continue
            self.remaining -= 1
            crop = CalibrationCrop(path.name, sha256, *place, self._level, self._strength, pixels_sha256=pixels_sha256)
            if source is not None:
                self._keep(crop, source.window(crop, takes_level=self.takes_level), pixels)

    def finished(self) -> Drawing:
        """Return the drawing, with the crops of an image together, chosen from the candidates where there are some."""
        drawing, options = self.drawing, self.options
        first: dict[str, int] = {}
        for crop in drawing.crops:
            first.setdefault(crop.sha256, len(first))
        order = sorted(range(len(drawing.crops)), key=lambda i: first[drawing.crops[i].sha256])
        if options.stratify == "noise":
            drawing.candidates = len(order)
            chosen = choose_evenly([self._measures[i] for i in order], options.count, options.seed)
            order = [order[i] for i in chosen]
            for i in order:
                crop = drawing.crops[i]
                drawing.crops[i] = msgspec.structs.replace(
                    crop, draw=None if crop.noise_level is None else i, measured=self._measures[i]
                )
        drawing.crops = [drawing.crops[i] for i in order]
        if drawing.windows is not None:
            drawing.windows = [drawing.windows[i] for i in order]
        return drawing

    @property
    def _level(self) -> float | None:
        levels = self.options.noise_levels
        return levels[len(self.drawing.crops) % len(levels)] if levels else None

    @property
    def _strength(self) -> float | None:
        strengths, levels = self.options.strengths, self.options.noise_levels
        return strengths[len(self.drawing.crops) // max(1, len(levels)) % len(strengths)] if strengths else None

    def _place(self, sha256: str, sides: tuple[int, ...], avoided: Sequence[Box]) -> tuple[int, int] | None:
        """Return a free (y, x), or None when no try finds one."""
        side, step = self.options.crop_px, self.tiling.multiple_of
        for _ in range(_TRIES_BESIDE if avoided else _TRIES):
            y, x = (int(self.rng.integers(0, max(1, length - side + 1))) for length in sides)
            key = (sha256, y, x, self._level)
            if key in self._taken or any(_overlap((y, x, side), box, step) for box in avoided):
                continue
            self._taken.add(key)
            return y, x
        return None

    def _keep(self, crop: CalibrationCrop, window: Window, pixels: NDArray[Any]) -> None:
        index = len(self.drawing.crops)
        self.drawing.crops.append(crop)
        if self.options.stratify == "noise":
            plain = window_of(pixels, crop, self.options.crop_px, NO_MARGIN)
            unit = Window(plain, stored_statistics(plain, UNIT))
            self._measures.append(measure(network_input(unit, crop, self.options.seed, index)[0][0]))
        self._window_bytes += window.pixels.nbytes
        if self._window_bytes > _WINDOW_BYTES:
            self.drawing.windows = None
        if self.drawing.windows is not None:
            self.drawing.windows.append(window)


def _overlap(one: Box, other: Box, step: int) -> bool:
    """Return whether two squares share a pixel, both widened to a grid."""
    return all(
        a // step * step < b // step * step + -(-other[2] // step) * step
        and b // step * step < a // step * step + -(-one[2] // step) * step
        for a, b in zip(one[:2], other[:2], strict=True)
    )
