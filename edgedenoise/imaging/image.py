"""Images in memory: the class `Image`, and the conversion between its integers and floats in [0, 1]."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedenoise.errors import ImageError
from edgedenoise.imaging.hidden import fill_hidden
from edgedenoise.imaging.layout import Layout
from edgedenoise.imaging.metadata.embedded import Metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from edgedenoise.imaging.metadata.encoding import Encoding

    Pixels = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]


_BAND_SAMPLES = 1 << 17
_GRAY_ROWS = 64


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames or pages that follow an image in its file. They are decoded one at a time, on every iteration."""

    count: int = 0
    """Number of frames."""
    start: Callable[[], Iterator[Image]] = lambda: iter(())
    """Begins an iteration."""

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Image]:
        return self.start()

    def map(self, function: Callable[[Image], Image]) -> Frames:
        """Return the frames that `function` makes of these, one at a time."""
        return Frames(self.count, lambda: map(function, self))


@dataclass(frozen=True, eq=False)
class Image:
    """An image as its file stores it: pixels, alpha and embedded metadata.

    Raises:
        ImageError: the arrays are not of the shapes and types below.

    Example:
        >>> import numpy as np
        >>> image = Image(np.zeros((40, 60, 3), np.uint8))
        >>> image.height, image.width, image.channels, image.bits
        (40, 60, 3, 8)
    """

    pixels: Pixels
    """(H, W, C), uint8 or uint16 over its full range, or float32 in [0, 1]; C is 1 (grayscale) or 3 (RGB)."""
    alpha: Pixels | None = None
    """(H, W), same type as `pixels`, or None. Denoising leaves it as it is."""
    metadata: Metadata = field(default_factory=Metadata)
    """Colour profile, EXIF, XMP and the like. Denoising leaves it as it is."""
    format: str = "PNG"
    """Format of the file that the image was read from: one of the values of `EXTENSIONS`, or RAW."""
    encoding: Encoding | None = None
    """How the file compressed its pixels; None where it is not known. It is used again in the same format."""
    following: Frames = field(default_factory=Frames)
    """Further frames of an animation, or pages of a document."""

    def __post_init__(self) -> None:
        _check_array(self.pixels, stored=True)
        if self.pixels.ndim != 3:
            raise ImageError(
                f"the pixels have the wrong shape: expected (H, W, 1) or (H, W, 3), got {self.pixels.shape}",
                hint="Add the axis of channels: pixels[..., None].",
            )
        alpha = self.alpha
        if alpha is not None and (alpha.shape != self.pixels.shape[:2] or alpha.dtype != self.pixels.dtype):
            raise ImageError(
                f"alpha does not match the pixels: expected {self.pixels.dtype} {self.pixels.shape[:2]}, "
                f"got {alpha.dtype} {alpha.shape}"
            )

    @classmethod
    def from_channels(cls, array: NDArray[Any], metadata: Metadata, format_: str) -> Image:
        """Return an image of an array (H, W) or (H, W, 1..4); of 2 and 4 channels the last is alpha."""
        if array.ndim == 2:
            array = array[..., None]
        if array.shape[2] in {2, 4}:
            pixels, alpha = array[..., :-1], array[..., -1]
            return cls(np.ascontiguousarray(pixels), np.ascontiguousarray(alpha), metadata, format_)
        return cls(array, None, metadata, format_)

    def to_channels(self) -> Pixels:
        """Return one array (H, W, 1..4), with alpha as the last channel when there is one."""
        if self.alpha is None:
            return self.pixels
        joined: Pixels = np.concatenate([self.pixels, self.alpha[..., None]], axis=2)
        return joined

    @property
    def height(self) -> int:
        """Number of rows."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Number of columns."""
        return int(self.pixels.shape[1])

    @property
    def channels(self) -> int:
        """Number of channels without alpha: 1 (grayscale) or 3 (RGB)."""
        return int(self.pixels.shape[2])

    @property
    def bits(self) -> int:
        """Bits per sample: 8 or 16, or 32 for floats."""
        return self.pixels.dtype.itemsize * 8

    @property
    def pixels_sha256(self) -> str:
        """SHA-256 of the decoded pixels, their shape and depth; the same whatever file they came from."""
        pixels = np.ascontiguousarray(self.pixels)
        digest = hashlib.sha256(f"{pixels.shape} {pixels.dtype}".encode())
        digest.update(pixels.data)
        return digest.hexdigest()

    @property
    def layout(self) -> Layout:
        """Size, channels and depth."""
        return Layout(self.width, self.height, self.channels, self.bits, self.alpha is not None)

    def crop(self, top: int, left: int, side: int) -> Image:
        """Return a square part of at most `side` pixels, as far as the image reaches, with the same metadata."""
        part = (slice(top, top + side), slice(left, left + side))
        pixels: Any = self.pixels[part].copy()
        alpha: Any = None if self.alpha is None else self.alpha[part].copy()
        return replace(self, pixels=pixels, alpha=alpha, following=Frames())

    def followed_by(self, frames: Iterable[Image]) -> Image:
        """Return the same image with other frames or pages behind it; all of them are held in memory."""
        held = tuple(frames)
        return replace(self, following=Frames(len(held), lambda: iter(held)))

    def unit(self) -> NDArray[np.float32]:
        """Return the pixels as float32 (H, W, 3) in [0, 1], grayscale replicated.

        Fully transparent pixels take the colours of the visible ones near them, so that a network does not mix the
        colours that are stored there into what is seen.
        """
        unit = to_unit(self.pixels)
        return unit if self.alpha is None else fill_hidden(unit, self.alpha > 0)

    def with_unit(self, unit: NDArray[np.floating[Any]]) -> Image:
        """Return the same image with new pixels, without the frames that follow it.

        Args:
            unit: (H, W, 3) in [0, 1]. Values are clipped and rounded half up to the image's depth; a grayscale image
                takes the mean of the three channels, also one that is stored as RGB.

        Returns:
            An image with the alpha and metadata of this one, and its colours where it is fully transparent.

        Raises:
            ImageError: `unit` has another size, or values that are not finite.
        """
        if unit.shape != (self.height, self.width, 3):
            raise ImageError(f"the new pixels do not fit: expected ({self.height}, {self.width}, 3), got {unit.shape}")
        visible = None if self.alpha is None else self.alpha > 0
        pixels = from_unit_like(unit, self.pixels, visible)
        if visible is not None:
            pixels = np.where(visible[..., None], pixels, self.pixels)
        return replace(self, pixels=pixels, following=Frames())


