"""Choose crops evenly from strata of noise, brightness and texture.

Random crops are mostly of the commonest kind: a folder of daylight images gives a handful of dark or noisy crops, or
none. Here the range of each measure over the candidates is divided into equal parts, and every combination that occurs
gives as many crops as every other one, as far as it has them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from edgedenoise.errors import UsageError
from edgedenoise.imaging.tiling import reflected
from edgedenoise.noise.blocks import BLOCK_PX
from edgedenoise.noise.estimation import estimate_noise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Stratify = Literal["none", "noise"]
"""`none`: crops are chosen evenly over the images. `noise`: evenly over strata of candidates."""
MODES: tuple[Stratify, ...] = ("none", "noise")

CANDIDATES_PER_CROP = 4
_PARTS = (4, 3, 3)  # of noise, brightness, texture: 36 strata, most of which occur in some dozens of images
_CELL_PX = 8  # camera noise is nearly independent at this distance, so its mean over a cell hardly counts as texture
_FLOOR_LEVELS = 0.5  # below half a level, differences are rounding, which the logarithm must not magnify


class Measures(msgspec.Struct, frozen=True):
    """Noise, brightness and texture of a crop, all in 8-bit levels, 0 to 255."""

    noise: float
    """Root mean square, estimated (`edgedenoise.noise.estimation`)."""
    brightness: float
    """Mean over all pixels and channels."""
    texture: float
    """Root mean square contrast between the means of neighbouring 8 x 8 cells."""


def checked_stratify(name: str) -> Stratify:
    """Return a mode by its name.

    Raises:
        UsageError: there is no mode of that name.
    """
    for mode in MODES:
        if mode == name:
            return mode
    raise UsageError(f"crops cannot be stratified by {name!r}; expected one of {', '.join(MODES)}")


def measure(crop: NDArray[np.float32]) -> Measures:
    """Measure one crop, (3, h, w) in [0, 1]; one smaller than 16 x 16 is mirrored until it is as large."""
    _, height, width = crop.shape
    rows, columns = (reflected(0, max(side, BLOCK_PX), side) for side in (height, width))
    pixels = crop.transpose(1, 2, 0)[rows[:, None], columns[None, :]]
    cells = _cell_means(pixels.mean(axis=2) * 255)
    contrasts = np.concatenate([np.diff(cells, axis=axis).ravel() for axis in (0, 1)])
    texture = float(np.sqrt(np.mean(np.square(contrasts))))
    noise, brightness = estimate_noise(pixels).sigma, float(pixels.mean()) * 255
    return Measures(round(noise, 2), round(brightness, 2), round(texture, 2))


def choose_evenly(measured: Sequence[Measures], count: int, seed: int) -> list[int]:
    """Return the indices of `count` candidates (all, if there are fewer), spread evenly over strata, in order.

    Args:
        measured: the candidates.
        count: number of crops to choose.
        seed: the same seed chooses the same crops.
    """
    order = np.random.default_rng(seed).permutation(len(measured))
    strata = _strata(measured)
    met: dict[int, int] = {}
    rounds = []
    for index in order:
        stratum = int(strata[index])
        rounds.append(met.get(stratum, 0))
        met[stratum] = rounds[-1] + 1
    # In every round each stratum gives one crop while it has any; the last round is cut off at random.
    chosen = order[np.argsort(rounds, kind="stable")[:count]]
    return sorted(int(index) for index in chosen)


def _strata(measured: Sequence[Measures]) -> NDArray[np.intp]:
    """Return each candidate's stratum: its cell in equal parts of the range of each measure, (N,)."""
    values = np.array([[one.noise, one.brightness, one.texture] for one in measured], np.float64)
    values[:, [0, 2]] = np.log(values[:, [0, 2]] + _FLOOR_LEVELS)  # equal ratios become equal distances
    low, high = values.min(axis=0), values.max(axis=0)
    parts = np.array(_PARTS)
    place = (values - low) / np.maximum(high - low, 1e-9) * parts
    cells = np.minimum(place.astype(np.intp), parts - 1)
    return np.asarray(np.ravel_multi_index(tuple(cells.T), _PARTS))


def _cell_means(plane: NDArray[Any]) -> NDArray[Any]:
    rows, columns = (side // _CELL_PX for side in plane.shape)
    cut = plane[: rows * _CELL_PX, : columns * _CELL_PX]
    return np.asarray(cut.reshape(rows, _CELL_PX, columns, _CELL_PX).mean(axis=(1, 3)))
