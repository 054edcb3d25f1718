"""Metadata in the segments of JPEG files."""

from __future__ import annotations

import struct

import pytest

from edgedenoise.imaging.metadata import jpeg
from edgedenoise.imaging.metadata.embedded import Metadata

APP0, APP1, APP2 = b"\xff\xe0", b"\xff\xe1", b"\xff\xe2"
EXIF = b"Exif\x00\x00"
ICC = b"ICC_PROFILE\x00"


def jfif(unit: int, horizontal: int, vertical: int) -> tuple[bytes, bytes]:
    return APP0, b"JFIF\x00\x01\x02" + struct.pack(">BHH", unit, horizontal, vertical) + b"\x00\x00"


@pytest.mark.parametrize(
    ("header", "dpi"),
    [
        (jfif(1, 300, 240), (300, 240)),
        (jfif(2, 100, 100), (254, 254)),
        (jfif(0, 1, 2), None),  # the shape of pixels, and no resolution
        (jfif(1, 0, 0), None),
        ((APP0, b"JFXX\x00\x10"), None),
    ],
)
def test_the_header_states_the_resolution(header: tuple[bytes, bytes], dpi: tuple[float, float] | None) -> None:
    assert jpeg.read_metadata([header]).dpi == dpi


def test_long_exif_is_joined_from_its_segments_and_written_back_raw() -> None:
    segments = [(APP1, EXIF + b"first"), (APP1, b"http://ns.adobe.com/xap/1.0/\x00<xmp/>"), (APP1, EXIF + b"second")]
    found = jpeg.read_metadata(segments)
    assert (found.exif, found.xmp) == (b"firstsecond", b"<xmp/>")
    assert jpeg.blocks_of(found) == tuple(segments)


def test_a_profile_is_joined_in_the_order_of_its_numbers_or_left_out_when_a_part_is_missing() -> None:
    parts = [(APP2, ICC + b"\x02\x02b"), (APP2, ICC + b"\x01\x02a")]
    assert jpeg.read_metadata(parts).icc == b"ab"
    assert jpeg.read_metadata(parts[:1]).icc is None


def test_metadata_of_other_formats_becomes_segments() -> None:
    profile = bytes(range(256)) * 600  # three segments
    blocks = jpeg.blocks_of(Metadata(icc=profile, exif=b"II*\x00", xmp=b"<xmp/>", native=((b"tEXt", b""),)))
    assert len(blocks) == 5
    found = jpeg.read_metadata(list(blocks))
    assert (found.icc, found.exif, found.xmp) == (profile, b"II*\x00", b"<xmp/>")


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        (Metadata(exif=bytes(65528)), "expected at most 65533 bytes of EXIF in a JPEG, got 65534"),
        (Metadata(icc=bytes(16_707_346)), "expected a colour profile of at most 16707345 bytes"),
    ],
)
def test_metadata_that_does_not_fit_is_refused(meta: Metadata, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        jpeg.blocks_of(meta)
