"""PBM, PGM and PPM files decoded to `Image`: up to 8 bits by Pillow, 16 bits here."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edgedenoise.imaging.image import Image
from edgedenoise.imaging.metadata import pnm
from edgedenoise.imaging.metadata.embedded import Metadata
from edgedenoise.imaging.pillow import from_pil, open_with_pillow

if TYPE_CHECKING:
    from edgedenoise.imaging.readers.options import ReadOptions


def decode_pnm(data: bytes, name: str, options: ReadOptions) -> Image:  # noqa: ARG001  (as all readers)
    """Decode the bytes of a PBM, PGM or PPM file; `name` is what messages call it.

    Raises:
        ValueError: the file is damaged.
    """
    header = pnm.read_header(data)
    metadata = Metadata(comments=header.comments, notes=pnm.notes(data, header))
    if header.white > 255:
        return Image(pnm.read_16_bits(data, header), None, metadata, "PPM")
    return replace(from_pil(open_with_pillow(data, "PPM", name), name=name), metadata=metadata)
