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
from dataclasses import dataclass, replace
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgedenoise.errors import UsageError
from edgedenoise.imaging.image import to_unit
from edgedenoise.imaging.metrics import psnr

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float = NDArray[np.float32]

_CURVE_STEPS = 65535  # fine enough that a step of the tone curve is far below an 8-bit level


@dataclass(frozen=True)
class CameraProfile:
    """Recording and development of one generic kind of camera, with values in the range of measured ones.

    Noise is in ADU, the units of the raw file; `white_adu` of them make a white pixel. Its parameters depend on the
    gain K (ADU per electron) as Wei et al. found: log sigma = slope log K + offset + scatter z.

    Wei et al. calibrated five 14-bit cameras: read noise of 2.2 to 8.0 ADU at K = 1 with slopes of 0.54 to 0.68 and
    scatters of 0.21 to 0.27 (Brooks et al., with other cameras: slope 1.09, scatter 0.13); row noise of 0.17 to 0.55
    ADU with slopes of 0.45 to 0.73 and scatters of 0.23 to 0.29; tails of -0.24 to 0.20.
    """

    name: str
    """Key in `CAMERAS`."""
    white_adu: float
    """White level minus black level."""
    gain_range: tuple[float, float]
    """Gain K at the lowest and the highest ISO, in ADU per electron."""
    read_line: tuple[float, float, float]
    """Read noise: slope, offset and scatter of log sigma (ADU) against log K."""
    row_line: tuple[float, float, float]
    """Row noise: slope, offset and scatter of log sigma (ADU) against log K."""
    tail_range: tuple[float, float]
    """Tukey lambda shapes of read noise: 0.14 is nearly normal, smaller has heavier tails; above -0.5."""
    red_gains: tuple[float, float]
    """Red gains of the white balance from tungsten light to daylight; green is 1."""
    blue_gains: tuple[float, float]
    """Blue gains of the white balance from daylight to tungsten light; green is 1."""
    colour_matrix: tuple[tuple[float, float, float], ...]
    """Camera RGB to linear sRGB at low ISO; rows sum to 1."""
    matrix_range: tuple[float, float]
    """Share of the colour matrix against none: cameras weaken it where it would amplify noise."""
    malvar_range: tuple[float, float]
    """Share of Malvar's demosaicking against bilinear: a larger share correlates the noise less."""
    contrast_range: tuple[float, float]
    """Share of an S-shaped tone curve (3x^2 - 2x^3) against none."""


def _profile(
    name: str,
    bits: int,
    gain_range: tuple[float, float],
    read: tuple[float, float],
    row: tuple[float, float],
    colour_matrix: tuple[tuple[float, float, float], ...],
) -> CameraProfile:
    """Return a profile; `read` and `row` are the slope and the sigma in ADU at a gain of 1."""
    return CameraProfile(
        name,
        white_adu=float(2**bits - 1 - 2 ** (bits - 5)),  # black levels are about 1/32 of the range
        gain_range=gain_range,
        read_line=(read[0], math.log(read[1]), 0.20),
        row_line=(row[0], math.log(row[1]), 0.25),
        tail_range=(-0.24, 0.14),
        red_gains=(1.5, 2.4),
        blue_gains=(1.4, 2.3),
        colour_matrix=colour_matrix,
        matrix_range=(0.2, 1.0),
        malvar_range=(0.4, 1.0),
        contrast_range=(0.75, 1.0),
    )


_MILD = ((1.55, -0.42, -0.13), (-0.16, 1.42, -0.26), (0.02, -0.45, 1.43))
_STRONG = ((1.85, -0.70, -0.15), (-0.25, 1.60, -0.35), (-0.02, -0.62, 1.64))

CAMERAS: Final = {
    profile.name: profile
    for profile in (
        _profile("full-frame", 14, (0.25, 64), read=(0.82, 2.4), row=(0.65, 0.30), colour_matrix=_MILD),
        _profile("aps-c", 14, (0.4, 80), read=(0.85, 2.8), row=(0.65, 0.45), colour_matrix=_MILD),
        _profile("compact", 12, (0.4, 24), read=(0.88, 2.6), row=(0.65, 0.50), colour_matrix=_STRONG),
        _profile("phone", 10, (0.15, 10), read=(0.90, 2.2), row=(0.65, 0.35), colour_matrix=_STRONG),
    )
}
"""Generic cameras by name."""


