"""Bundles that are shipped, by name: what works at once, offline, before anything was trained.

They were trained on free images with synthetic camera noise; each carries a model card with data, licences,
numbers and limits. How they are made again, and trained further, is in docs/guides/students.md.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Final

SHIPPED: Final = ("edge", "edge-tiny")
"""Names that stand for a bundle wherever one is asked for."""
DEFAULT: Final = "edge"


def resolve(model: Path | str) -> Path:
    """Return the path that a model's name or path stands for; a bundle or run of that name comes first."""
    path = Path(model)
    theirs = path.is_file() or any((path / name).is_file() for name in ("manifest.json", "config.toml"))
    return shipped(str(model)) if str(model) in SHIPPED and not theirs else path


def shipped(name: str) -> Path:
    """Return the folder of a shipped bundle."""
    return Path(__file__).parent / f"{name}.edge"


def is_shipped(folder: Path) -> bool:
    """Tell whether a bundle folder belongs to the installed package."""
    return folder.resolve().parent == Path(__file__).resolve().parent


def suggestion(model: Path | str) -> str:
    """Return what to do about a model that is not there: perhaps a shipped one was meant."""
    if str(model) == "edge-plus":
        return "edge-plus is not shipped with weights; train it: edgedenoise train --network edge-plus"
    close = difflib.get_close_matches(str(model), SHIPPED, n=1)
    meant = f"did you mean {close[0]}? " if close else ""
    return f"{meant}shipped are {' and '.join(SHIPPED)}; make your own: edgedenoise build RUN --data DIR -o NAME.edge"
