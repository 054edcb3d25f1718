"""Large images that are read and written by rows, with their metadata."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgedenoise.imaging.layout import Layout

if TYPE_CHECKING:
    from edgedenoise.imaging.metadata.embedded import Metadata
    from edgedenoise.imaging.metadata.encoding import Encoding
    from edgedenoise.imaging.pixel_rows import PixelRows


@dataclass(frozen=True, eq=False)
class ImageRows:
    """An image without alpha whose pixels are read by rows: from a file, or from a network that computes them."""

    pixels: PixelRows
    """Pixels as they are stored."""
    metadata: Metadata
    """Colour profile, EXIF, XMP and the like."""
    format: str
    """Format of the file that the image is read from."""
    encoding: Encoding | None = None
    """How the file compressed its pixels; None where it is not known."""

    @property
    def layout(self) -> Layout:
        """Size, channels and depth."""
        pixels = self.pixels
        return Layout(pixels.width, pixels.height, pixels.channels, pixels.dtype.itemsize * 8, False)
