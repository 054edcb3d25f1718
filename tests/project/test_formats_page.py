"""The tables of docs/reference/formats.md are what files hold that are written and read again."""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import ImageCms, features

from edgedenoise.errors import ImageError
from edgedenoise.imaging.files import EXTENSIONS, read_image, write_image
from edgedenoise.imaging.image import Image
from edgedenoise.imaging.metadata.embedded import FrameTiming, Metadata
from edgedenoise.imaging.metadata.ifd import Ifd, read_ifds, write_ifd

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "formats.md"
NAMES = {"HEIF": "HEIC", "WEBP": "WebP", "PNG": "PNG, APNG", "PPM": "PPM, PGM"}
FORMATS = sorted(set(EXTENSIONS.values()), key=lambda name: NAMES.get(name, name).lower())
Y, X = np.mgrid[0:40, 0:56]
NOISE = np.random.default_rng(0).integers(0, 12, (40, 56, 3))
SMOOTH = (np.dstack([X * 4, Y * 6, X + Y]) + NOISE).astype(np.uint8)
GRAY = SMOOTH[..., :1]
ALPHA = (X * 4 + NOISE[..., 0]).astype(np.uint8)
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"></x:xmpmeta>'
IPTC = b"\x1c\x02\x78\x00\x09a caption"
NOTE_TEXT = b"A firmware of a camera\x00"


def exif_with_note() -> bytes:
    """Return an EXIF block with a maker note whose offset counts from the start of the block."""

    def block(base: int) -> bytes:
        note = struct.pack("<HHHII", 1, 7, 2, len(NOTE_TEXT), base + 18) + bytes(4) + NOTE_TEXT
        camera = Ifd("<", {37500: (7, len(note), note)}, {})
        return write_ifd(Ifd("<", {271: (2, 6, b"Canon\x00"), 34665: (4, 1, bytes(4))}, {34665: camera}))

    return block(read_ifds(block(0))[0].children[34665].note_at or 0)


def has_note(exif: bytes | None) -> bool:
    """Return whether the offset in the maker note of an EXIF block leads to its text."""
    note = read_ifds(exif)[0].children[34665].raw(37500) if exif else None
    if not exif or not note:
        return False
    (offset,) = struct.unpack_from("<I", note, 10)
    return exif[offset : offset + len(NOTE_TEXT)] == NOTE_TEXT


def round_trip(folder: Path, format_: str, image: Image) -> Image | None:
    """Return an image written in a format and read again; None where the format refuses it."""
    ending = next(key for key, value in EXTENSIONS.items() if value == format_)
    path = folder / f"a{ending}"
    try:
        write_image(image, path)
    except ImageError:
        return None
    return read_image(path, frames=True)


def compared(expected: np.ndarray, found: np.ndarray | None) -> str:
    if found is None or found.dtype != expected.dtype:
        return "-"
    if found.shape[2:] == (3,) and expected.shape[2:] == (1,):
        return f"{compared(np.repeat(expected, 3, axis=2), found)} (as RGB)"
    if np.array_equal(found, expected):
        return "exact"
    white = np.iinfo(expected.dtype).max if expected.dtype.kind == "u" else 1
    assert np.abs(found.astype(float) - expected.astype(float)).mean() / white < 0.02
    return "close"


def depth_cell(folder: Path, format_: str, pixels: np.ndarray) -> str:
    again = round_trip(folder, format_, Image(pixels))
    return compared(pixels, None if again is None else again.pixels)


def alpha_cell(folder: Path, format_: str) -> str:
    again = round_trip(folder, format_, Image(SMOOTH, ALPHA))
    if again is None or again.alpha is None:
        return "-"
    return "on or off" if set(np.unique(again.alpha)) == {0, 255} else compared(ALPHA, again.alpha)


