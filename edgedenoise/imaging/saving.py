"""Options of written files: which compression replaces the one that an image had in its file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from edgedenoise.errors import UsageError
from edgedenoise.imaging.metadata.encoding import (
    DEFLATE,
    LZW,
    NOT_COMPRESSED,
    JpegEncoding,
    PngEncoding,
    TiffEncoding,
    WebpEncoding,
)

if TYPE_CHECKING:
    from collections.abc import Set

    from edgedenoise.imaging.image import Image
    from edgedenoise.imaging.row_files import ImageRows

TIFF_COMPRESSIONS: Final = {"none": NOT_COMPRESSED, "lzw": LZW, "deflate": DEFLATE}
_PNG_LEVELS: Final = tuple(map(str, range(10)))


@dataclass(frozen=True)
class SaveOptions:
    """How files are compressed. What is None is as the image was in its file, or the default of the format.

    Raises:
        UsageError: a value is not accepted.
    """

    quality: int | None = None
    """Quality of JPEG and WebP, 1 to 100. Default: that of the file, or JPEG at 95 and WebP without loss."""
    compression: str | None = None
    """`none`, `lzw` or `deflate` for TIFF, `0` to `9` for PNG, `lossless` for WebP. Default: that of the file."""

    def __post_init__(self) -> None:
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise UsageError(f"the quality is not accepted: expected 1 to 100, got {self.quality}")
        if self.compression is not None and not self.formats & {"TIFF", "PNG", "WEBP"}:
            accepted = f"{', '.join(TIFF_COMPRESSIONS)} (TIFF), 0 to 9 (PNG), lossless (WebP)"
            raise UsageError(f"the compression is not accepted: expected {accepted}, got {self.compression!r}")
        if self.quality is not None and self.compression == "lossless":
            raise UsageError("a WebP file without loss has no quality: expected one of the two options, got both")

    @property
    def formats(self) -> set[str]:
        """Formats that the options change."""
        found = {"JPEG", "WEBP"} if self.quality is not None else set()
        if self.compression in TIFF_COMPRESSIONS:
            found.add("TIFF")
        elif self.compression in _PNG_LEVELS:
            found.add("PNG")
        elif self.compression == "lossless":
            found.add("WEBP")
        return found

    def check_for(self, formats: Set[str]) -> None:
        """Check that each option is for a format of the outputs.

        Raises:
            UsageError: it is for none.
        """
        given = {
            f"--quality {self.quality}": SaveOptions(self.quality).formats,
            f"--compression {self.compression}": SaveOptions(compression=self.compression).formats,
        }
        for option, expected in given.items():
            if expected and not expected & formats:
                raise UsageError(
                    f"{option} is for no output: expected outputs in {' or '.join(sorted(expected))}, "
                    f"got {', '.join(sorted(formats))}"
                )

    def jpeg(self, image: Image | ImageRows) -> JpegEncoding:
        """Return the compression of a JPEG file."""
        kept = image.encoding if isinstance(image.encoding, JpegEncoding) else JpegEncoding()
        return kept if self.quality is None else replace(kept, quality=self.quality, tables=())

    def webp(self, image: Image | ImageRows) -> WebpEncoding:
        """Return the compression of a WebP file."""
        if self.compression == "lossless":
            return WebpEncoding()
        if self.quality is not None:
            return WebpEncoding(self.quality)
        return image.encoding if isinstance(image.encoding, WebpEncoding) else WebpEncoding()

    def png(self, image: Image | ImageRows) -> PngEncoding:
        """Return the compression of a PNG file."""
        if self.compression in _PNG_LEVELS:
            return PngEncoding(int(self.compression or 0))
        return image.encoding if isinstance(image.encoding, PngEncoding) else PngEncoding()

    def tiff(self, image: Image | ImageRows) -> TiffEncoding:
        """Return the compression of a TIFF file."""
        if self.compression in TIFF_COMPRESSIONS:
            return TiffEncoding(TIFF_COMPRESSIONS[self.compression or ""], predictor=True)
        return image.encoding if isinstance(image.encoding, TiffEncoding) else TiffEncoding()


AS_READ: Final = SaveOptions()
"""Files are compressed as the images were in theirs."""
