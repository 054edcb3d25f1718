"""Configs as text: TOML and `key=value` overrides, taken to the types of a struct's fields. No torch here."""

from __future__ import annotations

import difflib
import json
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from edgedenoise.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable


def texts_of(overrides: Iterable[str]) -> dict[str, str]:
    """Take `key=value` texts apart; the last one of a key wins.

    Raises:
        UsageError: a text is not `key=value`.
    """
    values: dict[str, str] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"the override {text!r} is not accepted; accepted: key=value, e.g. steps=600")
        values[key.strip()] = value.strip()
    return values


def load_toml(text: str) -> dict[str, Any]:
    """Parse TOML with the standard library, or with tomli on Python 3.10; raises ValueError."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(text)


def checked(struct: type[msgspec.Struct], values: dict[str, Any], *, where: str, strict: bool) -> dict[str, Any]:
    """Return `values` as the types of the fields of `struct`; without `strict`, texts become numbers where needed.

    What goes together and what is in range is checked when the whole config is made.

    Raises:
        UsageError: a key is unknown, or a value is not of its field's type; `where` says where it stands.
    """
    types = {field.name: field.type for field in msgspec.structs.fields(struct)}
    for key in values:
        if key not in types:
            close = difflib.get_close_matches(key, types, n=1)
            raise UsageError(
                f"{where} has the unknown key {key!r}; accepted: {', '.join(types)}",
                hint=f"Did you mean {close[0]}?" if close else None,
            )
    return {key: _as(types[key], key, value, where=where, strict=strict) for key, value in values.items()}


def _as(type_: Any, key: str, value: object, *, where: str, strict: bool) -> Any:
    """Return one value as the type of its field."""
    try:
        return msgspec.convert(value, type_, strict=strict)
    except msgspec.ValidationError as error:
        said = str(error).replace("`", "")
        raise UsageError(f"{where} has {key} = {value!r}, which is not accepted: {said}") from None


def toml_value(value: object) -> str:
    """Return one TOML value. A JSON string is a TOML string, and TOML wants lower-case booleans like JSON."""
    return json.dumps(value, ensure_ascii=True)
