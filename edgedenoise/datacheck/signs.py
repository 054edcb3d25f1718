"""Signs that one image is not suitable to train on: hardly any noise, or altered after the camera.

A sign is weak evidence, and some unaltered images show one: a folder is refused only when most of its images show
signs (`check.py`). For the origin of the limits and what cannot be detected, see docs/concepts/data-check.md.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from edgedenoise.imaging.metadata.ifd import read_ifds

if TYPE_CHECKING:
    from edgedenoise.datacheck.traces import Traces
    from edgedenoise.imaging.image import Image
    from edgedenoise.noise.estimation import NoiseEstimate

INDEPENDENT: Final = 0.7
"""`NoiseEstimate.independence` from which noise counts as independent from pixel to pixel."""
FAINT: Final = 0.8
"""`faintness` above which an image has more texture than noise."""
FAINT_ALONE: Final = 1.6
"""Limit of `faintness` where only one image decides."""

_RESAMPLED_LINE, _MOSAIC_LINE, _JPEG_LINE = 3.0, 2.0, 3.2
_POOLED_LINES = 2.0, 1.2, 1.0  # the same limits where small images are pooled
_SMOOTH, _SMOOTH_JPEG = 0.64, 0.70  # JPEG itself smooths
_XTRANS_PX = (3, 6)  # Fujifilm's mosaic repeats after so many pixels, and not after 2

_SOFTWARE, _MAKE, _EXIF_IFD, _EXIF_WIDTH, _EXIF_HEIGHT = 305, 271, 34665, 40962, 40963
_EDITORS = ("photoshop", "gimp", "snapseed", "picasa", "imagemagick", "affinity", "pixelmator", "paint", "topaz", "dxo")


def faintness(noise: NoiseEstimate) -> float:
    """Return the amount of texture relative to noise: at most 0 where noise is clear, at least 1 where it is not."""
    floor = math.log(max(noise.floor_levels, 0.05))
    return noise.texture_rise - (0.5 * floor if floor > 0 else floor)  # below one level, only rounding remains


def signs_of(noise: NoiseEstimate, traces: Traces | None, *, pooled: bool, maker: str) -> tuple[str, ...]:
    """Return the signs that an image is not suitable to train on.

    Args:
        noise: noise of the image.
        traces: traces in the image; None where it is too small to show any.
        pooled: whether `traces` are those of many small images together.
        maker: maker of the camera, from the EXIF, in small letters; may be empty.

    Returns:
        Any of `no-noise`; `resampled` (lines that resampling leaves), `untraced` (no lines of a camera, although the
        noise is correlated), `smoothed` (noise smoother than that of cameras).
    """
    signs = []
    if faintness(noise) > FAINT_ALONE:
        signs.append("no-noise")
    if noise.floor_levels < 1e-3:  # rendered, not taken by a camera: without noise, no trace can show
        return tuple(signs)
    resampled_line, mosaic_line, jpeg_line = _POOLED_LINES if pooled else (_RESAMPLED_LINE, _MOSAIC_LINE, _JPEG_LINE)
    from_jpeg = traces is None or traces.jpeg >= jpeg_line
    if traces is not None and not (maker.startswith("fujifilm") and _is_xtrans(traces)):
        if traces.resampled > resampled_line:
            signs.append("resampled")
        if not from_jpeg and traces.mosaic < mosaic_line and noise.independence < INDEPENDENT:
            signs.append("untraced")
    if noise.autocorrelation[0] > (_SMOOTH_JPEG if from_jpeg else _SMOOTH):
        signs.append("smoothed")
    return tuple(signs)


def editing_in_exif(image: Image) -> tuple[str, str | None]:
    """Return the maker of the camera in small letters (or ''), and the evidence of editing in the EXIF (or None)."""
    if image.metadata.exif is None:
        return "", None
    try:
        ifd = read_ifds(image.metadata.exif)[0]
        maker, software = (_text(ifd.raw(tag)) for tag in (_MAKE, _SOFTWARE))
        child = ifd.children.get(_EXIF_IFD)
        sides = [child.numbers(tag) for tag in (_EXIF_WIDTH, _EXIF_HEIGHT)] if child else []
    except ValueError:  # damaged EXIF is common and harmless here
        return "", None
    recorded = [side[0] for side in sides if side and side[0]]
    if any(editor in software.lower() for editor in _EDITORS):
        return maker.lower(), f"saved by {software}"
    if len(recorded) == 2 and sorted(recorded) != sorted((image.width, image.height)):  # it may have been rotated
        return maker.lower(), f"recorded as {recorded[0]}x{recorded[1]}, is {image.width}x{image.height}"
    return maker.lower(), None


def _is_xtrans(traces: Traces) -> bool:
    return any(abs(traces.resampled_period_px - period) < 0.05 for period in _XTRANS_PX)


def _text(raw: bytes | None) -> str:
    return (raw or b"").split(b"\0")[0].decode("latin-1").strip()
