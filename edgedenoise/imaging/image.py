"""What an image is in memory: a `Image`, and the one way between its integers and floats in [0, 1]."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedenoise.errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgedenoise.imaging.metadata import Block

    Pixels = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True)
class Metadata:
    """What an image file says about its pixels, byte for byte."""

    icc: bytes | None = None
    """ICC colour profile."""
    exif: bytes | None = None
    """EXIF block, beginning with its TIFF header (without the `Exif\\0\\0` of JPEG)."""
    xmp: bytes | None = None
    """XMP packet."""
    dpi: tuple[float, float] | None = None
    """Horizontal and vertical resolution in pixels per inch."""
    native: tuple[Block, ...] = ()
    """All descriptive blocks of the file, raw. They are what is written when the format stays the same."""
    native_format: str | None = None
    """The format that `native` belongs to: "PNG" or "JPEG"."""


@dataclass(frozen=True, eq=False)
class Image:
    """An image as its file stores it.

    Raises:
        ImageError: the arrays are not of the shapes and types below.
    """

    pixels: Pixels
    """(H, W, C), uint8 or uint16 over its full range; C is 1 (grayscale) or 3 (RGB)."""
    alpha: Pixels | None = None
    """(H, W), same type as `pixels`, or None. Never changed."""
    metadata: Metadata = field(default_factory=Metadata)
    """Colour profile, EXIF, XMP and the like. Never changed."""
    format: str = "PNG"
    """The format of the file that it came from: one of the values of `EXTENSIONS`."""

    def __post_init__(self) -> None:
        _check_array(self.pixels, integer=True)
        if self.pixels.ndim != 3:
            raise ImageError(f"pixels must be (H, W, 1) or (H, W, 3), not {self.pixels.shape}")
        alpha = self.alpha
        if alpha is not None and (alpha.shape != self.pixels.shape[:2] or alpha.dtype != self.pixels.dtype):
            raise ImageError(
                f"alpha is {alpha.dtype} {alpha.shape}, but it must match the pixels: "
                f"{self.pixels.dtype} {self.pixels.shape[:2]}"
            )

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels.shape[1])

    @property
    def channels(self) -> int:
        """1 (grayscale) or 3 (RGB); alpha is not counted."""
        return int(self.pixels.shape[2])

    @property
    def bits(self) -> int:
        """8 or 16 bits per sample."""
        return self.pixels.dtype.itemsize * 8

    @property
    def pixels_sha256(self) -> str:
        """Hash of the decoded pixels, their shape and depth, whatever file they came in."""
        pixels = np.ascontiguousarray(self.pixels)
        digest = hashlib.sha256(f"{pixels.shape} {pixels.dtype}".encode())
        digest.update(pixels.data)
        return digest.hexdigest()

    def crop(self, top: int, left: int, side: int) -> Image:
        """Return a square part of at most `side` pixels, as far as the image reaches; metadata stays."""
        part = (slice(top, top + side), slice(left, left + side))
        pixels: Any = self.pixels[part].copy()
        alpha: Any = None if self.alpha is None else self.alpha[part].copy()
        return Image(pixels, alpha, self.metadata, self.format)

    def unit(self) -> NDArray[np.float32]:
        """Return the pixels as float32 (H, W, 3) in [0, 1], grayscale replicated."""
        return to_unit(self.pixels)

    def with_unit(self, unit: NDArray[np.floating[Any]]) -> Image:
        """Return the same image with new pixels, (H, W, 3) in [0, 1].

        They are clipped and rounded half up to the image's depth; a grayscale image takes the mean of the
        three channels. Alpha and metadata stay as they are.

        Raises:
            ImageError: `unit` is of another size, or not finite.
        """
        if unit.shape != (self.height, self.width, 3):
            raise ImageError(f"new pixels are {unit.shape}, but the image wants ({self.height}, {self.width}, 3)")
        pixels = from_unit(unit, self.pixels.dtype, self.channels)
        return Image(pixels, self.alpha, self.metadata, self.format)


def to_unit(array: NDArray[Any]) -> NDArray[np.float32]:
    """Return an array as float32 (H, W, 3) in [0, 1], grayscale replicated to three channels.

    Args:
        array: (H, W), (H, W, 1) or (H, W, 3); uint8 and uint16 are divided by their full range (255, 65535),
            float arrays are taken as [0, 1] already and not changed.

    Raises:
        ImageError: another shape or type, or floats that are not finite or far outside [0, 1].
    """
    _check_array(array, integer=False)
    if array.dtype.kind == "u":
        unit = array.astype(np.float32) * np.float32(1 / np.iinfo(array.dtype).max)
        np.minimum(unit, 1, out=unit)  # the product may exceed 1 in its last bit
    else:
        unit = array.astype(np.float32)
        _check_floats(unit)
    if unit.ndim == 2:
        unit = unit[..., None]
    return np.repeat(unit, 3, axis=2) if unit.shape[2] == 1 else unit


def from_unit(unit: NDArray[np.floating[Any]], like: Any, channels: int = 3) -> NDArray[Any]:
    """Turn float (H, W, 3) in [0, 1] back into the type that it came from: the inverse of `to_unit`.

    Args:
        unit: (H, W, 3); values outside [0, 1] are clipped.
        like: uint8, uint16 (full range, rounded half up), or a float type.
        channels: 3, or 1 for the mean of the three channels.

    Returns:
        (H, W, channels) of type `like`.

    Raises:
        ImageError: another shape, type or number of channels, or values that are not finite.
    """
    dtype = np.dtype(like)
    if unit.ndim != 3 or unit.shape[2] != 3 or unit.dtype.kind != "f":
        raise ImageError(f"expected floats of shape (H, W, 3), not {unit.dtype} {unit.shape}")
    if channels not in {1, 3}:
        raise ImageError(f"an image has 1 or 3 channels, not {channels}")
    if not np.isfinite([unit.min(initial=0), unit.max(initial=0)]).all():  # both are NaN if any value is
        raise ImageError(f"{int((~np.isfinite(unit)).sum())} of {unit.size} values are not finite")
    clipped = np.clip(unit, 0, 1, dtype=np.result_type(unit, np.float32))  # half floats cannot hold 65535
    if channels == 1:
        clipped = clipped.mean(axis=2, keepdims=True)
    if dtype.kind == "f":
        return np.asarray(clipped, dtype)
    if dtype not in {np.dtype(np.uint8), np.dtype(np.uint16)}:
        raise ImageError(f"images are uint8, uint16 or float, not {dtype}")
    clipped *= np.iinfo(dtype).max
    clipped += 0.5
    return np.asarray(clipped.astype(dtype))  # cuts off, so that halves have been rounded up


def _check_array(array: NDArray[Any], *, integer: bool) -> None:
    """Refuse what is not an image with one or three channels."""
    if not isinstance(array, np.ndarray):
        raise ImageError(f"expected a numpy array, not {type(array).__name__}")
    accepted = "uint8 or uint16" if integer else "uint8, uint16 or float in [0, 1]"
    if array.dtype not in {np.dtype(np.uint8), np.dtype(np.uint16)} and (integer or array.dtype.kind != "f"):
        raise ImageError(f"an image of type {array.dtype} was given; accepted: {accepted}")
    if array.ndim not in {2, 3} or (array.ndim == 3 and array.shape[2] not in {1, 3}):
        hint = None
        if array.ndim == 3 and array.shape[2] in {2, 4}:
            hint = "Alpha is not denoised: pass array[..., :-1], and keep array[..., -1]."
        elif array.ndim == 3 and array.shape[0] in {1, 3}:
            hint = "Channels come last: pass array.transpose(1, 2, 0)."
        raise ImageError(
            f"an image of shape {array.shape} was given; accepted: (H, W), (H, W, 1) or (H, W, 3)", hint=hint
        )
    if array.size == 0:
        raise ImageError(f"an image of shape {array.shape} has no pixels")


def _check_floats(unit: NDArray[np.float32]) -> None:
    """Refuse NaN and infinity, and floats that plainly run from 0 to 255."""
    low, high = float(unit.min()), float(unit.max())
    if not np.isfinite([low, high]).all():
        raise ImageError(f"{int((~np.isfinite(unit)).sum())} of {unit.size} values are not finite")
    if low < -2 or high > 3:  # noise reaches past [0, 1], but not that far
        raise ImageError(
            f"a float image with values from {low:g} to {high:g} was given; accepted: [0, 1]",
            hint="Divide by the largest value that it can hold (255 or 65535) first.",
        )
