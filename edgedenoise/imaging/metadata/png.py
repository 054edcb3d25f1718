"""PNG files as chunks of bytes: which ones describe the image, and how they are written.

Libraries drop or rewrite the chunks that they do not know; here they are copied raw. A file that breaks
the format's rules raises `ValueError`, and the caller adds the file's name.
"""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO, Final, Literal

from edgedenoise.imaging.metadata.embedded import FrameTiming, Metadata, notes_behind, stated_dpi
from edgedenoise.imaging.metadata.exif import PREFIX as EXIF_PREFIX
from edgedenoise.imaging.metadata.exif import exif_dpi

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedenoise.imaging.metadata.embedded import Block

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_RAW_PROFILE = b"Raw profile type "
_IPTC_KEYWORD = _RAW_PROFILE + b"iptc"
_PIXELS = frozenset({b"IDAT", b"fdAT"})
_PIECE_BYTES = 1 << 20
_INCH_M = 0.0254
_DISPOSALS: Final[dict[int, Literal["background", "previous"]]] = {1: "background", 2: "previous"}
_DISPOSAL_CODES: Final = {"keep": 0, "background": 1, "previous": 2}
_STORAGE = frozenset({b"tRNS", b"iDOT", b"acTL", b"fcTL", b"fdAT"})
"""Chunks that are applied when the pixels are decoded."""
COLOURS: Final = frozenset({b"gAMA", b"cHRM", b"cICP", b"mDCV", b"cLLI"})
"""Chunks that describe the colours beside a profile."""
# They are not marked safe-to-copy, but describe the colours, which we do not change.
_COLOUR = COLOURS | {b"iCCP", b"sRGB", b"tIME"}
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_MAPPED: Final = COLOURS | _TEXTS | {b"iCCP", b"sRGB", b"eXIf", b"pHYs", b"sBIT"}
"""Chunks whose content other fields of `Metadata` hold, or which say nothing that other formats need."""
_PALETTE_TYPE: Final = 3


def read_chunks(data: bytes) -> list[Block]:
    """Split a PNG file into its chunks, up to and including IEND, and check every checksum.

    Pillow does not check the checksums of pixel data, and libpng only warns about some truncated files.
    """
    return _chunks(BytesIO(data), len(data), with_pixels=True)


def read_chunks_of(stream: BinaryIO, size: int) -> list[Block]:
    """Read the chunks of a PNG file of `size` bytes as `read_chunks`, but leave the bytes of its pixels out."""
    return _chunks(stream, size, with_pixels=False)


def _chunks(stream: BinaryIO, size: int, *, with_pixels: bool) -> list[Block]:
    chunks: list[Block] = []
    at = stream.seek(len(SIGNATURE))
    while not chunks or chunks[-1][0] != b"IEND":
        if at + 12 > size:
            raise ValueError(f"it ends after {size} bytes, inside its chunk {len(chunks) + 1}")
        length, kind = struct.unpack(">I4s", stream.read(8))
        if at + 12 + length > size:
            raise ValueError(f"it ends after {size} bytes, inside its chunk {len(chunks) + 1}")
        if with_pixels or kind not in _PIXELS:
            body = stream.read(length)
            checksum = zlib.crc32(body, zlib.crc32(kind))
        else:
            body, checksum = b"", zlib.crc32(kind)
            for start in range(0, length, _PIECE_BYTES):
                checksum = zlib.crc32(stream.read(min(_PIECE_BYTES, length - start)), checksum)
        if stream.read(4) != struct.pack(">I", checksum):
            raise ValueError(f"the checksum of its chunk {len(chunks) + 1} is wrong")
        chunks.append((kind, body))
        at += 12 + length
    if chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        raise ValueError("it does not begin with an image header")
    return chunks


def read_metadata(chunks: list[Block], *, bytes_behind: int = 0) -> Metadata:
    """Return the metadata of a PNG file from its chunks; `bytes_behind` follow the last one in the file."""
    icc = exif = xmp = dpi = iptc = None
    comments: list[bytes] = []
    texts: list[tuple[str, str]] = []
    for kind, body in chunks:
        if kind == b"iCCP":
            icc = _inflate(body.partition(b"\x00")[2][1:])
        elif kind == b"eXIf":
            exif = body.removeprefix(EXIF_PREFIX)
        elif kind == b"pHYs" and len(body) == 9 and body[8] == 1:  # per metre
            horizontal, vertical = struct.unpack(">II", body[:8])
            dpi = stated_dpi(horizontal * _INCH_M, vertical * _INCH_M)
        elif kind in _TEXTS:
            keyword, text = _text(kind, body)
            if keyword == _XMP_KEYWORD:
                xmp = text
            elif keyword == _IPTC_KEYWORD:
                iptc = _raw_profile(text)
            elif keyword == b"Comment":
                comments.append(_utf8(kind, text))
            elif not keyword.startswith(_RAW_PROFILE):
                texts.append((keyword.decode("latin-1"), _utf8(kind, text).decode("utf-8", "replace")))
    return Metadata(
        icc=icc,
        exif=exif,
        xmp=xmp,
        dpi=dpi or exif_dpi(exif),
        comments=tuple(comments),
        iptc=iptc,
        texts=tuple(texts),
        native=_descriptive(chunks),
        native_format="PNG",
        notes=(*_notes(chunks), *notes_behind(bytes_behind)),
    )


