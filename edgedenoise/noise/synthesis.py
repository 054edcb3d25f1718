"""Synthetic camera noise, added to a clean image as a camera would (numpy only).

Noise added to finished pixels is independent from pixel to pixel. Camera noise is not: it arises in the raw mosaic and
is then demosaicked, colour-corrected and tone-mapped. So the image is developed backwards to raw, gets shot, read and
row noise there, and only the *noise* is demosaicked:

    noisy = develop(raw + demosaic(sensor(mosaic(raw)) - mosaic(raw)))

All demosaicking here is linear, so this equals a camera's result, except that the image keeps the detail that
demosaicking would blur. That blur is not noise, and a network must not learn to undo it.

Sources: Wei et al., 'Physics-based Noise Modeling for Extreme Low-light Photography' (PAMI 2022): noise
sources and joint sampling; Brooks et al., 'Unprocessing Images for Learned Raw Denoising' (CVPR 2019):
backward development; Malvar et al., 'High-quality linear interpolation for demosaicing of Bayer-patterned
color images' (ICASSP 2004). `docs/concepts/noise.md` compares the result with real noise. `estimation.py` estimates
the noise of an image.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgedenoise.errors import UsageError
from edgedenoise.imaging.image import to_unit
from edgedenoise.imaging.metrics import psnr
from edgedenoise.noise.cameras import CAMERAS, NoiseParameters
from edgedenoise.noise.development import curve_steps, raw_to_srgb, through_jpeg, tone_curves
from edgedenoise.noise.in_camera import denoised_in_camera
from edgedenoise.noise.sensor import coarse_noise, demosaicked, mosaicked, sensor_noise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float = NDArray[np.float32]

JPEG_QUALITY_LOW: Final = 85
"""Lowest JPEG quality of a camera, as `sample_noise` draws it."""
JPEG_QUALITY_HIGH: Final = 98
"""Highest JPEG quality of a camera."""
MAX_LEVEL: Final = 1.25
"""Largest noise level: three to four times the gain of a camera's highest ISO, 18 dB on ordinary images."""


def sample_noise(
    rng: np.random.Generator, *, level: float | None = None, camera: str | None = None, jpeg: bool = False
) -> NoiseParameters:
    """Return random noise parameters of one image, drawn jointly: all depend on its gain, with scatter.

    Args:
        rng: only source of randomness.
        level: 0 (the lowest ISO of the camera) to 1 (its highest), along log gain, and up to `MAX_LEVEL` for
            underexposed images; None draws it evenly between 0 and 1.
        camera: a name in `CAMERAS`; None draws one.
        jpeg: whether the result is a JPEG, of quality 85 to 98.

    Returns:
        The parameters, for `add_camera_noise`.

    Raises:
        UsageError: the camera is unknown, or the level outside 0 to `MAX_LEVEL`.
    """
    if camera is not None and camera not in CAMERAS:
        raise UsageError(f"the camera is unknown: expected one of {', '.join(CAMERAS)}, got {camera!r}")
    if level is not None and not 0 <= level <= MAX_LEVEL:
        raise UsageError(f"the noise level is not accepted: expected 0 to {MAX_LEVEL}, got {level}")
    # All values are drawn in any case, so that fixing one leaves the others unchanged.
    drawn_camera, drawn_level = list(CAMERAS)[int(rng.integers(len(CAMERAS)))], float(rng.random())
    profile = CAMERAS[camera or drawn_camera]
    low, high = (math.log(gain) for gain in profile.gain_range)
    warmth = float(rng.random())  # red and blue gains move against each other with the colour of the light
    quality = int(rng.integers(JPEG_QUALITY_LOW, JPEG_QUALITY_HIGH + 1))
    return NoiseParameters(
        profile,
        gain=math.exp(low + (drawn_level if level is None else level) * (high - low)),
        read_z=float(rng.standard_normal()),
        row_z=float(rng.standard_normal()),
        tail=float(rng.uniform(*profile.tail_range)),
        red_gain=_between(profile.red_gains, warmth),
        blue_gain=_between(profile.blue_gains, 1 - warmth),
        matrix=float(rng.uniform(*profile.matrix_range)),
        malvar=float(rng.uniform(*profile.malvar_range)),
        contrast=float(rng.uniform(*profile.contrast_range)),
        jpeg_quality=quality if jpeg else None,
    )