@dataclass(frozen=True)
class NoiseParameters:
    """One camera at one gain, white balance and development; made by `sample_noise`."""

    camera: CameraProfile
    """Kind of camera."""
    gain: float
    """K, ADU per electron; change it with `dataclasses.replace` for another ISO."""
    read_z: float
    """Distance of the read noise from its line, in scatters; standard normal."""
    row_z: float
    """Distance of the row noise from its line, in scatters; standard normal."""
    tail: float
    """Tukey lambda shape of the read noise."""
    red_gain: float
    """Red gain of the white balance."""
    blue_gain: float
    """Blue gain of the white balance."""
    matrix: float
    """Share of the camera's colour matrix, 0 to 1; a larger share makes the noise more colourful."""
    malvar: float
    """Share of Malvar's demosaicking, 0 to 1."""
    contrast: float
    """Share of the S-shaped tone curve, 0 to 1."""
    jpeg_quality: int | None = None
    """JPEG quality of the result (chroma at half size, as in cameras); None for no JPEG."""

    def __post_init__(self) -> None:
        if not self.gain > 0 or not self.tail > -0.5:
            raise UsageError(
                f"the noise parameters are not accepted: expected a gain above 0 and a tail above -0.5,"
                f" got {self.gain} and {self.tail}"
            )

    @property
    def read_sigma_adu(self) -> float:
        """Standard deviation of the read noise in ADU."""
        return _on_line(self.camera.read_line, self.gain, self.read_z)

    @property
    def row_sigma_adu(self) -> float:
        """Standard deviation of the row offsets in ADU."""
        return _on_line(self.camera.row_line, self.gain, self.row_z)


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
    quality = int(rng.integers(85, 99))
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
    decode, encode = _tone_curves(round(parameters.contrast, 3))
    to_srgb = _raw_to_srgb(parameters)
    linear = decode[_steps(unit)]
    raw = linear @ np.linalg.inv(to_srgb).T.astype(np.float32)
    noise = _demosaic(_sensor_noise(_mosaic(raw), parameters, rng), parameters.malvar)
    linear += noise @ to_srgb.T
    noisy = encode[_steps(np.clip(linear, 0, 1, out=linear))]
    levels = np.floor(noisy * 255 + 0.5).astype(np.uint8)
    if parameters.jpeg_quality is not None:
        levels = _through_jpeg(levels, parameters.jpeg_quality)
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


# ---------------------------------------------------------------- the sensor


def _sensor_noise(mosaic: Float, parameters: NoiseParameters, rng: np.random.Generator) -> Float:
    """Return the noise that the sensor adds to a mosaic (H, W) in [0, 1]: noise formation model of Wei et al."""
    white = np.float32(parameters.camera.white_adu)
    gain = np.float32(parameters.gain)
    signal = np.maximum(mosaic, 0) * white  # colours outside the camera's gamut have no negative light
    recorded = rng.poisson(signal / gain).astype(np.float32) * gain
    recorded += _tukey_lambda(mosaic.shape, parameters.tail, rng) * np.float32(parameters.read_sigma_adu)
    recorded += rng.standard_normal((mosaic.shape[0], 1), np.float32) * np.float32(parameters.row_sigma_adu)
    black = white / 31
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


def _mosaic(raw: Float) -> Float:
    """Return one colour per pixel, in the RGGB pattern."""
    mosaic = raw[..., 1].copy()
    mosaic[0::2, 0::2] = raw[0::2, 0::2, 0]
    mosaic[1::2, 1::2] = raw[1::2, 1::2, 2]
    return mosaic


# Weights of the 5 x 5 neighbourhood, as (distance in rows, in columns): Malvar et al., figure 2, in eighths.
_CROSS = ((-1, 0), (1, 0), (0, -1), (0, 1))
_FAR = ((-2, 0), (2, 0), (0, -2), (0, 2))
_DIAGONAL = ((-1, -1), (-1, 1), (1, -1), (1, 1))


def _demosaic(mosaic: Float, malvar: float) -> Float:
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


# ---------------------------------------------------------------- development


def _raw_to_srgb(parameters: NoiseParameters) -> Float:
    """Return the matrix from raw RGB to linear sRGB: white balance, then the colour matrix."""
    balance = np.array([parameters.red_gain, 1, parameters.blue_gain], np.float32)
    matrix = np.array(parameters.camera.colour_matrix, np.float32)
    share = np.float32(parameters.matrix)
    return np.asarray((share * matrix + (1 - share) * np.eye(3, dtype=np.float32)) * balance, np.float32)


@lru_cache(maxsize=64)
def _tone_curves(contrast: float) -> tuple[Float, Float]:
    """Return sRGB to linear light, and back, at 65536 steps of [0, 1]: tone curve and sRGB's gamma in one."""
    grid = np.linspace(0, 1, _CURVE_STEPS + 1)
    toned = (1 - contrast) * grid + contrast * grid * grid * (3 - 2 * grid)
    encode = np.where(toned <= 0.0031308, 12.92 * toned, 1.055 * np.maximum(toned, 1e-9) ** (1 / 2.4) - 0.055)
    decode = np.interp(grid, encode, grid)
    return decode.astype(np.float32), encode.astype(np.float32)


def _steps(unit: Float) -> NDArray[np.int32]:
    """Return the indices of values in a tone curve."""
    return (unit * np.float32(_CURVE_STEPS) + np.float32(0.5)).astype(np.int32)


def _through_jpeg(levels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    from PIL import Image

    stream = BytesIO()
    Image.fromarray(levels).save(stream, "JPEG", quality=quality)
    with Image.open(stream) as image:
        return np.asarray(image)


# ---------------------------------------------------------------- helpers


def _on_line(line: tuple[float, float, float], gain: float, z: float) -> float:
    slope, offset, scatter = line
    return math.exp(slope * math.log(gain) + offset + scatter * z)


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
