"""Estimate the noise of an image by brightness, from that image alone (numpy only).

Blocks of 16x16 pixels are judged one by one: the energies of their frequency bands go through a small network, which
returns the logarithm of the noise's standard deviation and of its own error. The most certain blocks of the image then
give a curve by brightness (`level.NoiseCurve`), which a second network corrects by what the blocks have in common.

`level_estimator.npz` holds the weights. They were trained on 36 photos of `free_photos` with synthetic noise, and on
nothing else; docs/results/noise-level.md has the recipe.

`estimation.py` serves the data check, which asks another question: how far noise is correlated. Its level is two times
too high where noise is weak and the image is rich in texture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgedenoise.errors import ImageError
from edgedenoise.imaging.tiling import reflected
from edgedenoise.noise.level import NoiseCurve

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float = NDArray[np.float32]

BLOCK_PX: Final = 16
"""Side of a block in pixels, and the smallest side of an image that can be judged."""
_CELL_PX = 8  # of the cosine transform; a block has four
BANDS: Final = ((1, 2), (3, 4), (5, 7), (8, 10), (11, 14))
"""Frequency bands: smallest and largest sum of the two frequencies of an 8x8 cosine transform."""
_OPPONENT = np.array([[1, 1, 1], [1, 0, -1], [-0.5, 1, -0.5]], np.float64)
OPPONENT: Final = np.asarray(_OPPONENT / np.linalg.norm(_OPPONENT, axis=1, keepdims=True), np.float32)
"""Gray and two colour differences, each of length 1, so that white noise is equally strong in all of them."""
FLOOR: Final = 1e-7
"""Addition to energies before the logarithm; rounding to 8 bits has an energy of 1.3e-6."""
FEATURES: Final = 2 * 3 * len(BANDS) + 3 + 3 + 1
"""Number of features of a block: band energies, mean and least of the four cells; energy between cells; mean colour;
share of clipped samples."""
MOST_BLOCKS: Final = 2048
"""Largest number of blocks that are judged: of a larger image, every second, third ... row and column of blocks."""
SUREST_SHARE: Final = 0.25
"""Part of the blocks, the most certain ones, that give the level and the curve of an image."""
_LEVEL_QUANTILES = (0.1, 0.3, 0.5)
_BASE = 1  # the one of these that everything else is measured from
_SPREAD_QUANTILES = (0.05, 0.25, 0.5)
_ENERGY_QUANTILES = (0.05, 0.25)
IMAGE_FEATURES: Final = 2 * 3 + 3 + 2 * (3 * len(BANDS) + 3) + 1
"""Number of features of an image: quantiles of the answers and of the energies of its blocks."""

_WEIGHTS = Path(__file__).with_suffix(".npz")


@dataclass(frozen=True, eq=False)
class BlockLevels:
    """Answers for the blocks of an image, one number per block."""

    log_sigma: Float
    """Logarithm of the noise's standard deviation, with white as 1."""
    log_spread: Float
    """Logarithm of the expected error of `log_sigma`."""
    brightness: Float
    """Mean over the channels, 0 to 1."""
    energies: Float
    """(blocks, 18): logarithms of the energies of bands and between cells."""

    def surest(self, share: float) -> NDArray[np.bool_]:
        """Return which blocks belong to the most certain ones."""
        return np.asarray(self.log_spread <= np.quantile(self.log_spread, share))

    def summary(self) -> tuple[float, Float]:
        """Return the logarithm of the level of the most certain blocks, and the features of the image."""
        levels: list[float] = []
        for share in (SUREST_SHARE, 1.0):
            sure = self.surest(share)
            weight = np.exp(-2.0 * np.maximum(self.log_spread[sure], -3).astype(np.float64))
            levels += weighted_quantiles(self.log_sigma[sure], weight, _LEVEL_QUANTILES)
        base = levels[_BASE]
        energies = np.quantile(self.energies, _ENERGY_QUANTILES, axis=0).ravel() - 2 * base
        spreads = np.quantile(self.log_spread, _SPREAD_QUANTILES)
        others = [np.array(levels) - base, spreads, np.clip(energies, -12, 12), np.array([base])]
        return base, np.concatenate(others).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Perceptron:
    """A small network: layers of weights and biases with ReLU between them."""

    mean: Float
    """Mean of each input, which is subtracted."""
    deviation: Float
    """Deviation of each input, by which it is divided."""
    layers: list[tuple[Float, Float]]
    """Weights (outputs, inputs) and biases (outputs,) of each layer."""

    def __call__(self, x: Float) -> Float:
        """Map (..., inputs) to (..., outputs)."""
        x = (x - self.mean) / self.deviation
        for number, (weight, bias) in enumerate(self.layers):
            x = np.asarray(x @ weight.T + bias, np.float32)
            if number < len(self.layers) - 1:
                x = np.maximum(x, np.float32(0))
        return x


