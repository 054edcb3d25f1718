"""CMYK converted to RGB through the colour profile of the file, where the caller accepts it."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from PIL import ImageCms

from edgedenoise.errors import ImageError

if TYPE_CHECKING:
    from PIL import Image as PILImage

    from edgedenoise.imaging.readers.options import ReadOptions


def cmyk_to_srgb(image: PILImage.Image, profile: bytes | None, name: str, options: ReadOptions) -> PILImage.Image:
    """Return a CMYK image in sRGB, with the perceptual intent.

    Args:
        image: opened with Pillow, of mode CMYK.
        profile: colour profile of the file.
        name: what messages call it.
        options: what the caller accepts.

    Raises:
        ImageError: the options do not accept CMYK, or the file has no profile for it.
    """
    if profile is None:
        raise ImageError(
            f"{name} is CMYK without a colour profile: expected one that describes its inks, got none",
            hint="Assign the profile of its printing process in an image editor first.",
        )
    if not options.convert_cmyk:
        raise ImageError(
            f"{name} is CMYK: expected grayscale or RGB, got inks",
            hint="Convert it to sRGB through its profile with --convert-cmyk (in Python: convert_cmyk=True).",
        )
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError) as error:
        raise ImageError(
            f"{name} cannot be converted: expected a colour profile of CMYK, got an unusable one ({error})",
            hint="Assign the profile of its printing process in an image editor first.",
        ) from error
    if converted is None:
        raise ImageError(f"{name} cannot be converted: expected an image in sRGB, got none")
    converted.format = image.format
    return converted


def srgb_profile() -> bytes:
    """Return the colour profile of sRGB."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
