"""What makes one image doubtful as a teacher of noise: no noise to speak of, or not as its camera made it.

A sign is weak evidence, and some honest images show one: a refusal takes most of a folder (`data_check.py`).
How the limits were found, and what cannot be told: docs/concepts/data-check.md.
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
"""`NoiseEstimate.independence` from which on noise counts as independent from pixel to pixel."""
FAINT: Final = 0.8
"""`faintness` above which there is more texture than noise."""
FAINT_ALONE: Final = 1.6
"""The same where one image alone has to tell."""

_RESAMPLED_LINE, _MOSAIC_LINE, _JPEG_LINE = 3.0, 2.0, 3.2
_POOLED_LINES = 2.0, 1.2, 1.0  # the same where small images are looked at together
_SMOOTH, _SMOOTH_JPEG = 0.64, 0.70  # JPEG smooths by itself
_XTRANS_PX = (3, 6)  # Fujifilm's mosaic repeats after so many pixels, and not after 2

_SOFTWARE, _MAKE, _EXIF_IFD, _EXIF_WIDTH, _EXIF_HEIGHT = 305, 271, 34665, 40962, 40963
_EDITORS = ("photoshop", "gimp", "snapseed", "picasa", "imagemagick", "affinity", "pixelmator", "paint", "topaz", "dxo")


def faintness(noise: NoiseEstimate) -> float:
    """Return how much there is of texture against noise: 0 and less where noise is plain, 1 and more where not."""
    floor = math.log(max(noise.floor_levels, 0.05))
    return noise.texture_rise - (0.5 * floor if floor > 0 else floor)  # below one level, rounding is all there is


def signs_of(noise: NoiseEstimate, traces: Traces | None, *, pooled: bool, maker: str) -> tuple[str, ...]:
    """Tell what makes an image doubtful.

    Args:
        noise: of the image.
        traces: of the image; None where it is too small to show any.
        pooled: whether `traces` are those of many small images together.
        maker: the camera's, from its EXIF, in small letters; may be empty.

    Returns:
        Any of `no-noise`; `resampled` (lines that resampling leaves), `untraced` (none of the lines that cameras
        leave, though its noise is correlated), `smoothed` (noise smoother than a camera's).
    """
    signs = []
    if faintness(noise) > FAINT_ALONE:
        signs.append("no-noise")
    if noise.floor_levels < 1e-3:  # drawn, not photographed: there is no grain to see anything in
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


def told_by_exif(photo: Image) -> tuple[str, str | None]:
    """Return the camera's maker in small letters (or ''), and what the EXIF says about editing, if anything."""
    if photo.metadata.exif is None:
        return "", None
    try:
        ifd = read_ifds(photo.metadata.exif)[0]
        maker, software = (_text(ifd.raw(tag)) for tag in (_MAKE, _SOFTWARE))
        child = ifd.children.get(_EXIF_IFD)
        sides = [child.numbers(tag) for tag in (_EXIF_WIDTH, _EXIF_HEIGHT)] if child else []
    except ValueError:  # EXIF is full of mistakes that harm nobody
        return "", None
    recorded = [side[0] for side in sides if side and side[0]]
    if any(editor in software.lower() for editor in _EDITORS):
        return maker.lower(), f"saved by {software}"
    if len(recorded) == 2 and sorted(recorded) != sorted((photo.width, photo.height)):  # it may have been turned
        return maker.lower(), f"recorded as {recorded[0]}x{recorded[1]}, is {photo.width}x{photo.height}"
    return maker.lower(), None


def _is_xtrans(traces: Traces) -> bool:
    return any(abs(traces.resampled_period_px - period) < 0.05 for period in _XTRANS_PX)


def _text(raw: bytes | None) -> str:
    return (raw or b"").split(b"\0")[0].decode("latin-1").strip()