@dataclass(frozen=True, eq=False)
class LevelEstimator:
    """Judges the blocks of an image, and then the image by its blocks together.

    Example:
        >>> noisy = 0.5 + 0.05 * np.random.default_rng(0).standard_normal((128, 128, 3))
        >>> estimated = LevelEstimator.shipped().curve(noisy).at(0.5)
        >>> bool(0.04 < estimated < 0.06)
        True
    """

    block: Perceptron
    """Network from `FEATURES` numbers to the logarithms of sigma and of its error."""
    image: Perceptron | None = None
    """Network from `IMAGE_FEATURES` numbers to a correction of the logarithm of the level; None for no correction."""

    @classmethod
    def shipped(cls) -> LevelEstimator:
        """Return the estimator with the weights of this package; they are read once."""
        return _shipped()

    @classmethod
    def read(cls, path: Path | str) -> LevelEstimator:
        """Read the weights that `save` wrote."""
        with np.load(path) as file:

            def network(name: str) -> Perceptron:
                count = sum(key.startswith(f"{name}.weight") for key in file.files)
                layers = [(file[f"{name}.weight{i}"], file[f"{name}.bias{i}"]) for i in range(count)]
                return Perceptron(file[f"{name}.mean"], file[f"{name}.deviation"], layers)

            return cls(network("block"), network("picture") if "picture.mean" in file.files else None)

    def save(self, path: Path | str) -> None:
        """Write the weights to an NPZ file."""
        arrays: dict[str, Any] = {}
        for name, network in (("block", self.block), ("picture", self.image)):  # the names in files
            if network is not None:
                arrays |= {f"{name}.mean": network.mean, f"{name}.deviation": network.deviation}
                for i, (weight, bias) in enumerate(network.layers):
                    arrays |= {f"{name}.weight{i}": weight, f"{name}.bias{i}": bias}
        np.savez(path, **arrays)

    def blocks(self, unit: NDArray[Any]) -> BlockLevels:
        """Return the answers for at most `MOST_BLOCKS` blocks, evenly spread, of an image (H, W, 3) in [0, 1]."""
        found = features(spread_blocks(unit)).reshape(-1, FEATURES)
        answer = self.block(found)
        half = 3 * len(BANDS)
        energies = np.concatenate([found[:, :half], found[:, 2 * half : 2 * half + 3]], axis=1)
        return BlockLevels(answer[:, 0], answer[:, 1], np.asarray(found[:, -4:-1].mean(axis=-1), np.float32), energies)

    def curve(self, unit: NDArray[Any]) -> NoiseCurve:
        """Return the noise of an image by brightness.

        Args:
            unit: (H, W, 3) in [0, 1]; a side shorter than `BLOCK_PX` is mirrored up to a block, which then gives the
                level of the whole image.

        Raises:
            ImageError: the array has another shape, no pixels, or numbers that are not finite.
        """
        if unit.ndim != 3 or unit.shape[2] != 3 or not unit.size:
            sides = "x".join(map(str, unit.shape))
            raise ImageError(f"the noise level cannot be estimated: expected an array (H, W, 3), got {sides}")
        judged = spread_blocks(_at_least_a_block(unit))
        if not np.isfinite(judged).all():
            raise ImageError("the noise level cannot be estimated: expected finite pixels, got NaN or infinity")
        blocks = self.blocks(judged)
        log_level, summary = blocks.summary()
        if self.image is not None:
            log_level += float(self.image(summary)[0])
        sure = blocks.surest(SUREST_SHARE)
        shape = NoiseCurve.fitted(
            blocks.brightness[sure],
            np.exp(2.0 * (blocks.log_sigma[sure] - log_level)),
            np.full(int(sure.sum()), float(BLOCK_PX**2)),
        )
        mean = np.sqrt(np.mean(np.square(shape.at(blocks.brightness))))
        return shape.scaled(float(np.exp(log_level) / mean))


@lru_cache(maxsize=1)
def _shipped() -> LevelEstimator:
    return LevelEstimator.read(_WEIGHTS)


def _at_least_a_block(unit: NDArray[Any]) -> NDArray[Any]:
    """Return an image as it is, or mirrored until it has a block."""
    rows, columns = (reflected(0, max(side, BLOCK_PX), side) for side in unit.shape[:2])
    return unit if unit.shape[:2] == (len(rows), len(columns)) else unit[rows[:, None], columns[None, :]]


def weighted_quantiles(values: NDArray[Any], weight: NDArray[Any], quantiles: tuple[float, ...]) -> list[float]:
    """Return the values below which the given parts of all weights lie."""
    order = np.argsort(values)
    sums = np.cumsum(weight[order])
    places = np.searchsorted(sums, np.array(quantiles) * sums[-1])
    return [float(values[order[min(place, len(order) - 1)]]) for place in places]


def spread_blocks(unit: NDArray[Any]) -> NDArray[Any]:
    """Return an image (H, W, 3) as it is, or if it has more than `MOST_BLOCKS` blocks, a mosaic of part of them."""
    mosaic = BlockMosaic(unit.shape[0], unit.shape[1])
    mosaic.add(unit)
    return mosaic.unit


