"""Configs as text: TOML and `key=value` overrides. No torch here."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from edgedenoise.errors import UsageError
from edgedenoise.system_errors import input_errors

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def texts_of(overrides: Iterable[str]) -> dict[str, str]:
    """Return the keys and values of `key=value` texts; the last one of a key wins.

    Raises:
        UsageError: a text is not `key=value`.
    """
    values: dict[str, str] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"the override {text!r} is not accepted: expected key=value, for example steps=600")
        values[key.strip()] = value.strip()
    return values


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        UsageError: there is no such file, or it is not TOML.
    """
    try:
        with input_errors(path, UsageError, f"the config {path}"):
            return load_toml(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError
        raise UsageError(
            f"the config {path} is not TOML: {error}", hint='Write lines such as: network = "cbsn-24x4"'
        ) from None


def load_toml(text: str) -> dict[str, Any]:
    """Return the values in a TOML text.

    Raises:
        ValueError: it is not TOML.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib  # the same parser, for Python 3.10
    return tomllib.loads(text)


def toml_value(value: object) -> str:
    """Return one TOML value. JSON strings and booleans are valid TOML."""
    return json.dumps(value, ensure_ascii=True)