def bytes_behind(data: bytes, chunks: list[Block]) -> int:
    """Return the number of bytes behind the last chunk of a file, of which `read_chunks` gave the chunks."""
    return len(data) - len(SIGNATURE) - sum(12 + len(body) for _, body in chunks)


def _text(kind: bytes, body: bytes) -> tuple[bytes, bytes]:
    """Return the keyword and the text of a chunk, both as bytes."""
    keyword, _, rest = body.partition(b"\x00")
    if kind == b"tEXt":
        return keyword, rest
    if kind == b"zTXt":
        return keyword, _inflate(rest[1:])
    text = rest[2:].split(b"\x00", 2)[-1]  # after the language and the translated keyword
    return keyword, _inflate(text) if rest[:1] == b"\x01" else text


def _utf8(kind: bytes, text: bytes) -> bytes:
    """Return a text as UTF-8; only iTXt holds that, the older chunks hold Latin-1."""
    return text if kind == b"iTXt" else text.decode("latin-1").encode()


def _raw_profile(text: bytes) -> bytes | None:
    """Return the bytes of a profile as ImageMagick stores it: its name, its length, then hexadecimal digits."""
    parts = text.split()
    try:
        return bytes.fromhex(b"".join(parts[2:]).decode("ascii"))
    except ValueError:
        return None


def _iptc_block(iptc: bytes) -> Block:
    """Return an IPTC record in the chunk that ImageMagick and ExifTool read."""
    digits = iptc.hex()
    lines = "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    return b"zTXt", _IPTC_KEYWORD + b"\x00\x00" + zlib.compress(f"\niptc\n{len(iptc):8}\n{lines}\n".encode())


def _descriptive(chunks: list[Block]) -> tuple[Block, ...]:
    """Return the chunks that stay true when only the pixels change.

    These are the ancillary chunks that are marked safe-to-copy (the fourth letter is small: PNG specification, 5.4),
    the ones about colour, the resolution and the background. Those tied to a palette, a bit depth or an animation are
    left out.
    """
    kept = [(kind, body) for kind, body in chunks if kind[:1].islower() and (kind[3:4].islower() or kind in _COLOUR)]
    return (*kept, *_rewritten(chunks))


def _rewritten(chunks: list[Block]) -> list[Block]:
    """Return the background, and the number of significant bits where it is all of them, as the new file needs them.

    The new file has no palette, at least 8 bits, and RGB with alpha in all frames of an animation.
    """
    depth, colour_type = chunks[0][1][8:10]
    found = dict(chunks)
    background, bits = found.get(b"bKGD"), found.get(b"sBIT")
    is_same = depth >= 8 and colour_type != _PALETTE_TYPE and not {b"tRNS", b"acTL"} & found.keys()
    blocks = []
    if bits is not None and is_same and set(bits) == {depth}:
        blocks.append((b"sBIT", bits))
    if background is None:
        return blocks
    if colour_type == _PALETTE_TYPE:
        colour = found.get(b"PLTE", b"")[3 * background[0] :][:3] if background else b""
        if len(colour) == 3:
            blocks.append((b"bKGD", struct.pack(">HHH", *colour)))
    elif len(background) in {2, 6}:
        if depth < 8:
            level = int.from_bytes(background, "big") * 255 // ((1 << depth) - 1)
            background = struct.pack(">H", min(level, 255))
        blocks.append((b"bKGD", background * 3 if b"acTL" in found and len(background) == 2 else background))
    return blocks


def _notes(chunks: list[Block]) -> tuple[str, ...]:
    """Return which chunks are not written back, in a sentence."""
    depth, colour_type = chunks[0][1][8:10]
    dropped = {kind for kind, _ in chunks if kind[:1].islower()} - _STORAGE - {kind for kind, _ in _descriptive(chunks)}
    significant = 8 if colour_type == _PALETTE_TYPE else depth
    if all(set(body) == {significant} for kind, body in chunks if kind == b"sBIT"):
        dropped -= {b"sBIT"}  # it states what is true anyway
    if colour_type != _PALETTE_TYPE:  # it suggests colours for displays with few of them
        dropped |= {kind for kind, _ in chunks if kind == b"PLTE"}
    names = ", ".join(kind.decode("latin-1") for kind in sorted(dropped))
    return (f"its chunks {names} are not kept",) if names else ()


