"""Clean images with synthetic camera noise: tiles, the noise level at every pixel, and the patches cut from tiles.

A patch is cropped and turned after the noise was added: a mosaic and the blocks of JPEG can begin anywhere, and a
network that halves the image would otherwise memorise one position (5 dB on real noise).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from edgedenoise.imaging.files import to_unit
from edgedenoise.noise.cameras import BLACK_HEADROOM, CoarseNoise, InCameraDenoising
from edgedenoise.noise.level import level_plane, true_curve
from edgedenoise.noise.synthesis import JPEG_QUALITY_HIGH, JPEG_QUALITY_LOW, add_camera_noise, sample_noise
from edgedenoise.training.data.patches import turned

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgedenoise.noise.cameras import NoiseParameters
    from edgedenoise.noise.level_estimator import LevelEstimator
    from edgedenoise.training.config.config import SupervisedConfig
    from edgedenoise.training.data.patches import ImageFolder

    Float = NDArray[np.float32]

OFFSETS: Final = 8
"""Positions per axis at which a patch can begin in the blocks of JPEG and in the mosaic."""
DEVELOPMENTS: Final = {"matrix": (0.0, 1.0), "malvar": (0.0, 1.2), "contrast": (0.0, 1.0)}
"""Range of each step of raw development, wider than that of the cameras in `noise.synthesis`: a network that knows only
those fails on others, for example on one with gamma in place of a tone curve."""
COARSE_GRAIN_PX: Final = (3.0, 6.0)
"""Range of the size of grains of coarse noise, in pixels."""
COARSE_GRAY: Final = 2 / 3
"""Part of the energy of coarse noise that is the same in all channels."""
DENOISED_GRAY_PX: Final = (0.35, 1.3)
"""Range of the width of a camera's smoothing of brightness, in pixels."""
DENOISED_COLOUR_PX: Final = (0.7, 2.6)
"""Range of the width of a camera's smoothing of colour, in pixels."""
DENOISED_TEXTURE: Final = (0.5, 3.0)
"""Range of the contrast of texture that a camera's smoothing spares, as a multiple of the noise."""
BLACK_CUT: Final = 0.02
"""Largest value that is cut off from shadows, as a share of white in linear light."""

_GAMMA = 2.2  # of the light in which shadows are cut off; linear light is needed only roughly


@dataclass(frozen=True)
class NoisyTile:
    """A square of a clean image with noise, from which patches are cut."""

    noisy: Float
    """(side, side, 3) in [0, 1]."""
    clean: Float
    """(side, side, 3) in [0, 1]."""
    level: Float | None
    """Level plane (side, side) in [0, 1]; None for a network without one."""
    level_jitter: float
    """Standard deviation of the logarithm of the error that the level of a patch gets: 0 for an estimated level, which
    has errors of its own."""


def draw_pair(
    photos: ImageFolder, config: SupervisedConfig, random: np.random.Generator, *, has_level: bool
) -> tuple[Float, Float]:
    """Return a random patch with noise of its own: (noisy, clean), (3 + level planes, P, P) and (3, P, P).

    Args:
        photos: clean images.
        config: settings of the noise.
        random: only source of randomness.
        has_level: whether the network has a level plane.
    """
    tile = draw_tile(photos, config, random, side=config.patch + OFFSETS, has_level=has_level)
    return cut_pair(tile, config.patch, random, positions=OFFSETS)


def draw_tile(
    photos: ImageFolder,
    config: SupervisedConfig,
    random: np.random.Generator,
    *,
    side: int,
    has_level: bool,
    estimator: LevelEstimator | None = None,
) -> NoisyTile:
    """Return a random tile with noise.

    Downscaled images are sharper than what a camera records; magnified by up to `magnify`, they have every sharpness.
    Half of the tiles are darkened, down to `darken`, because noise depends on the light.

    Args:
        photos: clean images.
        config: settings of the noise.
        random: only source of randomness.
        side: side of the tile in pixels.
        has_level: whether the network has a level plane.
        estimator: gives the level of `estimated_level_share` of the tiles; None for the true level of all.
    """
    _, crop = photos.cut(random, max(1, round(side / random.uniform(1, config.magnify))))
    clean = _resized(to_unit(crop), side)
    darker, how_much = random.random(2)
    if darker < 0.5:
        clean = clean * np.float32(config.darken + how_much * (1 - config.darken))
    level = config.noise_low + random.random() ** config.noise_power * (config.noise_high - config.noise_low)
    parameters = sample_noise(random, level=level, jpeg=bool(random.random() < config.jpeg_share))
    matrix, malvar, contrast = (float(random.uniform(*DEVELOPMENTS[key])) for key in ("matrix", "malvar", "contrast"))
    parameters = replace(parameters, matrix=matrix, malvar=malvar, contrast=contrast)
    changes = _draw_changes(parameters, config, random)
    if changes.cut:
        clean = _without_shadows(clean, changes.cut)
    noisy = add_camera_noise(clean, changes.parameters, random)
    if changes.gain < 1:
        weaker = clean + (noisy - clean) * np.float32(changes.gain)
        noisy = np.asarray(np.floor(weaker * 255 + np.float32(0.5)) / np.float32(255), np.float32)
    if not has_level:
        return NoisyTile(noisy, clean, None, 0.0)
    if estimator is not None and random.random() < config.estimated_level_share:
        return NoisyTile(noisy, clean, level_plane(estimator.curve(noisy).map(noisy)), 0.0)
    return NoisyTile(noisy, clean, level_plane(true_curve(noisy, clean).map(noisy)), config.level_jitter)


