"""Metadata across formats, as ExifTool reads them: kept where the format can hold them, and named where it cannot."""

from __future__ import annotations

import io
import json
import logging
import struct
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from image_files import ICC, XMP, random_array
from PIL import Image as PILImage
from PIL.PngImagePlugin import PngInfo
from programs import needs

from edgedenoise.imaging.files import open_rows, read_image, write_image, write_rows
from edgedenoise.imaging.image import Image
from edgedenoise.imaging.metadata import jpeg, maker_notes, multi_picture, photoshop, xmp
from edgedenoise.imaging.metadata.embedded import Metadata
from edgedenoise.imaging.metadata.ifd import Ifd, read_ifds, write_ifd
from edgedenoise.imaging.metadata.transfer import losses

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Written = Callable[[Path, Path], None]

PIXELS = random_array((24, 32, 3))
IPTC = b"\x1c\x02\x78\x00\x09a caption\x1c\x02\x19\x00\x05alpha"
OWNER = b"Owner of the camera\x00"


def tags(path: Path, *more: str) -> dict[str, Any]:
    """Return what ExifTool reads."""
    exiftool = needs("exiftool", "libimage-exiftool-perl")
    output = subprocess.check_output([exiftool, "-json", "-G0", "-struct", *more, path])
    found: dict[str, Any] = json.loads(output)[0]
    return found


def canon_exif(at: int | None = None) -> bytes:
    """Return an EXIF block with a maker note as Canon writes it: a directory whose offsets count from the start."""
    note_tags = [(6, 2, b"A camera of Canon\x00"), (7, 2, b"Firmware 1.1.1\x00"), (9, 2, OWNER)]

    def note(base: int) -> bytes:
        head, values = struct.pack("<H", len(note_tags)), b""
        first = base + 2 + 12 * len(note_tags) + 4
        for tag, kind, raw in note_tags:
            head += struct.pack("<HHII", tag, kind, len(raw), first + len(values))
            values += raw
        return head + bytes(4) + values

    def block(base: int) -> bytes:
        camera = Ifd("<", {maker_notes.MAKER_NOTE: (7, len(note(0)), note(base))}, {})
        values = {271: (2, 6, b"Canon\x00"), 272: (2, 15, b"Canon EOS 5D  \x00"), 34665: (4, 1, bytes(4))}
        return write_ifd(Ifd("<", values, {34665: camera}))

    place = read_ifds(block(0))[0].children[34665].note_at if at is None else at
    assert place is not None
    return block(place)


def saved(path: Path, **options: Any) -> Path:
    PILImage.fromarray(PIXELS).save(path, **options)
    return path


def whole(source: Path, target: Path) -> None:
    """Copy an image in memory."""
    write_image(read_image(source), target)


def by_rows(source: Path, target: Path) -> None:
    """Copy an image by rows, as large ones are."""
    pytest.importorskip("pyvips", reason='pip install "edgedenoise[large]"')
    image = open_rows(source)
    assert image is not None
    write_rows(image, target)


# ---------------------------------------------------------------- maker notes


@pytest.mark.parametrize("written", [whole, by_rows])
@pytest.mark.parametrize("endings", ["jpg tif", "jpg tif tif", "jpg tif jpg", "jpg png tif"])
def test_maker_notes_stay_valid_through_tiff(tmp_path: Path, endings: str, written: Written) -> None:
    first, *others = endings.split()
    path = saved(tmp_path / f"0.{first}", exif=b"Exif\x00\x00" + canon_exif())
    assert tags(path)["MakerNotes:OwnerName"] == "Owner of the camera"
    for number, ending in enumerate(others, start=1):
        written(path, tmp_path / f"{number}.{ending}")
        path = tmp_path / f"{number}.{ending}"
        found = tags(path)
        assert found["MakerNotes:OwnerName"] == "Owner of the camera"
        assert found["MakerNotes:CanonFirmwareVersion"] == "Firmware 1.1.1"


def test_a_maker_note_with_offsets_of_its_own_is_not_changed() -> None:
    own = b"Nikon\x00\x02\x10\x00\x00II*\x00" + struct.pack("<IHHHII", 8, 1, 9, 2, len(OWNER), 26) + bytes(4) + OWNER
    assert maker_notes.moved(own, "<", 500, 900) == own
    assert maker_notes.moved(b"\xff" * 40, "<", 500, 900) == b"\xff" * 40
    assert maker_notes.moved(b"", "<", 500, 900) == b""


