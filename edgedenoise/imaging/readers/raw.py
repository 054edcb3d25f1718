"""Camera raw files developed to 16-bit RGB by rawpy, which is LibRaw."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgedenoise.errors import ImageError
from edgedenoise.imaging.headers import check_pixel_count
from edgedenoise.imaging.image import Image
from edgedenoise.imaging.layout import Layout
from edgedenoise.imaging.metadata.embedded import Metadata
from edgedenoise.imaging.metadata.ifd import read_ifds
from edgedenoise.imaging.metadata.tiff import camera_metadata
from edgedenoise.imaging.optional import import_io

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgedenoise.imaging.readers.options import ReadOptions

RAW_EXTENSIONS: Final = frozenset(
    {
        ".3fr",
        ".arw",
        ".cr2",
        ".cr3",
        ".crw",
        ".dcr",
        ".dng",
        ".erf",
        ".fff",
        ".iiq",
        ".kdc",
        ".mef",
        ".mos",
        ".mrw",
        ".nef",
        ".nrw",
        ".orf",
        ".pef",
        ".raf",
        ".raw",
        ".rw2",
        ".rwl",
        ".sr2",
        ".srf",
        ".srw",
        ".x3f",
    }
)
"""Extensions of camera raw files."""


def decode_raw(data: bytes, name: str, options: ReadOptions) -> Image:
    """Develop the bytes of a camera raw file; `name` is what messages call it.

    The image has the camera's white balance, the primaries of sRGB, and its curve or none. It is turned upright as
    the camera recorded, without noise reduction, sharpening or automatic brightness.

    Raises:
        ImageError: LibRaw cannot develop the file.
        RuntimeUnavailableError: the `raw` extra is not installed.
        ValueError: the file is damaged.
    """
    rawpy = import_io("rawpy", f"developing the camera raw file {name}")
    linear = options.raw == "linear"
    try:
        with rawpy.imread(BytesIO(data)) as raw:
            check_pixel_count(Layout(raw.sizes.width, raw.sizes.height, 3, 16, False), name, options.max_pixels)
            array: NDArray[Any] = raw.postprocess(
                output_bps=16,
                use_camera_wb=True,
                no_auto_bright=True,
                output_color=rawpy.ColorSpace.sRGB,
                gamma=(1, 1) if linear else (2.4, 12.92),
                fbdd_noise_reduction=rawpy.FBDDNoiseReductionMode.Off,
            )
    except (rawpy.LibRawFileUnsupportedError, rawpy.LibRawUnsupportedThumbnailError) as error:
        raise ImageError(
            f"{name} is a camera raw file of an unknown kind ({_reason(error)}): expected one that LibRaw develops",
            hint="Develop it to a 16-bit TIFF without noise reduction, and without changing its size.",
        ) from error
    except rawpy.LibRawError as error:
        raise ValueError(_reason(error)) from error
    return Image(np.ascontiguousarray(array), None, _metadata(data), "RAW")


def _reason(error: Exception) -> str:
    """Return the message of LibRaw, which rawpy holds as bytes."""
    reason = error.args[0] if error.args else error
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)


def _metadata(data: bytes) -> Metadata:
    """Return the camera's EXIF, where the raw file is a kind of TIFF."""
    try:
        return camera_metadata(read_ifds(data)[0])
    except ValueError:
        return Metadata()
