"""Checks of the fields of a config against their types: kind, range, choices. No torch here."""

from __future__ import annotations

import math
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from edgedenoise.errors import UsageError

_NAMES = {int: "an integer", float: "a number", str: "text", bool: "true or false"}
_BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


def check_fields(config: msgspec.Struct) -> None:
    """Check the type, range and finiteness of every field of `config`.

    Raises:
        UsageError: a value is not accepted.
    """
    for field in msgspec.structs.fields(type(config)):
        converted(field.name, getattr(config, field.name), field.type, strict=True)


def converted(key: str, value: object, type_: Any, *, strict: bool, where: str = "") -> Any:
    """Return `value` as the type of the field `key`.

    Args:
        key: name of the field, for the error.
        value: as it was given.
        type_: of the field, with its bounds as `msgspec.Meta`.
        strict: without it, a text becomes the number or the boolean that it spells.
        where: names the file or the option that the value comes from, for the error; empty for none.

    Raises:
        UsageError: the value is not of that type, or out of range, or not finite.
    """
    try:
        result = msgspec.convert(value, type_, strict=strict)
    except msgspec.ValidationError:
        result = math.nan
    if isinstance(result, float) and not math.isfinite(result):
        source = f"{where} has " if where else ""
        raise UsageError(f"{source}{key} = {value!r}, which is not accepted: expected {expected(type_)}")
    return result


def expected(type_: Any) -> str:
    """Return the values that a field's type accepts, as a phrase, for example `an integer, at least 1`."""
    if get_origin(type_) is Annotated:
        base, *metas = get_args(type_)
        bounds: list[str] = []
        for meta in metas:
            if meta.description is not None:
                return str(meta.description)
            bounds += [f"{word} {getattr(meta, key):g}" for key, word in _BOUNDS.items() if _has(meta, key)]
        return ", ".join([expected(base), " and ".join(bounds)])
    if get_origin(type_) in (Union, types.UnionType):
        return " or ".join(expected(part) for part in get_args(type_))
    if get_origin(type_) is Literal:
        return ", ".join(str(choice) for choice in get_args(type_))
    return _NAMES.get(type_, str(type_))


def _has(meta: msgspec.Meta, key: str) -> bool:
    return getattr(meta, key) is not None