# ---------------------------------------------------------------- texts


def full_jpeg(path: Path) -> Path:
    """Write a JPEG with IPTC, a comment, a resolution and extended XMP."""
    saved(path, dpi=(300, 300), comment=b"a comment", icc_profile=ICC)
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        b'<dc:description><rdf:Alt><rdf:li xml:lang="x-default">' + b"long " * 20_000 + b"</rdf:li></rdf:Alt>"
        b"</dc:description></rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    meta = replace(read_image(path).metadata, native=(), native_format=None, iptc=IPTC, xmp=packet)
    write_image(Image(PIXELS, metadata=meta), path)
    return path


@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
def test_iptc_comments_extended_xmp_and_resolution_go_across_formats(tmp_path: Path, ending: str) -> None:
    source = full_jpeg(tmp_path / "a.jpg")
    target = tmp_path / f"b.{ending}"
    write_image(read_image(source), target)
    for path in (source, target):
        found = tags(path)
        assert found["IPTC:Caption-Abstract"] == "a caption"
        assert found["IPTC:Keywords"] == "alpha"
        assert found["XMP:Description"].startswith("long long")
        assert len(found["XMP:Description"]) >= 99_999
    found = tags(target)
    comment = {"jpg": "File:Comment", "png": "PNG:Comment", "tif": "EXIF:ImageDescription"}[ending]
    assert found[comment] == "a comment"
    name = {"jpg": "JFIF:XResolution", "png": "PNG:PixelsPerUnitX", "tif": "EXIF:XResolution"}[ending]
    assert found[name] == (11811 if ending == "png" else 300)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_iptc_comes_back_to_jpeg(tmp_path: Path, ending: str) -> None:
    write_image(read_image(full_jpeg(tmp_path / "a.jpg")), tmp_path / f"b.{ending}")
    write_image(read_image(tmp_path / f"b.{ending}"), tmp_path / "c.jpg")
    found = tags(tmp_path / "c.jpg")
    assert found["IPTC:Caption-Abstract"] == "a caption"
    assert len(found["XMP:Description"]) >= 99_999


