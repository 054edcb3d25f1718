"""PBM, PGM and PPM files: their header, and files of 16 bits, which Pillow would reduce to 8."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedenoise.imaging.metadata.embedded import notes_behind

if TYPE_CHECKING:
    import mmap
    from collections.abc import Sequence

    from numpy.typing import NDArray

_WHITE = 65535
_MAX_HEADER_BYTES = 4096
_BITMAPS, _COLOURS, _TEXTS = b"14", b"36", b"123"


@dataclass(frozen=True)
class PnmHeader:
    """The header of a PBM, PGM or PPM file."""

    kind: bytes
    """The digit that names the kind: 1 to 6."""
    width: int
    """Number of columns."""
    height: int
    """Number of rows."""
    white: int
    """Largest value of a sample; 1 for bitmaps."""
    start: int
    """Offset of the samples."""
    comments: tuple[bytes, ...] = ()
    """Lines behind a `#` in the header."""

    @property
    def channels(self) -> int:
        """Number of channels."""
        return 3 if self.kind in _COLOURS else 1

    @property
    def samples_bytes(self) -> int:
        """Bytes of the samples of a binary file."""
        if self.kind in _BITMAPS:
            return -(-self.width // 8) * self.height
        return self.width * self.height * self.channels * (2 if self.white > 255 else 1)


def read_header(data: bytes | mmap.mmap) -> PnmHeader:
    """Return the header of a file.

    Raises:
        ValueError: it is damaged.
    """
    kind = data[1:2]
    wanted = 2 if kind in _BITMAPS else 3
    numbers: list[int] = []
    comments: list[bytes] = []
    at = 2
    while len(numbers) < wanted and at < min(len(data), _MAX_HEADER_BYTES):
        byte = data[at : at + 1]
        if byte == b"#":
            start = at + 1
            while at < len(data) and data[at : at + 1] not in b"\r\n":
                at += 1
            comments.append(data[start:at].strip())
        elif byte.isdigit():
            end = at
            while data[end : end + 1].isdigit() and end - at < 10:
                end += 1
            numbers.append(int(data[at:end]))
            at = end
        elif byte.isspace():
            at += 1
        else:
            break
    if len(numbers) < wanted or not 0 < (numbers[2] if wanted == 3 else 1) <= _WHITE:
        raise ValueError("its header gives no width, height and largest value")
    width, height, white = (*numbers, 1)[:3]
    return PnmHeader(kind, width, height, white, at + 1, tuple(filter(None, comments)))


def notes(data: bytes, header: PnmHeader) -> tuple[str, ...]:
    """Return what follows the image in a file and is not written back, in a sentence."""
    if header.kind in _TEXTS:
        count = header.width * header.height * header.channels
        if header.kind in _BITMAPS:  # whose digits may follow one another without a space
            return ()
        left = data[header.start - 1 :].split(None, count)[count:]
        behind = left[0] if left else b""
    else:
        behind = data[header.start + header.samples_bytes :]
    behind = behind.strip(b"\x00 \t\r\n")
    if behind[:1] == b"P" and behind[1:2] in b"1234567" and behind[2:3].isspace():
        return ("the further images behind it are not kept",)
    return notes_behind(len(behind))


def read_16_bits(data: bytes, header: PnmHeader) -> NDArray[np.uint16]:
    """Return the samples of a file of more than 8 bits as (H, W, C), over the full range of 16 bits.

    Raises:
        ValueError: samples are missing, or larger than the largest value.
    """
    shape = header.height, header.width, header.channels
    count = header.height * header.width * header.channels
    if header.kind in _TEXTS:
        words = data[header.start - 1 :].split(None, count)[:count]
        if len(words) < count or not all(word.isdigit() and len(word) <= 5 for word in words):
            raise ValueError(f"expected {count} samples, got {len(words)} or others than whole numbers")
        samples: NDArray[Any] = np.array(words, np.bytes_).astype(np.uint32)
    else:
        if len(data) - header.start < 2 * count:
            raise ValueError(f"it ends after {len(data)} bytes, inside its pixels")
        samples = np.frombuffer(data, ">u2", count, header.start)
    if int(samples.max(initial=0)) > header.white:
        raise ValueError(f"expected samples up to {header.white}, got {int(samples.max())}")
    if header.white == _WHITE:
        return samples.astype(np.uint16).reshape(shape)
    scaled = (samples.astype(np.uint64) * _WHITE + header.white // 2) // header.white
    return scaled.astype(np.uint16).reshape(shape)


def write_pnm(pixels: NDArray[Any], comments: Sequence[bytes] = ()) -> bytes:
    """Return a PPM or PGM file of (H, W, C) uint8 or uint16 pixels, with comments in its header."""
    height, width, channels = pixels.shape
    lines = b"".join(b"# %s\n" % line for comment in comments for line in comment.splitlines())
    header = b"P%d\n%s%d %d\n%d\n" % (6 if channels == 3 else 5, lines, width, height, np.iinfo(pixels.dtype).max)
    return header + pixels.astype(f">u{pixels.dtype.itemsize}").tobytes()
