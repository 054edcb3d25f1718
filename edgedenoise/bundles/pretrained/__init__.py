"""Shipped bundles by name: they work at once, offline, without training.

They were trained on free images with synthetic camera noise; each carries a model card with data, licences,
numbers and limits. How they are made again, and trained further, is in docs/guides/students.md.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Final

SHIPPED: Final = ("edge", "edge-tiny", "edge-level")
"""Names that stand for a bundle wherever one is asked for."""
DEFAULT: Final = "edge"


def resolve(model: Path | str) -> Path:
    """Return the path that a model's name or path stands for.

    A shipped name always stands for the shipped bundle, whatever the working directory contains: a file or folder of
    that name is a path only when it is written as one, `./edge`.

    Args:
        model: a name or a path. A `Path` drops a leading `./`: write the path of such a folder as a text.
    """
    if str(model) in SHIPPED:
        return shipped(str(model))
    path = Path(model)
    return path.absolute() if str(path) in SHIPPED else path  # a name no longer, wherever it is passed on


def named(model: Path | str) -> Path:
    """Return a model's name or path as it is shown in messages and reports: a shipped name stays a name.

    Example:
        >>> str(named("edge"))
        'edge'
    """
    return Path(model) if str(model) in SHIPPED else resolve(model)


def shipped(name: str) -> Path:
    """Return the folder of a shipped bundle."""
    return Path(__file__).parent / f"{name}.edge"


def is_shipped(folder: Path) -> bool:
    """Return whether a bundle folder belongs to the installed package."""
    return folder.resolve().parent == Path(__file__).resolve().parent


def suggestion(model: Path | str) -> str:
    """Return a hint about a missing model: a shipped bundle of a similar name, or how to build one."""
    if str(model) == "edge-plus":
        return "edge-plus is not shipped with weights. Train it: edgedenoise train --network edge-plus"
    close = difflib.get_close_matches(str(model), SHIPPED, n=1)
    meant = f"Did you mean {close[0]}? " if close else ""
    return f"{meant}The shipped bundles are {', '.join(SHIPPED)}. To build one, see: edgedenoise build --help"