@pytest.mark.parametrize("ending", ["jpg", "tif", "webp"])
def test_texts_of_png_go_to_the_tags_or_comments_of_other_formats(
    tmp_path: Path, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    texts = PngInfo()
    texts.add_text("Author", "An author")
    texts.add_itxt("Copyright", "© someone")
    texts.add_text("Made with", "a program", zip=True)
    saved(tmp_path / "a.png", pnginfo=texts)
    with caplog.at_level(logging.WARNING):
        write_image(read_image(tmp_path / "a.png"), tmp_path / f"b.{ending}")
    found = tags(tmp_path / f"b.{ending}", "-a")
    if ending == "jpg":
        data = (tmp_path / "b.jpg").read_bytes()
        assert jpeg.read_metadata(jpeg.read_segments(data)).comments == (
            b"Author: An author", "Copyright: © someone".encode(), b"Made with: a program",
        )  # fmt: skip
        assert caplog.messages == []
    else:
        assert found["EXIF:Artist"] == "An author"
        assert found["EXIF:Copyright"] == "© someone"
        assert "text 'Made with'" in caplog.text


def test_a_tag_that_is_there_is_not_replaced_by_a_text() -> None:
    exif = write_ifd(Ifd("<", {315: (2, 6, b"Other\x00")}, {}))
    found = losses(Metadata(exif=exif, texts=(("Author", "An author"),), native_format="PNG"), "TIFF")
    assert found == ("TIFF cannot hold its text 'Author'",)


# ---------------------------------------------------------------- TIFF


def test_geotiff_white_point_and_primaries_stay_in_tiff(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile", reason='pip install "edgedenoise[io]"')
    extra = [
        (318, 5, 2, (3127, 10000, 3290, 10000), True),
        (319, 5, 6, (64, 100, 33, 100, 30, 100, 60, 100, 15, 100, 6, 100), True),
        (33550, 12, 3, (10.0, 10.0, 0.0), True),
        (33922, 12, 6, (0.0, 0.0, 0.0, 440720.0, 3751320.0, 0.0), True),
        (34735, 3, 8, (1, 1, 0, 1, 1024, 0, 1, 1), True),
        (42113, 2, 0, "0", True),
    ]
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb", extratags=extra, metadata=None)
    write_image(read_image(tmp_path / "a.tif"), tmp_path / "b.tif")
    before, after = (tags(tmp_path / name) for name in ("a.tif", "b.tif"))
    for name in ("EXIF:WhitePoint", "EXIF:PrimaryChromaticities", "EXIF:PixelScale", "EXIF:ModelTiePoint"):
        assert after[name] == before[name]
    assert after["GeoTiff:GTModelType"] == before["GeoTiff:GTModelType"]


# ---------------------------------------------------------------- what follows a JPEG

HDR = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"'
    b' xmlns:Container="http://ns.google.com/photos/1.0/container/" xmlns:dc="http://purl.org/dc/elements/1.1/"'
    b' xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" GCamera:MotionPhoto="1" GCamera:Other="2"'
    b' xmlns:Item="http://ns.google.com/photos/1.0/container/item/" hdrgm:Version="1.0" dc:format="image/jpeg">'
    b'<Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource">'
    b'<Container:Item Item:Semantic="Primary" Item:Mime="image/jpeg"/></rdf:li></rdf:Seq></Container:Directory>'
    b"</rdf:Description></rdf:RDF></x:xmpmeta>"
)


def gain_map_jpeg(path: Path) -> tuple[Path, bytes]:
    """Write a JPEG with a gain map behind it, as phones do, and return the gain map."""
    stream = io.BytesIO()
    PILImage.fromarray(PIXELS[::2, ::2, 0]).save(stream, "JPEG")
    gain_map = stream.getvalue()
    saved(path, quality=50, xmp=HDR)
    index = write_ifd(
        Ifd("<", {0xB000: (7, 4, b"0100"), 0xB001: (4, 1, struct.pack("<I", 2)), 0xB002: (7, 32, bytes(32))}, {})
    )
    block = (b"\xff\xe2", multi_picture.PREFIX + index)
    data = jpeg.insert_blocks(path.read_bytes(), (block,))
    base = data.index(multi_picture.PREFIX) + 4
    entries = struct.pack("<IIIHH", 0x20030000, len(data), 0, 0, 0)
    entries += struct.pack("<IIIHH", 0, len(gain_map), len(data) - base, 0, 0)
    at = base + 8  # the entries follow the header of the index
    path.write_bytes(data[:at] + entries + data[at + 32 :] + gain_map)
    return path, gain_map


@pytest.mark.parametrize("written", [whole, by_rows])
def test_a_gain_map_stays_behind_its_image_and_is_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, written: Written
) -> None:
    path, gain_map = gain_map_jpeg(tmp_path / "a.jpg")
    with caplog.at_level(logging.WARNING):
        written(path, tmp_path / "b.jpg")
    data = (tmp_path / "b.jpg").read_bytes()
    assert data.endswith(gain_map)
    found = tags(tmp_path / "b.jpg")
    assert found["MPF:NumberOfImages"] == 2
    exiftool = needs("exiftool", "libimage-exiftool-perl")
    assert subprocess.check_output([exiftool, "-b", "-MPImage2", tmp_path / "b.jpg"]) == gain_map
    lengths = subprocess.check_output([exiftool, "-a", "-s3", "-MPImageLength", tmp_path / "b.jpg"], text=True).split()
    assert lengths == [str(len(data) - len(gain_map)), str(len(gain_map))]
    assert "kept as it is and not denoised" in caplog.text


def test_a_gain_map_that_is_dropped_is_named_and_no_longer_claimed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, _ = gain_map_jpeg(tmp_path / "a.jpg")
    with caplog.at_level(logging.WARNING):
        write_image(read_image(path), tmp_path / "b.png")
    assert "PNG cannot hold the" in caplog.text
    found = tags(tmp_path / "b.png")
    assert found["XMP:Format"] == "image/jpeg"
    claims = ("XMP:Directory", "XMP:MotionPhoto", "XMP:Version")
    assert not [name for name in found if name.startswith(claims)]


