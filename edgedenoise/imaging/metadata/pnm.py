"""PBM, PGM and PPM files: their header, and files of 16 bits, which Pillow would reduce to 8."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import mmap

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

    @property
    def channels(self) -> int:
        """Number of channels."""
        return 3 if self.kind in _COLOURS else 1


def read_header(data: bytes | mmap.mmap) -> PnmHeader:
    """Return the header of a file.

    Raises:
        ValueError: it is damaged.
    """
    kind = data[1:2]
    wanted = 2 if kind in _BITMAPS else 3
    numbers: list[int] = []
    at = 2
    while len(numbers) < wanted and at < min(len(data), _MAX_HEADER_BYTES):
        byte = data[at : at + 1]
        if byte == b"#":
            while at < len(data) and data[at : at + 1] not in b"\r\n":
                at += 1
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
    return PnmHeader(kind, width, height, white, at + 1)


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


def write_pnm(pixels: NDArray[Any]) -> bytes:
    """Return a PPM or PGM file of (H, W, C) uint16 pixels."""
    height, width, channels = pixels.shape
    header = f"P{6 if channels == 3 else 5}\n{width} {height}\n{_WHITE}\n".encode()
    return header + pixels.astype(">u2").tobytes()