def to_unit(array: NDArray[Any]) -> NDArray[np.float32]:
    """Return an array as float32 (H, W, 3) in [0, 1], grayscale replicated to three channels.

    Args:
        array: (H, W), (H, W, 1) or (H, W, 3); uint8 and uint16 are divided by their full range (255, 65535),
            both in either byte order. Float arrays are expected in [0, 1] and not changed.

    Returns:
        A new array whose channels lie one after another in memory, as networks take them. Floats may lie outside
        [0, 1], as noise does, down to -2 and up to 3.

    Raises:
        ImageError: the array has another shape or type, is masked, or has floats that are not finite or further
            outside [0, 1].
    """
    _check_array(array, stored=False)
    channels = array[..., None] if array.ndim == 2 else array
    planes = np.empty((3, *array.shape[:2]), np.float32)
    for number, plane in enumerate(planes):
        plane[:] = channels[..., min(number, channels.shape[2] - 1)]
        if array.dtype.kind == "u":  # white becomes 1 exactly, in 8 and in 16 bits
            plane *= np.float32(1 / np.iinfo(array.dtype).max)
    unit = planes.transpose(1, 2, 0)
    if array.dtype.kind == "f":
        _check_floats(unit)
    return unit


def check_pixels(array: NDArray[Any]) -> None:
    """Check that an array is an image that `to_unit` accepts, without making another array.

    Raises:
        ImageError: as `to_unit`.
    """
    _check_array(array, stored=False)
    if array.dtype.kind == "f":
        _check_floats(array)