@pytest.mark.parametrize("written", [whole, by_rows])
def test_the_video_of_a_motion_photo_stays_behind_its_image(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, written: Written
) -> None:
    video = b"\x00\x00\x00\x18ftypmp42" + bytes(range(256)) * 8
    path = saved(tmp_path / "a.jpg", xmp=HDR)
    path.write_bytes(path.read_bytes() + video)
    written(path, tmp_path / "b.jpg")
    assert (tmp_path / "b.jpg").read_bytes().endswith(video)
    with caplog.at_level(logging.WARNING):
        write_image(read_image(path), tmp_path / "b.webp")
    assert "WEBP cannot hold the video of its motion photo" in caplog.text


def test_an_index_without_its_images_is_left_out(tmp_path: Path) -> None:
    path, gain_map = gain_map_jpeg(tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes()[: -len(gain_map)])
    write_image(read_image(path), tmp_path / "b.jpg")
    assert multi_picture.PREFIX not in (tmp_path / "b.jpg").read_bytes()


@pytest.mark.parametrize("damaged", [b"", b"II*\x00", b"MM\x00*\x00\x00\x00\x08\x00\x00"])
def test_a_damaged_index_is_left_out(damaged: bytes) -> None:
    assert multi_picture.moved_index(damaged, 100, 20, 200, 20) is None


# ---------------------------------------------------------------- what is said


@pytest.mark.parametrize(
    ("format_", "expected"),
    [
        ("BMP", "BMP cannot hold its colour profile, EXIF, XMP, IPTC texts, comments"),
        ("PPM", "PPM cannot hold its colour profile, EXIF, XMP, IPTC texts"),
        ("GIF", "GIF cannot hold its colour profile, EXIF, XMP, IPTC texts"),
        ("WEBP", "WEBP cannot hold its IPTC texts"),
    ],
)
def test_what_a_format_cannot_hold_is_said(format_: str, expected: str) -> None:
    exif = write_ifd(Ifd("<", {315: (2, 6, b"Other\x00")}, {}))
    resources = photoshop.with_iptc(IPTC)
    meta = Metadata(icc=ICC, exif=exif, xmp=XMP, iptc=IPTC, comments=(b"a comment",), photoshop=resources)
    assert losses(meta, format_) == (expected,)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "TIFF"])
def test_nothing_is_said_where_nothing_is_lost(format_: str) -> None:
    assert losses(Metadata(icc=ICC, xmp=XMP, iptc=IPTC, comments=(b"a comment",)), format_) == ()


def test_colours_of_png_that_only_png_states_are_named() -> None:
    stream = io.BytesIO()
    PILImage.fromarray(PIXELS).save(stream, "PNG")
    meta = Metadata(native=((b"gAMA", struct.pack(">I", 100_000)),), native_format="PNG")
    assert losses(meta, "JPEG") == ("JPEG cannot hold its colour chunk gAMA",)


def test_content_credentials_that_denoising_breaks_are_dropped_and_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg")
    path.write_bytes(jpeg.insert_blocks(path.read_bytes(), ((b"\xff\xeb", b"JP\x00\x01" + bytes(20)),)))
    assert read_image(path).metadata.notes == ("its segments APP11 are not kept",)


# ---------------------------------------------------------------- XMP


def test_claims_are_removed_and_all_else_stays() -> None:
    clean = xmp.without_claims(HDR)
    assert b"Container:Directory" not in clean
    assert b"hdrgm:Version" not in clean
    assert b"GCamera:MotionPhoto" not in clean
    assert b'GCamera:Other="2"' in clean
    assert b'dc:format="image/jpeg"' in clean
    assert xmp.without_claims(XMP) == XMP


def test_a_long_packet_is_split_and_joined_again() -> None:
    inner = b'<rdf:Description rdf:about="" a="' + b"x" * 200_000 + b'"/>'
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="r">' + inner + b"</rdf:RDF></x:xmpmeta>"
    main, parts = xmp.split(packet)
    assert len(main) < 1000
    assert max(map(len, parts)) < 65_533
    assert inner in xmp.joined(main, parts)
    assert b"HasExtendedXMP" not in xmp.joined(main, parts)
    assert xmp.joined(main, parts[:-1]) == main  # incomplete


def test_pixels_are_not_touched_by_any_of_this(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png")
    assert np.array_equal(read_image(path).pixels, PIXELS)
