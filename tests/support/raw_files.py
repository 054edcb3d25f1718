"""Camera raw files made with tifffile, for tests of the raw reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tifffile
from image_files import random_array
from tiff_files import mosaic

if TYPE_CHECKING:
    from pathlib import Path

PREVIEW = random_array((16, 24, 3))
MOSAIC = 32803
BAYER = [(33421, 3, 2, (2, 2), True), (33422, 1, 4, b"\x00\x01\x01\x02", True)]


def nef(path: Path) -> Path:
    """Write a file as Nikon lays it out: a preview first, and the mosaic as its sub-image."""
    with tifffile.TiffWriter(path) as file:
        made = [(271, 2, 0, "NIKON CORPORATION", True), (272, 2, 0, "NIKON D850", True)]
        file.write(PREVIEW, photometric="rgb", subfiletype=1, subifds=1, metadata=None, extratags=made)
        file.write(mosaic(), photometric=MOSAIC, metadata=None, extratags=BAYER)
    return path


def dng(path: Path, orientation: int = 1) -> Path:
    """Write a DNG of one page: an upright mosaic of 14 bits with neutral colours."""
    matrix = (3240454, -1537138, -498531, -969266, 1876010, 41556, 55643, -204026, 1057225)  # XYZ to sRGB
    tags = [
        (271, 2, 0, "A camera maker", True),
        (272, 2, 0, "A camera", True),
        (274, 3, 1, orientation, True),
        (50706, 1, 4, b"\x01\x04\x00\x00", True),
        (50708, 2, 0, "A camera", True),
        (50714, 3, 1, 0, True),
        (50717, 4, 1, 16383, True),
        (50721, 10, 9, tuple(part for value in matrix for part in (value, 1_000_000)), True),
        (50728, 5, 3, (3, 2, 1, 1, 3, 4), True),  # white of the camera
        (50778, 3, 1, 21, True),  # daylight
        *BAYER,
    ]
    tifffile.imwrite(path, mosaic(), photometric=MOSAIC, metadata=None, extratags=tags)
    return path
