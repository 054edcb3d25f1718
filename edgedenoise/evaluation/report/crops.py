"""Choose and cut the crops of a report: those with the strongest noise, the finest detail or the worst INT8 error.

A crop is chosen among windows of all images. Windows that are nearly black or white are avoided, because nothing can be
seen in them, and a crop that overlaps one that was chosen before is passed over.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgedenoise.imaging.files import read_image
from edgedenoise.imaging.image import Image, from_unit
from edgedenoise.imaging.metrics import luma
from edgedenoise.imaging.pillow import to_pil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Float = NDArray[np.float32]

CROP_PX = 400
"""Largest side of a crop in pixels."""
BLOCK_PX = 16
"""Scores are computed per block of this side."""
_STEP_BLOCKS = 4
_DARK, _BRIGHT = 40 / 255, 225 / 255  # mean luma of a crop in which something can be seen
_DARKEST, _BRIGHTEST = 8 / 255, 250 / 255  # pixels beyond them show nothing
_CLIPPED_SHARE = 0.2


@dataclass(frozen=True)
class Source:
    """One image of a comparison and the files of its versions."""

    name: str
    noisy: Path
    float_result: Path | None
    """Result of the float reference."""
    integer_results: Mapping[str, Path]
    """Results of the quantized variants, by variant."""
    other_results: Mapping[str, Path]
    """Results of other variants, by variant."""
    truth: Path | None
    reference: str
    """Name of the float reference."""


@dataclass(frozen=True)
class Version:
    """One version of a crop."""

    label: str
    kind: str
    """`noisy`, `float`, `int8` or `truth`."""
    source: str
    """Lossless WebP as a data URI, so that the page is a single file."""


@dataclass(frozen=True)
class Crop:
    """The same place of one image in all versions."""

    title: str
    """For example `Strongest noise`."""
    why: str
    """Why this place was chosen, as a sentence."""
    image: str
    top: int
    left: int
    height: int
    width: int
    versions: tuple[Version, ...]

    def shown_first(self, recommended: str) -> tuple[int, int]:
        """Return the places of the versions that are shown beside the input: float, and INT8.

        Args:
            recommended: name of the variant that is shown where it is quantized; otherwise the first quantized one is.
        """
        middle = next((at for at, one in enumerate(self.versions) if one.kind == "float"), 0)
        quantized = [at for at, one in enumerate(self.versions) if one.kind == "int8"]
        right = next((at for at in quantized if self.versions[at].label == recommended), None)
        return middle, right if right is not None else quantized[0] if quantized else len(self.versions) - 1


@dataclass(frozen=True)
class _Window:
    score: float
    visible: bool
    source: Source
    top: int
    left: int
    height: int
    width: int

    def overlaps(self, other: _Window) -> bool:
        """Return whether more than a third of the smaller window is in both."""
        if self.source is not other.source:
            return False
        rows = min(self.top + self.height, other.top + other.height) - max(self.top, other.top)
        columns = min(self.left + self.width, other.left + other.width) - max(self.left, other.left)
        smaller = min(self.height * self.width, other.height * other.width)
        return rows > 0 and columns > 0 and rows * columns > smaller / 3


@dataclass(frozen=True)
class _Criterion:
    title: str
    why: str
    """With the place `{levels}` for the score in 8-bit levels."""
    peak: bool
    """Whether the worst block of a window decides; otherwise its mean."""
    energy: Callable[[_Pixels], Float | None]
    """Mean square per pixel, (H, W), in the unit range; None where the image does not have it."""


@dataclass(frozen=True)
class _Pixels:
    """The versions of one image, (H, W, 3) in [0, 1]."""

    noisy: Float
    reference: Float
    """Result of the float reference."""
    guide: Float
    """Ground truth, or the result of the float reference."""
    integers: tuple[Float, ...]


def choose_crops(sources: Iterable[Source]) -> list[Crop]:
    """Return the crops that show most, at most one per criterion.

    Args:
        sources: the images; each is read once here, and the chosen ones again.
    """
    found: list[list[_Window]] = [[] for _ in _CRITERIA]
    for source in sources:
        pixels = _read(source)
        for windows, criterion in zip(found, _CRITERIA, strict=True):
            energy = criterion.energy(pixels)
            if energy is not None:
                windows += _windows(source, energy, pixels.reference, peak=criterion.peak)
    chosen: list[tuple[_Criterion, _Window]] = []
    for criterion, windows in zip(_CRITERIA, found, strict=True):
        free = [window for window in windows if not any(window.overlaps(other) for _, other in chosen)]
        if free:
            chosen.append((criterion, max(free, key=lambda window: (window.visible, window.score))))
    return [_cut(criterion, window) for criterion, window in chosen]


def _int8_error(pixels: _Pixels) -> Float | None:
    if not pixels.integers:
        return None
    worst = np.max([_mean_square(one - pixels.reference) for one in pixels.integers], axis=0)
    return np.asarray(worst, np.float32)


def _noise(pixels: _Pixels) -> Float:
    return _mean_square(pixels.noisy - pixels.guide)


def _detail(pixels: _Pixels) -> Float:
    """Return the energy of second differences, which are large at the finest detail."""
    gray = luma(pixels.guide).astype(np.float32)
    padded = np.pad(gray, 1, mode="edge")
    across = padded[1:-1, :-2] + padded[1:-1, 2:] - 2 * gray
    down = padded[:-2, 1:-1] + padded[2:, 1:-1] - 2 * gray
    return np.asarray(np.minimum(np.abs(across), np.abs(down)) ** 2, np.float32)  # texture rather than long edges


_CRITERIA = (
    _Criterion(
        "Worst INT8 error",
        "INT8 is farthest from float here: {levels:.1f} levels (root mean square) in the worst 16x16 pixels.",
        peak=True,
        energy=_int8_error,
    ),
    _Criterion(
        "Strongest noise",
        "The noise is strongest here: {levels:.1f} levels (root mean square).",
        peak=False,
        energy=_noise,
    ),
    _Criterion(
        "Finest detail",
        "The finest texture is here: denoisers lose such detail first.",
        peak=False,
        energy=_detail,
    ),
)


def _windows(source: Source, energy: Float, reference: Float, *, peak: bool) -> list[_Window]:
    """Return windows of an image on a grid, with their scores."""
    height, width = energy.shape
    size = min(CROP_PX, height), min(CROP_PX, width)
    shape = tuple(-(-side // BLOCK_PX) for side in size)
    gray = luma(reference).astype(np.float32)
    clipped = ((gray <= _DARKEST) | (gray >= _BRIGHTEST)).astype(np.float32)
    scores, light, lost = (_by_window(_cells(plane), shape) for plane in (energy, gray, clipped))
    reduce = np.max if peak else np.mean
    score = np.sqrt(reduce(scores, axis=(2, 3))) * 255
    mean_light, mean_lost = light.mean(axis=(2, 3)), lost.mean(axis=(2, 3))
    visible = (mean_light >= _DARK) & (mean_light <= _BRIGHT) & (mean_lost <= _CLIPPED_SHARE)
    return [
        _Window(
            float(score[row, column]),
            bool(visible[row, column]),
            source,
            min(row * BLOCK_PX * _STEP_BLOCKS, height - size[0]),
            min(column * BLOCK_PX * _STEP_BLOCKS, width - size[1]),
            *size,
        )
        for row, column in np.ndindex(*score.shape)
    ]


def _by_window(cells: Float, shape: tuple[int, ...]) -> Float:
    """Return the cells of each window on a grid: (rows, columns, *shape)."""
    every = np.lib.stride_tricks.sliding_window_view(cells, shape)
    return every[::_STEP_BLOCKS, ::_STEP_BLOCKS]


def _cells(plane: Float) -> Float:
    """Return the means over blocks of 16x16 pixels; the last ones are smaller where the sides are no multiples."""
    rows, columns = (np.arange(0, side, BLOCK_PX) for side in plane.shape)
    sums = np.add.reduceat(np.add.reduceat(plane, rows, axis=0, dtype=np.float64), columns, axis=1)
    heights, widths = (np.diff([*starts, side]) for starts, side in zip((rows, columns), plane.shape, strict=True))
    return np.asarray(sums / np.outer(heights, widths), np.float32)


def _mean_square(error: Float) -> Float:
    return np.asarray(np.mean(error * error, axis=2), np.float32)


def _read(source: Source) -> _Pixels:
    noisy = read_image(source.noisy).unit()
    best = source.truth or source.float_result
    reference = noisy if source.float_result is None else read_image(source.float_result).unit()
    guide = reference if best is None else read_image(best).unit()
    integers = tuple(read_image(path).unit() for path in source.integer_results.values())
    return _Pixels(noisy, reference, guide, integers)


def _cut(criterion: _Criterion, window: _Window) -> Crop:
    source = window.source
    files = [("noisy input", "noisy", source.noisy)]
    if source.float_result is not None:
        files.append((source.reference, "float", source.float_result))
    files += [(name, "int8", path) for name, path in source.integer_results.items()]
    files += [(name, "float", path) for name, path in source.other_results.items()]
    if source.truth is not None:
        files.append(("ground truth", "truth", source.truth))
    return Crop(
        title=criterion.title,
        why=criterion.why.format(levels=window.score),
        image=source.name,
        top=window.top,
        left=window.left,
        height=window.height,
        width=window.width,
        versions=tuple(Version(label, kind, _data_uri(read_image(path), window)) for label, kind, path in files),
    )


def _data_uri(image: Image, window: _Window) -> str:
    rows, columns = slice(window.top, window.top + window.height), slice(window.left, window.left + window.width)
    stream = io.BytesIO()
    to_pil(Image(from_unit(image.unit()[rows, columns], np.uint8))).save(
        stream, "WEBP", lossless=True, quality=40, method=3
    )
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
