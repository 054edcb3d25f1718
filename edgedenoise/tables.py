"""Tables of text for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedenoise.printable import one_line

if TYPE_CHECKING:
    from collections.abc import Collection


def table(header: list[str], rows: list[list[str]], *, columns: Collection[str] | None = None) -> str:
    """Format rows under a header: the first column is aligned to the left, the others to the right.

    Args:
        header: names of the columns.
        rows: one text per column each.
        columns: names of the columns to show, for a narrow table; None for all.
    """
    shown = [i for i, name in enumerate(header) if columns is None or name in columns]
    lines = [[one_line(row[i]) for i in shown] for row in (header, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(shown))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