def from_unit(unit: NDArray[np.floating[Any]], like: Any, channels: int = 3) -> NDArray[Any]:
    """Return float (H, W, 3) in [0, 1] as another type: the inverse of `to_unit`.

    Args:
        unit: (H, W, 3); values outside [0, 1] are clipped.
        like: uint8, uint16 (full range, rounded half up), or a float type.
        channels: 3, or 1 for the mean of the three channels.

    Returns:
        (H, W, channels) of type `like`.

    Raises:
        ImageError: `unit` has another shape or type or values that are not finite, or `like` or `channels` is none of
            the above.
    """
    dtype = np.dtype(like)
    if unit.ndim != 3 or unit.shape[2] != 3 or unit.dtype.kind != "f":
        raise ImageError(f"the array cannot become pixels: expected floats (H, W, 3), got {unit.dtype} {unit.shape}")
    if channels not in {1, 3}:
        raise ImageError(f"the number of channels is not accepted: expected 1 or 3, got {channels}")
    if dtype.kind != "f" and not _is_integer(dtype):
        raise ImageError(f"the type of pixels is not accepted: expected uint8, uint16 or float, got {dtype}")
    pixels = np.empty((*unit.shape[:2], channels), dtype)
    rows = max(1, _BAND_SAMPLES // max(unit.shape[1] * 3, 1))
    for top in range(0, unit.shape[0], rows):  # bands stay in the cache, and no second copy of the image is made
        band = _band_from_unit(unit[top : top + rows], dtype, channels)
        for channel in range(channels):  # long rows are copied faster than groups of three
            pixels[top : top + rows, :, channel] = band[..., channel]
    return pixels


def _band_from_unit(unit: NDArray[np.floating[Any]], dtype: np.dtype[Any], channels: int) -> NDArray[Any]:
    """Return rows of an image as floats that truncation turns into pixels."""
    if not np.isfinite([unit.min(initial=0), unit.max(initial=0)]).all():  # both are NaN if any value is
        raise ImageError(_not_finite(unit))
    clipped: NDArray[Any] = np.clip(unit, 0, 1, dtype=np.result_type(unit, np.float32))  # half floats cannot hold 65535
    if channels == 1:
        clipped = clipped.mean(axis=2, keepdims=True)
    if dtype.kind == "u":
        clipped *= np.iinfo(dtype).max
        clipped += 0.5  # the cast truncates, so this rounds half up
    return clipped


def from_unit_like(
    unit: NDArray[np.floating[Any]], array: NDArray[Any], visible: NDArray[np.bool_] | None = None
) -> NDArray[Any]:
    """Return float (H, W, 3) in [0, 1] with the shape, type and number of colours of an array.

    Args:
        unit: (H, W, 3); values outside [0, 1] are clipped.
        array: (H, W), (H, W, 1) or (H, W, 3) that `to_unit` accepts. Where its three channels are equal everywhere,
            those of the result are equal too.
        visible: (H, W), the pixels that count for that; None for all.

    Raises:
        ImageError: as `from_unit`.
    """
    channels = array[..., None] if array.ndim == 2 else array
    gray = is_gray(channels, visible)
    return from_unit_as(unit, array.dtype, channels.shape[2], gray=gray).reshape(array.shape)


def from_unit_as(unit: NDArray[np.floating[Any]], dtype: np.dtype[Any], channels: int, *, gray: bool) -> NDArray[Any]:
    """Return float (H, W, 3) in [0, 1] as stored pixels (H, W, channels) of a type; of a gray image, all are equal."""
    if not gray:
        return from_unit(unit, dtype)
    one = from_unit(unit, dtype, channels=1)
    return one if channels == 1 else one.repeat(channels, axis=2)


def is_gray(pixels: NDArray[Any], visible: NDArray[np.bool_] | None = None) -> bool:
    """Return whether (H, W, C) has one channel, or three that are equal wherever they are visible."""
    if pixels.shape[2] == 1:
        return True
    for top in range(0, pixels.shape[0], _GRAY_ROWS):  # most images of colours show it at once
        part = np.s_[top : top + _GRAY_ROWS]
        red, green, blue = (pixels[part][..., channel] for channel in range(3))
        equal = (red == green) & (green == blue)
        if not (equal if visible is None else equal | ~visible[part]).all():
            return False
    return True


def _check_array(array: NDArray[Any], *, stored: bool) -> None:
    """Raise when an array is not an image with one or three channels."""
    if not isinstance(array, np.ndarray):
        raise ImageError(f"the image is of the wrong type: expected a numpy array, got {type(array).__name__}")
    accepted = "uint8, uint16 or float32 in [0, 1]" if stored else "uint8, uint16 or float in [0, 1]"
    if isinstance(array, np.ma.MaskedArray):
        raise ImageError(
            "the image is of the wrong type: expected a numpy array, got a masked one, whose masked pixels are unknown",
            hint="Fill them in first: array.filled(value).",
        )
    floating = array.dtype == np.float32 if stored else array.dtype.kind == "f"
    if not _is_integer(array.dtype) and not floating:
        raise ImageError(f"the image has the wrong type of pixels: expected {accepted}, got {array.dtype}")
    if array.ndim not in {2, 3} or (array.ndim == 3 and array.shape[2] not in {1, 3}):
        hint = None
        if array.ndim == 3 and array.shape[2] in {2, 4}:
            hint = "Alpha is not denoised: pass array[..., :-1], and keep array[..., -1]."
        elif array.ndim == 3 and array.shape[0] in {1, 3}:
            hint = "Channels come last: pass array.transpose(1, 2, 0)."
        elif array.ndim == 4:
            hint = "Pass one image at a time: for image in array."
        raise ImageError(
            f"the image has the wrong shape: expected (H, W), (H, W, 1) or (H, W, 3), got {array.shape}", hint=hint
        )
    if array.size == 0:
        raise ImageError(f"the image has no pixels: expected at least 1 x 1, got the shape {array.shape}")


def _is_integer(dtype: np.dtype[Any]) -> bool:
    """Return whether pixels of a type are stored as integers, in either byte order."""
    return dtype.kind == "u" and dtype.itemsize <= 2


def _check_floats(unit: NDArray[Any]) -> None:
    """Raise on NaN and infinity, and on floats that evidently run from 0 to 255."""
    low, high = float(unit.min()), float(unit.max())
    if not np.isfinite([low, high]).all():
        raise ImageError(_not_finite(unit))
    if low < -2 or high > 3:  # noise reaches past [0, 1], but not that far
        raise ImageError(
            f"the values of the float image are out of range: expected [0, 1], got {low:g} to {high:g}",
            hint="Divide the image by the largest value that it can hold first (255 or 65535).",
        )


def _not_finite(unit: NDArray[Any]) -> str:
    bad = int((~np.isfinite(unit)).sum())
    return f"the image has invalid values: expected finite numbers, got {bad} of {unit.size} that are not"
