"""Cameras and their noise parameters: recording and development of generic cameras, and one draw of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from edgedenoise.errors import UsageError

BLACK_HEADROOM: Final = 1 / 31
"""How far below black most raw files record, as a share of white."""


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
class CoarseNoise:
    """Noise of low frequency, as a camera's own denoising leaves it: a field of grains of several pixels."""

    grain_px: float
    """Size of a grain in pixels, above 1."""
    share: float
    """Root mean square, as a multiple of that of the sensor's noise."""
    gray: float
    """Part of the energy that is the same in all channels, 0 to 1."""


@dataclass(frozen=True)
class InCameraDenoising:
    """Smoothing of the noise by the camera before it writes the file: strong in smooth places, weak in texture."""

    gray_px: float
    """Standard deviation in pixels of the Gaussian that smooths the brightness of the noise."""
    colour_px: float
    """Standard deviation in pixels of the Gaussian that smooths the colour of the noise."""
    texture: float
    """Contrast of the texture in which half of the noise is kept, as a multiple of the noise; above 0."""


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
    """JPEG quality of the result; None for no JPEG."""
    jpeg_chroma_halved: bool = True
    """Whether JPEG stores chroma at half size, as most cameras do, or at full size."""
    black_headroom: float = BLACK_HEADROOM
    """How far below black the converter records, as a share of white; with less, noise in the shadows is clipped."""
    coarse: CoarseNoise | None = None
    """Coarse noise beside the sensor's; None for none."""
    denoising: InCameraDenoising | None = None
    """Denoising by the camera itself; None for none."""

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


def _on_line(line: tuple[float, float, float], gain: float, z: float) -> float:
    slope, offset, scatter = line
    return math.exp(slope * math.log(gain) + offset + scatter * z)
