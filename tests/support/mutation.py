"""Mutate sound inputs: flipped bits, extreme numbers, cut and repeated pieces; the same seed gives the same inputs.

JSON is also changed as a value: a field gets another type, an extreme number or a hostile name, or disappears. Such
inputs pass the parser and reach the code behind it.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Change = Callable[[bytes, random.Random, Sequence[bytes]], bytes]
    """Returns a mutated input, from (input, random numbers, corpus)."""

_EXTREMES = (0, 1, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
_TOKENS = (b"{", b"}", b"[" * 3000, b'"', b"-1e999", b"9" * 400, b"null", b"\xff\xfe", b"\x00", b"../", b"\\", b"true")
_NUMBERS = (0, 1, -1, 2, 3, 7, 255, 65536, 2**31 - 1, 2**31, -(2**31), 2**63 - 1, 2**64, -(2**63), 10**30)
_FLOATS = (0.0, -0.0, 0.5, 1e-320, 1e308, -1e308, float("nan"), float("inf"))
_TEXTS = ("", "a", "a" * 5000, "../a", "/etc/passwd", "a\0b", "\x1b[2J", "\ud800", "\u202e", "1e999", "cbsn-9999x9999")
_VALUES = (None, True, False, [], {}, [0], [[]], [None] * 300, {"": 0}, *_NUMBERS, *_FLOATS, *_TEXTS)
_JSON_SHARE = 0.6
"""Share of the inputs that are JSON which are changed as values."""


def mutations(corpus: Sequence[bytes], seed: int | str, count: int, change: Change | None = None) -> Iterator[bytes]:
    """Yield `count` inputs made of those in `corpus`."""
    for number in range(count):
        yield mutation(corpus, f"{seed}-{number}", change)


def mutation(corpus: Sequence[bytes], seed: str, change: Change | None = None) -> bytes:
    """Return one input made of those in `corpus`."""
    chance = random.Random(seed)  # noqa: S311 - not for secrets
    return (change or changed)(chance.choice(corpus), chance, corpus)


def changed(data: bytes, chance: random.Random, corpus: Sequence[bytes]) -> bytes:
    """Return an input with one to five changes."""
    if data[:1] in b"{[" and chance.random() < _JSON_SHARE:
        value = _json(data)
        if value is not None:
            return json.dumps(changed_json(value, chance)).encode("utf-8", "surrogatepass")
    mutated = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5))):
        _mutate(mutated, chance, corpus)
    return bytes(mutated)


def changed_json(value: Any, chance: random.Random) -> Any:
    """Return a JSON value with one to three changes to it or to what it holds."""
    for _ in range(chance.choice((1, 1, 2, 3))):
        value = _changed_at(value, chance)
    return value


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _changed_at(value: Any, chance: random.Random) -> Any:
    """Return a value in which one place, at any depth, is changed."""
    if isinstance(value, (dict, list)) and value and chance.random() < 0.9:
        keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = chance.choice(keys)
        copy: Any = dict(value) if isinstance(value, dict) else list(value)
        if chance.random() < 0.1:
            del copy[key]
        elif isinstance(value, dict) and chance.random() < 0.05:
            copy[chance.choice(("", "a" * 300, "../x", "\x1b", "\ud800", f"{key}/"))] = copy.pop(key)
        else:
            copy[key] = _changed_at(value[key], chance)
        return copy
    if isinstance(value, (int, float)) and not isinstance(value, bool) and chance.random() < 0.4:
        return chance.choice((value + 1, value - 1, -value, value * 2, value * 1000, value / 3))
    if isinstance(value, str) and value and chance.random() < 0.4:
        at = chance.randrange(len(value))
        return value[:at] + chance.choice(("", "\0", "/", "..", "\\", "\n", "é", "9", value)) + value[at + 1 :]
    return chance.choice(_VALUES)


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
