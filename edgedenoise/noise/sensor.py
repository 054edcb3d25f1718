"""Noise of a camera's sensor in the raw mosaic, its demosaicking, and coarse noise (numpy only; Pillow for grains)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgedenoise.noise.cameras import CoarseNoise, NoiseParameters

    Float = NDArray[np.float32]


def sensor_noise(mosaic: Float, parameters: NoiseParameters, rng: np.random.Generator) -> Float:
    """Return the noise that the sensor adds to a mosaic (H, W) in [0, 1]: noise formation model of Wei et al."""
    white = np.float32(parameters.camera.white_adu)
    gain = np.float32(parameters.gain)
    signal = np.maximum(mosaic, 0) * white  # colours outside the camera's gamut have no negative light
    recorded = rng.poisson(signal / gain).astype(np.float32) * gain
    recorded += _tukey_lambda(mosaic.shape, parameters.tail, rng) * np.float32(parameters.read_sigma_adu)
    recorded += rng.standard_normal((mosaic.shape[0], 1), np.float32) * np.float32(parameters.row_sigma_adu)
    black = np.float32(parameters.camera.white_adu * parameters.black_headroom)
    np.clip(np.rint(recorded, out=recorded), -black, white, out=recorded)  # the converter
    return np.asarray((recorded - signal) / white, np.float32)


def _tukey_lambda(shape: tuple[int, ...], tail: float, rng: np.random.Generator) -> Float:
    """Return samples of the Tukey lambda distribution with variance 1, by its quantile function (Wei et al.)."""
    u = np.clip(rng.random(shape, np.float32), 1e-6, 1 - 1e-6)
    if abs(tail) < 1e-3:  # the limit is the logistic distribution
        return np.asarray(np.log(u / (1 - u)) * (math.sqrt(3) / math.pi), np.float32)
    variance = 2 / tail**2 * (1 / (1 + 2 * tail) - math.gamma(tail + 1) ** 2 / math.gamma(2 * tail + 2))
    power = np.float32(tail)
    return np.asarray((u**power - (1 - u) ** power) / (tail * math.sqrt(variance)), np.float32)


def coarse_noise(
    linear: Float, noise: Float, parameters: NoiseParameters, coarse: CoarseNoise, rng: np.random.Generator
) -> Float:
    """Return coarse noise for an image in linear light, which depends on the light as shot and read noise do.

    Args:
        linear: the clean image (H, W, 3) in linear sRGB.
        noise: the sensor's noise there, of which `coarse.share` is a multiple.
        parameters: of the camera.
        coarse: size, strength and grayness of the grains.
        rng: only source of randomness.

    Returns:
        (H, W, 3), in linear sRGB.
    """
    white = parameters.camera.white_adu
    variance = np.maximum(linear.mean(axis=2), 0) * np.float32(parameters.gain / white)
    deviation = np.sqrt(variance + np.float32((parameters.read_sigma_adu / white) ** 2))
    deviation *= np.float32(coarse.share) * np.sqrt(np.mean(noise**2) / np.mean(deviation**2))
    fields = [_grains(linear.shape[:2], coarse.grain_px, rng) for _ in range(4)]
    colour = np.stack(fields[1:], axis=-1) * np.float32(math.sqrt(1 - coarse.gray))
    return np.asarray((colour + fields[0][..., None] * np.float32(math.sqrt(coarse.gray))) * deviation[..., None])


def _grains(shape: tuple[int, ...], grain_px: float, rng: np.random.Generator) -> Float:
    """Return a smooth random field (H, W) of variance 1: normal numbers `grain_px` apart, bicubic between them."""
    from PIL import Image

    height, width = shape
    rows, columns = height / grain_px, width / grain_px
    small = Image.fromarray(rng.standard_normal((math.ceil(rows) + 1, math.ceil(columns) + 1), np.float32))
    top, left = rng.random(2)
    box = (left, top, left + columns, top + rows)  # the lattice can begin anywhere
    field = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC, box=box), np.float32)
    return field / np.float32(max(float(field.std()), 1e-6))


def mosaicked(raw: Float) -> Float:
    """Return one colour per pixel, in the RGGB pattern."""
    mosaic = raw[..., 1].copy()
    mosaic[0::2, 0::2] = raw[0::2, 0::2, 0]
    mosaic[1::2, 1::2] = raw[1::2, 1::2, 2]
    return mosaic


# Weights of the 5 x 5 neighbourhood, as (distance in rows, in columns): Malvar et al., figure 2, in eighths.
_CROSS = ((-1, 0), (1, 0), (0, -1), (0, 1))
_FAR = ((-2, 0), (2, 0), (0, -2), (0, 2))
_DIAGONAL = ((-1, -1), (-1, 1), (1, -1), (1, 1))


def demosaicked(mosaic: Float, malvar: float) -> Float:
    """Interpolate an RGGB mosaic to (H, W, 3): bilinear, plus a share of Malvar's gradient corrections."""
    height, width = mosaic.shape
    # Reflection keeps the colour pattern, but needs three pixels.
    padded = np.pad(mosaic, 2, mode="reflect" if min(height, width) > 2 else "symmetric")

    def near(rows: int, columns: int) -> Float:
        return padded[2 + rows : 2 + rows + height, 2 + columns : 2 + columns + width]

    def mean(offsets: tuple[tuple[int, int], ...]) -> Float:
        total = sum((near(*offset) for offset in offsets[1:]), near(*offsets[0]))
        return np.asarray(total / np.float32(len(offsets)), np.float32)

    share = np.float32(malvar)
    cross, far, diagonal = mean(_CROSS), mean(_FAR), mean(_DIAGONAL)
    sides, ends = mean(_CROSS[2:]), mean(_CROSS[:2])
    far_sides, far_ends = mean(_FAR[2:]), mean(_FAR[:2])
    green = cross + share * (mosaic - far) / 2
    opposite = diagonal + share * (mosaic - far) * np.float32(0.75)
    # Red and blue where green was recorded, from the neighbours in the row and in the column.
    by_row = sides + share * (5 * mosaic + far_ends - 4 * diagonal - 2 * far_sides) / 8
    by_column = ends + share * (5 * mosaic + far_sides - 4 * diagonal - 2 * far_ends) / 8
    out = np.empty((height, width, 3), np.float32)
    for row in (0, 1):
        for column in (0, 1):
            place = (slice(row, None, 2), slice(column, None, 2))
            if row == column:
                out[place][..., 2 * row] = mosaic[place]
                out[place][..., 1] = green[place]
                out[place][..., 2 - 2 * row] = opposite[place]
            else:
                out[place][..., 1] = mosaic[place]
                out[place][..., 2 * row] = by_row[place]
                out[place][..., 2 - 2 * row] = by_column[place]
    return out