def only_in_png(blocks: Sequence[Block]) -> tuple[str, ...]:
    """Return the names of descriptive chunks of a PNG file that no other format holds."""
    names = []
    for kind, body in blocks:
        if kind in _TEXTS:
            keyword = body.partition(b"\x00")[0]
            if keyword.startswith(_RAW_PROFILE) and keyword != _IPTC_KEYWORD:
                names.append(f"text {keyword.decode('latin-1')!r}")
        elif kind == b"pHYs" and len(body) == 9 and body[8] != 1 and body[:4] != body[4:8]:
            names.append("shape of pixels")
        elif kind not in _MAPPED:
            names.append(f"chunk {kind.decode('latin-1')}")
    return tuple(names)


def timings(chunks: list[Block]) -> tuple[tuple[FrameTiming, ...], bool]:
    """Return the timing of each frame of an animation, and whether the still image is its first frame.

    Raises:
        ValueError: a control chunk is too short, or the number of frames is not the stated one.
    """
    control = next((body for kind, body in chunks if kind == b"acTL"), None)
    if control is None:
        return (), True
    if len(control) != 8:
        raise ValueError("its animation control has the wrong length")
    stated, plays = struct.unpack(">II", control)
    found: list[FrameTiming] = []
    still_first, pixels = True, False
    for kind, body in chunks:
        if kind == b"IDAT" and not pixels:
            pixels, still_first = True, bool(found)
        elif kind == b"fcTL":
            if len(body) != 26:
                raise ValueError("a frame control of it has the wrong length")
            delay, unit, disposal = struct.unpack(">HHB", body[20:25])
            found.append(FrameTiming(Fraction(delay, unit or 100), _DISPOSALS.get(disposal, "keep"), plays))
    if len(found) != stated:
        raise ValueError(f"expected {stated} frames, got {len(found)}")
    return tuple(found), still_first


def animation_control(frames: int, plays: int) -> Block:
    """Return the chunk that makes an animation of a PNG file."""
    return b"acTL", struct.pack(">II", frames, plays)


def frame_control(number: int, width: int, height: int, timing: FrameTiming) -> Block:
    """Return the chunk in front of a frame that covers the canvas; `number` counts control and data chunks."""
    delay = timing.seconds.limit_denominator(1000)
    if delay.numerator > 65535:
        delay = Fraction(min(round(timing.seconds), 65535))
    disposal = _DISPOSAL_CODES[timing.disposal]
    head = struct.pack(">IIIII", number, width, height, 0, 0)
    return b"fcTL", head + struct.pack(">HHBB", delay.numerator, delay.denominator, disposal, 0)


def without_metadata(chunks: list[Block]) -> bytes:
    """Return a PNG file with the pixels, palette, transparency and frames of `chunks` and nothing else.

    Readers fail on metadata that they do not need: Pillow refuses profiles and texts of more than a megabyte.
    """
    kept = {b"IHDR", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"IDAT", b"fdAT", b"IEND"}
    return SIGNATURE + b"".join(chunk_bytes(*chunk) for chunk in chunks if chunk[0] in kept)


def blocks_of(metadata: Metadata) -> tuple[Block, ...]:
    """Return the chunks that carry `metadata` in a PNG file."""
    if metadata.native_format == "PNG":
        return metadata.native
    blocks: list[Block] = []
    if metadata.icc is not None:
        blocks.append((b"iCCP", b"ICC Profile\x00\x00" + zlib.compress(metadata.icc)))
    if metadata.dpi is not None:
        horizontal, vertical = (round(dpi / _INCH_M) for dpi in metadata.dpi)
        blocks.append((b"pHYs", struct.pack(">IIB", horizontal, vertical, 1)))
    if metadata.exif is not None:
        blocks.append((b"eXIf", metadata.exif))
    if metadata.xmp is not None:
        # keyword, not compressed, no language, no translated keyword
        blocks.append((b"iTXt", _XMP_KEYWORD + b"\x00\x00\x00\x00\x00" + metadata.xmp))
    if metadata.iptc is not None:
        blocks.append(_iptc_block(metadata.iptc))
    blocks += [(b"iTXt", b"Comment\x00\x00\x00\x00\x00" + comment) for comment in metadata.comments]
    return tuple(blocks)


def insert_blocks(data: bytes, blocks: Sequence[Block]) -> bytes:
    """Return the PNG file `data` with `blocks` placed right after its header."""
    at = len(SIGNATURE) + 12 + 13
    return data[:at] + b"".join(chunk_bytes(*block) for block in blocks) + data[at:]


def chunk_bytes(kind: bytes, body: bytes) -> bytes:
    """Return one chunk as a file stores it: length, type, data, checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def _inflate(data: bytes) -> bytes:
    """Decompress up to 64 MB."""
    decompressor = zlib.decompressobj()
    try:
        inflated = decompressor.decompress(data, 1 << 26)
    except zlib.error as error:
        raise ValueError(f"a profile in it cannot be decompressed ({error})") from error
    if not decompressor.eof:
        raise ValueError("a profile in it is cut short, or larger than 64 MB")
    return inflated
