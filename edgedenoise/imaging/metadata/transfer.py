"""Metadata carried from one format to another: what the other format cannot hold, in words."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from edgedenoise.imaging.metadata import jpeg, photoshop, png, tiff, xmp
from edgedenoise.imaging.metadata.exif import text_values
from edgedenoise.imaging.metadata.ifd import read_ifds

if TYPE_CHECKING:
    from edgedenoise.imaging.metadata.embedded import Metadata

_NAMES: Final = {
    "icc": "colour profile",
    "exif": "EXIF",
    "xmp": "XMP",
    "iptc": "IPTC texts",
    "comments": "comments",
    "texts": "texts",
    "dpi": "resolution",
}
_HELD: Final = {
    "JPEG": frozenset(_NAMES),
    "PNG": frozenset(_NAMES),
    "TIFF": frozenset({"icc", "exif", "xmp", "iptc", "dpi"}),
    "WEBP": frozenset({"icc", "exif", "xmp", "dpi"}),
    "HEIF": frozenset({"icc", "exif", "xmp", "dpi"}),
    "AVIF": frozenset({"icc", "exif", "xmp", "dpi"}),
    "BMP": frozenset({"dpi"}),
    "GIF": frozenset({"comments"}),
    "PPM": frozenset({"comments"}),
}
_IN_EXIF: Final = frozenset({"AVIF", "HEIF", "TIFF", "WEBP"})
"""Formats that hold common comments and texts as tags of EXIF."""
_SRGB_REPLACES: Final = frozenset({b"gAMA", b"cHRM"})
"""Chunks that only repeat what a chunk `sRGB` beside them states."""


def transferred(metadata: Metadata, format_: str) -> Metadata:
    """Return the metadata to write in a format: XMP no longer claims what the file will not have."""
    if metadata.xmp is None or metadata.native_format == format_:
        return metadata
    return replace(metadata, xmp=xmp.without_claims(metadata.xmp))


def losses(metadata: Metadata, format_: str) -> tuple[str, ...]:
    """Return what is missing or not denoised in a file of a format, each as a sentence.

    Args:
        metadata: the metadata of an image.
        format_: format of the file to write.
    """
    found = list(metadata.notes)
    if format_ == metadata.native_format:
        found += metadata.native_notes
    held = _HELD.get(format_, frozenset())
    missing = [name for field, name in _NAMES.items() if getattr(metadata, field) and field not in held]
    if format_ in _IN_EXIF:
        missing = [name for name in missing if name not in {"comments", "texts"}]
        missing += [f"text {keyword!r}" for keyword in _texts_left(metadata)]
    if metadata.photoshop and format_ not in {"JPEG", "TIFF"} and not _is_iptc_alone(metadata):
        missing.append("Photoshop's image resources")
    if format_ != metadata.native_format:
        missing += _only_native(metadata)
    if format_ == "TIFF" and metadata.exif:
        missing += tiff.left_of_exif(metadata.exif)
    if missing:
        found.append(f"{format_} cannot hold its {', '.join(missing)}")
    trailer = _trailer(metadata)
    if trailer and format_ != "JPEG":
        found.append(f"{format_} cannot hold the {trailer}")
    elif trailer:
        found.append(f"the {trailer} is kept as it is and not denoised")
    return tuple(found)


def _only_native(metadata: Metadata) -> tuple[str, ...]:
    """Return the names of what only the format holds that the metadata were read from."""
    if metadata.native_format == "JPEG":
        return jpeg.only_in_jpeg(metadata)
    if metadata.native_format != "PNG":
        return ()
    kinds = {kind for kind, _ in metadata.native}
    colours = () if metadata.icc else png.COLOURS & kinds - (_SRGB_REPLACES if b"sRGB" in kinds else frozenset())
    return (*(f"colour chunk {kind.decode()}" for kind in sorted(colours)), *png.only_in_png(metadata.native))


def _texts_left(metadata: Metadata) -> tuple[str, ...]:
    try:
        present = read_ifds(metadata.exif)[0].values if metadata.exif else {}
    except ValueError:
        present = {}
    return text_values(metadata, present)[1]


def _is_iptc_alone(metadata: Metadata) -> bool:
    return metadata.iptc is not None and metadata.photoshop == photoshop.with_iptc(metadata.iptc)


def _trailer(metadata: Metadata) -> str | None:
    """Return what follows the image in a JPEG file, in words; None where it is padding."""
    trailer, packet = metadata.trailer, metadata.xmp or b""
    if trailer is None or not trailer.data.strip(b"\x00\xff"):
        return None
    if b"ftyp" in trailer.data[: 1 << 16] or b"MotionPhoto" in packet or b"MicroVideo" in packet:
        return "video of its motion photo"
    if b"hdr-gain-map" in packet or b"hdrgm" in trailer.data[: 1 << 16]:
        return "gain map for bright screens (HDR)"
    return "second image" if trailer.index_at is not None else "data behind its image"
