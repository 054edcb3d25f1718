"""The Markdown version of a report: verdicts, tables, environment and commands, for issues and pull requests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edgedenoise.evaluation.report.columns import variant_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedenoise.evaluation.report.view import DeviceView

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#])")


def markdown(title: str, devices: Sequence[DeviceView], commands: Sequence[str]) -> str:
    """Return a report as Markdown.

    Args:
        title: heading of the report.
        devices: the devices.
        commands: command lines that repeat the measurements.
    """
    lines = [f"# {escaped(title)}", ""]
    for device in devices:
        lines += [f"## {escaped(device.summary.label)}", "", f"**{escaped(device.verdict.sentence)}**", ""]
        lines += [f"- {escaped(reason)}" for reason in device.verdict.reasons]
        if device.verdict.command:
            lines += ["", "```text", device.verdict.command, "```"]
        table = variant_table(device.summary)
        lines += ["", _row(table.columns), _row(["---", *["---:"] * (len(table.columns) - 1)])]
        lines += [_row(row) for row in table.rows]
        if device.checks is not None:
            lines += ["", _row(device.checks.columns), _row(["---"] * len(device.checks.columns))]
            lines += [_row(row) for row in device.checks.rows]
        lines += ["", *(f"- {escaped(name)}: {escaped(text)}" for name, text in device.facts), ""]
    lines += ["## Commands", "", "```text", *commands, "```", ""]
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Return a text in one line, with the characters escaped that Markdown would interpret."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(escaped(text) if text.strip("-:") else text for text in cells) + " |"
