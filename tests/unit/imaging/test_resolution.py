"""The resolution (DPI) of an image survives every change of format, and none is invented."""

from __future__ import annotations

import io
import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image as PILImage

from edgedenoise.imaging.codecs import encode_image
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.image import Image
from edgedenoise.imaging.metadata.embedded import Metadata
from edgedenoise.imaging.metadata.exif import exif_dpi, with_dpi
from edgedenoise.imaging.metadata.ifd import read_ifds
from edgedenoise.imaging.pillow import from_pil
from edgedenoise.imaging.readers.decoding import decode_image

if TYPE_CHECKING:
    from pathlib import Path

FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP")
PAIRS = list(itertools.product(FORMATS, FORMATS))
PIXELS = np.random.default_rng(0).integers(0, 256, (9, 14, 3), np.uint8)
MAKER_NOTE = b"maker note \x00\x01\xff" * 20


def exif_block(dpi: tuple[float, float] | None = None) -> bytes:
    exif = PILImage.Exif()
    exif[0x010F] = "A camera maker"
    if dpi is not None:
        exif[282], exif[283], exif[296] = *dpi, 2
    exif.get_ifd(0x8769)[0x927C] = MAKER_NOTE
    return exif.tobytes().removeprefix(b"Exif\x00\x00")


def by_pillow(format_: str, dpi: tuple[int, int]) -> bytes:
    """A file of another program."""
    stream = io.BytesIO()
    extra = {"exif": exif_block(dpi)} if format_ == "WEBP" else {"dpi": dpi}
    PILImage.fromarray(PIXELS).save(stream, format_, **extra)
    return stream.getvalue()


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_dpi_survives_a_change_of_format(source: str, target: str) -> None:
    given = decode_image(by_pillow(source, (300, 240)))
    assert given.metadata.dpi == pytest.approx((300, 240), abs=0.02)
    data = encode_image(given, target)
    assert decode_image(data).metadata.dpi == pytest.approx((300, 240), abs=0.02)
    with PILImage.open(io.BytesIO(data)) as seen:  # other programs find it, too
        found = seen.info.get("dpi") or (float(seen.getexif()[282]), float(seen.getexif()[283]))
    assert [round(float(value)) for value in found] == [300, 240]


@pytest.mark.parametrize("exif", [None, exif_block()], ids=["no EXIF", "EXIF without a resolution"])
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_no_dpi_is_invented(source: str, target: str, exif: bytes | None) -> None:
    given = decode_image(encode_image(Image(PIXELS, metadata=Metadata(exif=exif)), source))
    assert given.metadata.dpi is None
    data = encode_image(given, target)
    assert decode_image(data).metadata.dpi is None
    with PILImage.open(io.BytesIO(data)) as seen:
        assert 282 not in seen.getexif()
        assert from_pil(seen).metadata.dpi is None


def test_dpi_in_exif_alone_is_found_and_written_where_the_format_states_it() -> None:
    given = Image(PIXELS, metadata=Metadata(exif=exif_block((180, 180))))
    jpeg = decode_image(encode_image(given, "JPEG"))
    assert jpeg.metadata.dpi == (180, 180)
    assert decode_image(encode_image(jpeg, "BMP")).metadata.dpi == pytest.approx((180, 180), abs=0.02)


def test_a_resolution_per_centimetre_is_converted() -> None:
    stream = io.BytesIO()
    tags = {282: 100.0, 283: 100.0, 296: 3}
    PILImage.fromarray(PIXELS).save(stream, "TIFF", tiffinfo=tags)
    given = decode_image(stream.getvalue())
    assert given.metadata.dpi == (254, 254)
    kept = read_ifds(encode_image(given, "TIFF"))[0]
    assert (kept.numbers(296), kept.dpi()) == ((3,), (254, 254))  # as it was stated


@pytest.mark.parametrize("stated", [None, (72, 72)])
def test_a_resolution_is_added_to_exif_without_moving_maker_notes(stated: tuple[int, int] | None) -> None:
    before = exif_block(stated)
    after = with_dpi(before, (299.9994, 300))
    assert exif_dpi(after) == pytest.approx((299.9994, 300))
    assert after.index(MAKER_NOTE) == before.index(MAKER_NOTE)
    camera = read_ifds(after)[0]
    assert camera.raw(0x010F) == b"A camera maker\x00"
    assert camera.children[0x8769].raw(0x927C) == MAKER_NOTE


def test_exif_that_states_it_already_or_is_damaged_is_not_changed() -> None:
    same = exif_block((300, 300))
    assert with_dpi(same, (299.9994, 299.9994)) is same
    assert with_dpi(b"damaged", (300, 300)) == b"damaged"


def test_a_resolution_that_no_jpeg_can_hold_is_left_out(tmp_path: Path) -> None:
    PILImage.fromarray(PIXELS).save(tmp_path / "a.png", dpi=(100_000, 100_000))
    write_image(read_image(tmp_path / "a.png"), tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg").metadata.dpi is None
