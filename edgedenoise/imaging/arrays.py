"""NumPy arrays in `.npy` files, and the conversion between them and images.

`numpy.load` raises a dozen classes for damaged files, and allocates what a header claims before it looks for the data.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.lib import format as npy

from edgedenoise.errors import DamagedImageError
from edgedenoise.imaging.headers import check_pixel_count
from edgedenoise.imaging.image import Image
from edgedenoise.imaging.layout import Layout
from edgedenoise.imaging.metadata.embedded import Metadata

if TYPE_CHECKING:
    from numpy.typing import NDArray

ARRAY_FORMAT: Final = "NPY"
ARRAY_EXTENSION: Final = ".npy"
NUMBERS: Final = "biuf"
"""Kinds of accepted element types: Booleans, integers and floats."""


def is_array_file(head: bytes) -> bool:
    """Return whether a file that begins with these bytes is an `.npy` file."""
    return head.startswith(npy.MAGIC_PREFIX)


def parse_array(data: bytes, kinds: str = NUMBERS) -> NDArray[Any]:
    """Return the array in an `.npy` file; an object, which could contain code, is never read.

    Args:
        data: the whole file.
        kinds: accepted kinds of element types, as NumPy abbreviates them.

    Raises:
        ValueError: the header claims more or less than there is, or the elements are of another kind.
        Exception: whatever NumPy raises for a damaged file.
    """
    stream = BytesIO(data)
    version = npy.read_magic(stream)
    read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in read_header:
        raise ValueError(f"the version {version} of the format is not known")
    shape, _, kind = read_header[version](stream)
    count = 1
    for side in shape:
        count *= side
    if kind.kind not in kinds or kind.hasobject or min(shape, default=0) < 0:
        raise ValueError(f"it has the shape {shape} and the type {kind}")
    if count * kind.itemsize != len(data) - stream.tell():
        raise ValueError(f"it has {len(data) - stream.tell()} bytes of data; expected {count * kind.itemsize}")
    stream.seek(0)
    array: NDArray[Any] = np.load(stream, allow_pickle=False)
    return array


def decode_array(data: bytes, *, name: str, max_pixels: int) -> NDArray[Any]:
    """Return the image in an `.npy` file.

    Args:
        data: the whole file.
        name: what messages call it.
        max_pixels: largest number of pixels that is accepted.

    Returns:
        The array, of any shape; `Denoiser` accepts (H, W), (H, W, 1) and (H, W, 3) of uint8, uint16 or floats.

    Raises:
        ImageError: it has too many pixels.
        DamagedImageError: the file is cut short or corrupt.
    """
    try:
        array = parse_array(data)
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DamagedImageError(
            f"{name} is a damaged {ARRAY_FORMAT} file: {reason}", hint="Write the array again with numpy.save."
        ) from error
    if array.ndim >= 2:
        check_pixel_count(Layout(array.shape[1], array.shape[0], 3, 8, False), name, max_pixels)
    return array


def encode_array(array: NDArray[Any]) -> bytes:
    """Return the bytes of an `.npy` file.

    Example:
        >>> import numpy as np
        >>> array = np.zeros((40, 60, 3), np.uint8)
        >>> decode_array(encode_array(array), name="a.npy", max_pixels=10_000).shape
        (40, 60, 3)
    """
    stream = BytesIO()
    npy.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
    return stream.getvalue()


def image_of_array(array: NDArray[Any]) -> Image:
    """Return an array (H, W), (H, W, 1) or (H, W, 3) as an image without metadata; floats become float32."""
    native = array.astype(np.float32 if array.dtype.kind == "f" else array.dtype.newbyteorder("="), copy=False)
    return Image.from_channels(native, Metadata(), ARRAY_FORMAT)
