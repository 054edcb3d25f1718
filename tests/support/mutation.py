"""Mutate sound inputs: flipped bits, extreme numbers, cut and repeated pieces; the same seed gives the same inputs."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_EXTREMES = (0, 1, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
_TOKENS = (b"{", b"}", b"[" * 3000, b'"', b"-1e999", b"9" * 400, b"null", b"\xff\xfe", b"\x00", b"../", b"\\", b"true")


def mutations(corpus: Sequence[bytes], seed: int, count: int) -> Iterator[bytes]:
    """Yield `count` inputs made of those in `corpus`."""
    for number in range(count):
        chance = random.Random(f"{seed}-{number}")  # noqa: S311 - not for secrets
        data = bytearray(chance.choice(corpus))
        for _ in range(chance.choice((1, 1, 1, 2, 3, 5))):
            _mutate(data, chance, corpus)
        yield bytes(data)


def _mutate(data: bytearray, chance: random.Random, corpus: Sequence[bytes]) -> None:
    if not data:
        data += chance.choice(_TOKENS)
        return
    at = chance.randrange(min(len(data), chance.choice((64, 512, len(data)))))
    kind = chance.random()
    if kind < 0.3:
        data[at] ^= 1 << chance.randrange(8)
    elif kind < 0.5:
        width = chance.choice((1, 2, 4, 8))
        number = chance.choice((*_EXTREMES, len(data), chance.randrange(2**32))) % (1 << 8 * width)
        data[at : at + width] = number.to_bytes(width, chance.choice(("little", "big")))
    elif kind < 0.65:
        del data[at:]
    elif kind < 0.75:
        del data[at : at + chance.randrange(1, 64)]
    elif kind < 0.9:
        data[at:at] = chance.choice(_TOKENS)
    else:
        other = chance.choice(corpus)
        start = chance.randrange(max(1, len(other)))
        data[at:at] = other[start : start + chance.randrange(1, 200)]
