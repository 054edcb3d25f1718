"""Find weights that an ONNX model keeps in other files, without the package onnx.

Hashes of a bundle protect the model file. A tensor with external data names another file, which a runtime would read
unchecked. This module walks the protocol buffer and reads the fields that can hold a tensor, and no others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_TENSOR: Final = "tensor"
_MESSAGES: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: _TENSOR, 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: _TENSOR, 6: "graph", 10: _TENSOR, 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: _TENSOR, 2: _TENSOR},
    "function": {7: "node", 11: "attribute"},
    "training": {1: "graph", 2: "graph"},
}
"""Kind of message -> number of the fields that lead to tensors -> kind of message in that field."""
_NAME, _EXTERNAL_DATA, _DATA_LOCATION = 8, 13, 14
"""Fields of a TensorProto."""
_MAX_DEPTH = 64
"""Deepest accepted nesting of messages; graphs within attributes nest, those of edgedenoise do not."""


def external_tensor(data: bytes) -> str | None:
    """Return the name of the first tensor of an ONNX model whose data is in another file, or None.

    Args:
        data: the serialized ModelProto.

    Raises:
        ValueError: the bytes are not a protocol buffer, or nest too deeply.
    """
    waiting: list[tuple[str, memoryview, int]] = [("model", memoryview(data), 0)]
    while waiting:
        kind, message, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise ValueError(f"messages nest more than {_MAX_DEPTH} deep")
        if kind == _TENSOR:
            name, is_external = "", False
            for number, value in _fields(message):
                if number == _NAME and isinstance(value, memoryview):
                    name = bytes(value[:200]).decode("utf-8", "replace")
                # An entry of external_data alone is refused too: no writer makes one for data inside the file.
                is_external |= number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0)
            if is_external:
                return name
            continue
        inner = _MESSAGES[kind]
        waiting += [
            (inner[number], value, depth + 1)
            for number, value in _fields(message)
            if number in inner and isinstance(value, memoryview)
        ]
    return None


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield (number, value) of each field: an integer, or the bytes of a field with a length."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, wire = (tag & 0xFFFFFFFF) >> 3, tag & 7  # readers keep 32 bits
        if wire == 0:
            value, position = _varint(message, position)
            yield number, value
            continue
        if wire == 2:
            length, position = _varint(message, position)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"a field has the unknown wire type {wire}")
        if length > len(message) - position:
            raise ValueError("it is cut short")
        yield number, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return the number that begins at a position, and the position behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise ValueError("it is cut short")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number is longer than 10 bytes")