class BlockMosaic:
    """The blocks of an image that are judged, gathered while the image is read by bands of rows."""

    def __init__(self, height: int, width: int) -> None:
        self._rows, self._columns = height // BLOCK_PX, width // BLOCK_PX
        self._step = max(1, int(np.ceil(np.sqrt(self._rows * self._columns / MOST_BLOCKS))))
        self._next = 0
        self._parts: list[NDArray[Any]] = []

    def add(self, unit: NDArray[Any]) -> None:
        """Add the next rows (rows, W, 3); all but the last are a multiple of `BLOCK_PX`."""
        if self._step == 1:
            self._parts.append(unit)
            return
        first, count = self._next, len(unit) // BLOCK_PX
        self._next += count
        blocks = unit[: count * BLOCK_PX, : self._columns * BLOCK_PX].reshape(
            count, BLOCK_PX, self._columns, BLOCK_PX, 3
        )
        some = blocks[-first % self._step :: self._step, :, :: self._step]
        if len(some):
            self._parts.append(some.reshape(len(some) * BLOCK_PX, -1, 3))

    @property
    def unit(self) -> NDArray[Any]:
        """The whole image, or a mosaic of the blocks: (rows, columns, 3)."""
        return self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts)


def features(unit: NDArray[Any]) -> Float:
    """Return the features of each whole block of (H, W, 3): (rows, columns, `FEATURES`)."""
    unit = np.asarray(unit, np.float32)
    rows, columns = unit.shape[0] // BLOCK_PX, unit.shape[1] // BLOCK_PX
    unit = unit[: rows * BLOCK_PX, : columns * BLOCK_PX]
    cells = unit.reshape(rows, 2, _CELL_PX, columns, 2, _CELL_PX, 3).transpose(0, 3, 1, 4, 6, 2, 5)
    cells = cells.reshape(rows, columns, 4, 3, _CELL_PX * _CELL_PX)
    planes = np.einsum("pc,...ck->...pk", OPPONENT, cells, optimize=True)
    coefficients = planes @ cosine_transform().T
    energy = np.log(np.square(coefficients) @ band_sums() + np.float32(FLOOR))  # (rows, columns, 4, 3, bands)
    constant = coefficients[..., 0] / np.float32(_CELL_PX)  # mean of each cell
    between = np.log(constant.var(axis=2) + np.float32(FLOOR))
    if (unit[..., 0] == unit[..., 1]).all() and (unit[..., 1] == unit[..., 2]).all():
        energy, between = _with_colour_noise(energy, between)
    clipped = ((cells <= 0.5 / 255) | (cells >= 254.5 / 255)).mean(axis=(2, 3, 4), dtype=np.float32)
    parts = (
        energy.mean(axis=2).reshape(rows, columns, -1),
        energy.min(axis=2).reshape(rows, columns, -1),
        between,
        cells.mean(axis=(2, 4)),
        clipped[..., None],
    )
    return np.concatenate(parts, axis=-1).astype(np.float32)


def _with_colour_noise(energy: Float, between: Float) -> tuple[Float, Float]:
    """Return the energies of a gray image as those of a colour image with the same noise.

    Three equal channels have three times the noise of one in their mean, and none in their differences, which no colour
    image has. Colour differences hold little texture, so they are given what the highest frequencies of the gray plane
    have, in all bands.

    Args:
        energy: (rows, columns, 4, 3, bands), logarithms of the energies in bands.
        between: (rows, columns, 3), logarithms of the variances between cells.
    """
    gray = energy[:, :, :, :1] - np.float32(np.log(3))
    white = gray[..., -1:]
    between_gray = between[..., :1] - np.float32(np.log(3))
    mean_of_cells = np.float32(np.log(0.75 / _CELL_PX**2))  # variance of four means, of white noise
    between_white = white.mean(axis=2)[..., 0] + mean_of_cells
    colour, between_colour = np.minimum(gray, white), np.minimum(between_gray, between_white)
    return (
        np.concatenate([gray, colour, colour], axis=3),
        np.concatenate([between_gray, between_colour, between_colour], axis=-1),
    )


@lru_cache(maxsize=1)
def cosine_transform() -> Float:
    """Return the orthonormal 8x8 cosine transform: (64 coefficients, 64 pixels)."""
    n = np.arange(_CELL_PX)
    one = np.cos(np.pi * (2 * n[None] + 1) * n[:, None] / (2 * _CELL_PX)) * np.sqrt(2 / _CELL_PX)
    one[0] /= np.sqrt(2)
    return np.kron(one, one).astype(np.float32)


@lru_cache(maxsize=1)
def band_sums() -> Float:
    """Return the weight of each coefficient in the mean of each band: (64, bands)."""
    order = np.add.outer(np.arange(_CELL_PX), np.arange(_CELL_PX)).ravel()
    members = np.stack([(order >= low) & (order <= high) for low, high in BANDS], axis=1)
    return np.asarray(members / members.sum(axis=0), np.float32)