def cut_pair(tile: NoisyTile, patch: int, random: np.random.Generator, *, positions: int) -> tuple[Float, Float]:
    """Return a random patch of a tile, turned: (noisy, clean), (3 + level planes, P, P) and (3, P, P), each in [0, 1].

    Args:
        tile: from `draw_tile`.
        patch: side of the patch.
        random: only source of randomness.
        positions: rows and columns at which the patch can begin.
    """
    top, left = random.integers(positions, size=2)
    turn = int(random.integers(8))
    window = (slice(top, top + patch), slice(left, left + patch))
    noisy, clean = (_planes(turned(whole[window], turn)) for whole in (tile.noisy, tile.clean))
    if tile.level is not None:
        level = _planes(turned(tile.level[window][..., None], turn))
        if tile.level_jitter:
            error = np.float32(math.exp(tile.level_jitter * random.standard_normal()))
            level = np.asarray(np.minimum(level * error, 1), np.float32)
        noisy = np.concatenate([noisy, level])
    return noisy, clean


@dataclass(frozen=True)
class _Changes:
    """Changes of the noise of a tile that only some configs ask for."""

    parameters: NoiseParameters
    """Parameters of the noise."""
    cut: float = 0.0
    """Linear light below which shadows are cut off, as a share of white; 0 cuts off none."""
    gain: float = 1.0
    """Factor of the noise."""


def _draw_changes(parameters: NoiseParameters, config: SupervisedConfig, random: np.random.Generator) -> _Changes:
    """Return random coarse noise, JPEG, black and strength, each for its share of the tiles.

    Where no share is set, nothing is drawn, so that configs without them draw the patches that they always drew.
    """
    shares = (config.coarse_share, config.black_share, config.weak_share, config.jpeg_chroma_whole_share)
    if not any((*shares, config.denoised_share)) and config.jpeg_quality_low == JPEG_QUALITY_LOW:
        return _Changes(parameters)
    grain_px, share = random.uniform(*COARSE_GRAIN_PX), random.uniform(config.coarse_low, config.coarse_high)
    headroom, cut = random.uniform(0, BLACK_HEADROOM), random.uniform(0, BLACK_CUT)
    quality, gain = int(random.integers(config.jpeg_quality_low, JPEG_QUALITY_HIGH + 1)), float(random.random())
    coarse, black, weak, whole = random.random(4) < shares
    denoising = None
    if config.denoised_share and random.random() < config.denoised_share:
        widths = random.uniform(*DENOISED_GRAY_PX), random.uniform(*DENOISED_COLOUR_PX)
        denoising = InCameraDenoising(*widths, texture=random.uniform(*DENOISED_TEXTURE))
    parameters = replace(
        parameters,
        coarse=CoarseNoise(grain_px, share, COARSE_GRAY) if coarse else None,
        black_headroom=headroom if black else BLACK_HEADROOM,
        jpeg_quality=None if parameters.jpeg_quality is None else quality,
        jpeg_chroma_halved=not whole,
        denoising=denoising,
    )
    return _Changes(parameters, cut if black else 0.0, gain if weak else 1.0)


def _without_shadows(clean: Float, cut: float) -> Float:
    """Return an image whose light up to `cut` is black."""
    light = np.maximum((clean ** np.float32(_GAMMA) - cut) / (1 - cut), 0).astype(np.float32)
    return np.asarray(light ** np.float32(1 / _GAMMA), np.float32)


def _planes(unit: Float) -> Float:
    """Return (P, P, C) as (C, P, P)."""
    return np.ascontiguousarray(unit.transpose(2, 0, 1))


def _resized(unit: NDArray[Any], side: int) -> Float:
    """Return (h, h, 3) magnified to (side, side, 3), bicubic."""
    if unit.shape[0] == side:
        return np.ascontiguousarray(unit, np.float32)
    planes = [
        np.asarray(Image.fromarray(np.ascontiguousarray(unit[..., c])).resize((side, side), Image.Resampling.BICUBIC))
        for c in range(3)
    ]
    return np.asarray(np.clip(np.stack(planes, axis=-1), 0, 1), np.float32)
