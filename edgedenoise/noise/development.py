"""Development of raw images to finished ones: colour, tone curve, gamma and JPEG."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgedenoise.noise.cameras import NoiseParameters

    Float = NDArray[np.float32]

_CURVE_STEPS = 65535  # fine enough that a step of the tone curve is far below an 8-bit level


def raw_to_srgb(parameters: NoiseParameters) -> Float:
    """Return the matrix from raw RGB to linear sRGB: white balance, then the colour matrix."""
    balance = np.array([parameters.red_gain, 1, parameters.blue_gain], np.float32)
    matrix = np.array(parameters.camera.colour_matrix, np.float32)
    share = np.float32(parameters.matrix)
    return np.asarray((share * matrix + (1 - share) * np.eye(3, dtype=np.float32)) * balance, np.float32)


@lru_cache(maxsize=64)
def tone_curves(contrast: float) -> tuple[Float, Float]:
    """Return sRGB to linear light, and back, at 65536 steps of [0, 1]: tone curve and sRGB's gamma in one."""
    grid = np.linspace(0, 1, _CURVE_STEPS + 1)
    toned = (1 - contrast) * grid + contrast * grid * grid * (3 - 2 * grid)
    encode = np.where(toned <= 0.0031308, 12.92 * toned, 1.055 * np.maximum(toned, 1e-9) ** (1 / 2.4) - 0.055)
    decode = np.interp(grid, encode, grid)
    return decode.astype(np.float32), encode.astype(np.float32)


def curve_steps(unit: Float) -> NDArray[np.int32]:
    """Return the indices of values in a tone curve."""
    return (unit * np.float32(_CURVE_STEPS) + np.float32(0.5)).astype(np.int32)


def through_jpeg(levels: NDArray[np.uint8], quality: int, *, chroma_halved: bool) -> NDArray[np.uint8]:
    """Return an image (H, W, 3) as JPEG gives it back, with chroma at half or at full size."""
    from PIL import Image

    stream = BytesIO()
    Image.fromarray(levels).save(stream, "JPEG", quality=quality, subsampling=2 if chroma_halved else 0)
    with Image.open(stream) as image:
        return np.asarray(image)
