"""Frames of videos as RGB arrays, and back, without a change of range, matrix or depth.

FFmpeg converts between YCbCr and RGB. Its default flags shift the brightness by about one 8-bit level. The flags here
give back the brightness at 72 dB, which is rounding. The colours of full-range videos lose half a level, because FFmpeg
rounds them down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from fractions import Fraction

    from av import VideoFrame
    from av.video.format import VideoFormat
    from numpy.typing import NDArray

_BT709: Final = 1
_UNSPECIFIED: Final = 2
_SMPTE170M: Final = 6
_MATRICES: Final = {_BT709: 1, 4: 4, 5: 5, _SMPTE170M: 5, 7: 7, 9: 9, 10: 9}
"""Matrix of a stream (AVCOL_SPC) -> matrix of the converter (SWS_CS)."""
_HD_ROWS: Final = 720
"""Players take BT.709 for unmarked videos from this height on, and BT.601 below."""
LIMITED: Final = 1
FULL: Final = 2
"""Ranges of YCbCr (AVCOL_RANGE)."""


@dataclass(frozen=True)
class Colour:
    """How the numbers of a video stand for colours, in FFmpeg's codes; they are written to the output as they are."""

    matrix: int
    range: int
    primaries: int
    transfer: int


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a video."""

    pixels: NDArray[Any]
    """(H, W, 3), uint8, or uint16 over its full range for videos of more than 8 bits."""
    alpha: NDArray[Any] | None
    """(H, W) of the same type; None for videos without alpha."""
    pts: int | None
    """Time in units of the time base; None where the file states none."""
    duration: int
    """Duration in the same units; 0 where the file states none."""
    is_interlaced: bool = False
    """Whether it consists of two fields."""
    is_damaged: bool = False
    """Whether the decoder had to replace parts of it."""


def bits_of(pixel_format: VideoFormat) -> int:
    """Return the bits per sample of a pixel format."""
    return max(component.bits for component in pixel_format.components)


def has_alpha(pixel_format: VideoFormat) -> bool:
    """Return whether a pixel format has an alpha channel."""
    return any(component.is_alpha for component in pixel_format.components)


def to_array(frame: VideoFrame, colour: Colour) -> Frame:
    """Return a decoded frame as arrays."""
    deep, alpha = bits_of(frame.format) > 8, has_alpha(frame.format)
    name = ("rgba64le" if deep else "rgba") if alpha else ("rgb48le" if deep else "rgb24")
    array: NDArray[Any] = _converted(frame, name, colour, to_rgb=True).to_ndarray()
    return Frame(
        array[..., :3],
        array[..., 3] if alpha else None,
        frame.pts,
        frame.duration or 0,
        frame.interlaced_frame,
        frame.is_corrupt,
    )


def from_array(frame: Frame, pixel_format: str, colour: Colour, time_base: Fraction) -> VideoFrame:
    """Return arrays as a frame to encode."""
    from av import VideoFrame

    deep = frame.pixels.dtype == np.uint16
    if frame.alpha is None:
        source = VideoFrame.from_ndarray(np.ascontiguousarray(frame.pixels), format="rgb48le" if deep else "rgb24")
    else:
        joined = np.concatenate([frame.pixels, frame.alpha[..., None]], axis=2)
        source = VideoFrame.from_ndarray(joined, format="rgba64le" if deep else "rgba")
    result = _converted(source, pixel_format, colour, to_rgb=False)
    result.colorspace, result.color_range = colour.matrix, colour.range
    result.color_primaries, result.color_trc = colour.primaries, colour.transfer
    result.pts, result.time_base, result.duration = frame.pts, time_base, frame.duration
    return result


def _converted(frame: VideoFrame, pixel_format: str, colour: Colour, *, to_rgb: bool) -> VideoFrame:
    from av.video.reformatter import Interpolation

    guess = _BT709 if frame.height >= _HD_ROWS else _SMPTE170M
    matrix = _MATRICES.get(colour.matrix, _MATRICES[guess])
    coded = FULL if colour.range == FULL else LIMITED
    flags = (
        Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
    )
    return frame.reformat(
        format=pixel_format,
        interpolation=flags,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=coded if to_rgb else FULL,
        dst_color_range=FULL if to_rgb else coded,
    )