def frames_cell(folder: Path, format_: str) -> str:
    second = Image(SMOOTH[::-1].copy())
    timings = [FrameTiming(Fraction(1, 10), "keep", 3), FrameTiming(Fraction(1, 4), "keep", 3)]
    images = (Image(SMOOTH), second)
    frames = [replace(frame, metadata=Metadata(timing=time)) for frame, time in zip(images, timings, strict=True)]
    moving = round_trip(folder, format_, frames[0].followed_by(frames[1:]))
    if moving is not None and len(moving.following) == 1:
        assert [frame.metadata.timing for frame in (moving, *moving.following)] == timings
        return "frames"
    paged = round_trip(folder, format_, Image(SMOOTH).followed_by([second]))
    return "pages" if paged is not None and len(paged.following) == 1 else "-"


METADATA: dict[str, tuple[Metadata, Callable[[Metadata], bool]]] = {
    "colour profile": (Metadata(icc=ICC), lambda found: found.icc == ICC),
    "EXIF": (Metadata(exif=exif_with_note()), lambda found: found.exif is not None),
    "maker notes": (Metadata(exif=exif_with_note()), lambda found: has_note(found.exif)),
    "XMP": (Metadata(xmp=XMP), lambda found: found.xmp == XMP),
    "IPTC": (Metadata(iptc=IPTC), lambda found: found.iptc == IPTC),
    "comment": (Metadata(comments=(b"a comment",)), lambda found: b"a comment" in comment_of(found)),
    "resolution": (Metadata(dpi=(300, 300)), lambda found: found.dpi is not None and round(found.dpi[0]) == 300),
}


def comment_of(meta: Metadata) -> bytes:
    """Return comments, and the description in EXIF, where formats without comments hold them."""
    described = read_ifds(meta.exif)[0].raw(270) if meta.exif else None
    return b"".join(meta.comments) + (described or b"")


def metadata_cell(folder: Path, format_: str, given: Metadata, is_kept: Callable[[Metadata], bool]) -> str:
    again = round_trip(folder, format_, Image(SMOOTH, metadata=given))
    return "kept" if again is not None and is_kept(again.metadata) else "-"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def endings(format_: str) -> str:
    return " ".join(f"`{ending}`" for ending, value in EXTENSIONS.items() if value == format_)


def pixel_table(folder: Path) -> str:
    deep = SMOOTH.astype(np.uint16) * 200 + 3
    floats = (SMOOTH / 255).astype(np.float32)
    kinds: list[Any] = [GRAY, SMOOTH, deep[..., :1].copy(), deep, floats]
    rows = []
    for format_ in FORMATS:
        depths = [depth_cell(folder, format_, kind) for kind in kinds]
        extra = [alpha_cell(folder, format_), frames_cell(folder, format_)]
        rows.append([NAMES.get(format_, format_), endings(format_), *depths, *extra])
    head = ["format", "extensions", "8-bit gray", "8-bit RGB", "16-bit gray", "16-bit RGB", "float", "alpha", "several"]
    return table(head, rows)


def metadata_table(folder: Path) -> str:
    rows = []
    for format_ in FORMATS:
        cells = [metadata_cell(folder, format_, *check) for check in METADATA.values()]
        rows.append([NAMES.get(format_, format_), *cells])
    return table(["format", *METADATA], rows)


def test_the_tables_are_what_round_trips_give(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    for package in ("imagecodecs", "tifffile", "pillow_heif"):
        pytest.importorskip(package, reason='pip install "edgedenoise[io,heic]"')
    if not features.check("avif"):
        pytest.skip('pip install "pillow>=11.3"')
    page = PAGE.read_text(encoding="utf-8")
    expected = page
    for name, made in (("pixels", pixel_table(tmp_path)), ("metadata", metadata_table(tmp_path))):
        pattern = rf"<!-- {name} -->\n.*?<!-- end -->"
        filled = f"<!-- {name} -->\n\n{made}\n\n<!-- end -->"
        expected = re.sub(pattern, lambda _, filled=filled: filled, expected, flags=re.DOTALL)
    if pytestconfig.getoption("--update-golden"):
        PAGE.write_text(expected, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == expected, "run this test with --update-golden, and read the difference"