def add_camera_noise(clean: NDArray[Any], parameters: NoiseParameters, rng: np.random.Generator) -> Float:
    """Return an image as the camera would have recorded it.

    Args:
        clean: (H, W, 3), or any array that `to_unit` accepts; sRGB, without noise of its own.
        parameters: result of `sample_noise` or `parameters_for_psnr`.
        rng: only source of randomness; the same seed gives the same image.

    Returns:
        float32 (H, W, 3) in [0, 1], in whole 8-bit levels.

    Raises:
        ImageError: `clean` is not an image.
    """
    unit = np.clip(to_unit(clean), 0, 1)
    decode, encode = tone_curves(round(parameters.contrast, 3))
    to_srgb = raw_to_srgb(parameters)
    linear = decode[curve_steps(unit)]
    raw = linear @ np.linalg.inv(to_srgb).T.astype(np.float32)
    noise = demosaicked(sensor_noise(mosaicked(raw), parameters, rng), parameters.malvar) @ to_srgb.T
    if parameters.coarse is not None:
        noise += coarse_noise(linear, noise, parameters, parameters.coarse, rng)
    linear += noise
    noisy = encode[curve_steps(np.clip(linear, 0, 1, out=linear))]
    if parameters.denoising is not None:
        noisy = np.clip(unit + denoised_in_camera(noisy - unit, unit, parameters.denoising), 0, 1)
    levels = np.floor(noisy * 255 + 0.5).astype(np.uint8)
    if parameters.jpeg_quality is not None:
        levels = through_jpeg(levels, parameters.jpeg_quality, chroma_halved=parameters.jpeg_chroma_halved)
    return to_unit(levels)


def parameters_for_psnr(
    clean: NDArray[Any],
    target_db: float,
    rng: np.random.Generator,
    *,
    camera: str | None = None,
    jpeg: bool = False,
) -> NoiseParameters:
    """Return random noise parameters with the gain that gives the noisy image a target PSNR.

    The gain may leave the range of the camera. It is found by bisection on patches of the image, and meets the PSNR
    within about 0.2 dB. Where clipping or quantization prevent that (below about 8 dB, above about 50), the nearest
    gain is returned.

    Args:
        clean: (H, W, 3) as for `add_camera_noise`.
        target_db: PSNR of noisy against clean in dB, as `metrics.psnr` counts it.
        rng: only source of randomness.
        camera: a name in `CAMERAS`; None draws one.
        jpeg: whether the result is a JPEG.

    Returns:
        The parameters, for `add_camera_noise`.

    Raises:
        UsageError: the camera is unknown, or the target is not finite.
        ImageError: `clean` is not an image.
    """
    if not math.isfinite(target_db):
        raise UsageError(f"the target PSNR is not accepted: expected about 8 to 50 dB, got {target_db}")
    parameters = sample_noise(rng, camera=camera, jpeg=jpeg)
    seed = int(rng.integers(2**63))
    patches = _patches(to_unit(clean))
    white = parameters.camera.white_adu
    low, high = math.log(white * 1e-7), math.log(white)  # ten million electrons, or one, give white
    for _ in range(12):
        middle = (low + high) / 2
        parameters = replace(parameters, gain=math.exp(middle))
        noisy = add_camera_noise(patches, parameters, np.random.default_rng(seed))
        low, high = (middle, high) if psnr(noisy, patches) > target_db else (low, middle)
    return parameters


def _between(ends: tuple[float, float], share: float) -> float:
    return ends[0] + share * (ends[1] - ends[0])


def _patches(unit: Float, side: int = 128, count: int = 5) -> Float:
    """Return patches of a large image on a count x count lattice, side by side; a small image as it is."""
    height, width = unit.shape[:2]
    if height * width <= 1.5 * (side * count) ** 2 or min(height, width) < side:
        return unit
    tops = np.linspace(0, height - side, count).astype(int) // 2 * 2
    lefts = np.linspace(0, width - side, count).astype(int) // 2 * 2
    rows = [[unit[top : top + side, left : left + side] for left in lefts] for top in tops]
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])
