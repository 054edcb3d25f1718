"""Device names: `CPU`, `cpu` and `gpu` for `gpu.0` are compared in one place."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

AUTO = "auto"
_NAME = re.compile(r"(?P<family>.*?)(?:[.:](?P<index>\d+))?")


def matching_device(device: str, devices: Iterable[str]) -> str | None:
    """Return the one of `devices` that `device` names, or None.

    Case is ignored. A name without an index is that of the first device: `gpu` matches `gpu.0`, and `cuda:0` matches
    `cuda`.

    Example:
        >>> matching_device("GPU", ("cpu", "gpu.0", "gpu.1"))
        'gpu.0'
    """
    return next((name for name in devices if _split(name) == _split(device)), None)


def family_of(device: str) -> str:
    """Return a device's kind without its index: `gpu` for `GPU.1`."""
    return _split(device)[0]


def _split(name: str) -> tuple[str, int]:
    match = _NAME.fullmatch(name.strip().lower())
    if match is None:  # the name holds a line break
        return name, 0
    return match["family"], int(match["index"] or 0)
