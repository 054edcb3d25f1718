"""`edgedenoise history`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgedenoise.cli.common import Output, Wide, cli_command
from edgedenoise.tables import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedenoise.evaluation.history import Trend

_NARROW = ("variant", "measure", "before", "now", "change", "spread", "verdict")
_SHOWN = 6
"""Values of the trend column."""


@cli_command
def command(
    output: Output,
    results: Annotated[list[Path], typer.Argument(help="Result files (.json), or folders of them.")],
    check: Annotated[
        Path | None,
        typer.Option(help="Result file to check against the others: a regression beyond the spread is an error."),
    ] = None,
    wide: Wide = False,
) -> None:
    """Show how speed and quality changed from run to run.

    The latest run of each device and bundle is compared with the earlier ones. A change counts when it is larger than
    the spread that was measured between and within the runs.
    """
    from edgedenoise.evaluation.history import check_regressions, split_latest, trends
    from edgedenoise.evaluation.joining import load_runs

    runs = load_runs(results)
    if check is None:
        found = trends(*split_latest(runs))
    else:
        now = load_runs([check])
        judged = {run.id for run in now}
        found = check_regressions([run for run in runs if run.id not in judged], now)
    output.result([_values(trend) for trend in found], trends_table(found, wide=wide))


def trends_table(found: Sequence[Trend], *, wide: bool) -> str:
    """Format trends for a terminal: one table per device and bundle."""
    groups: dict[tuple[str, str], list[Trend]] = {}
    for trend in found:
        groups.setdefault((trend.key.device[1], trend.key.bundle), []).append(trend)
    header = [*_NARROW, "trend", "conditions"]
    return "\n\n".join(
        f"{device}, {bundle}\n{table(header, [_cells(one) for one in group], columns=None if wide else _NARROW)}"
        for (device, bundle), group in groups.items()
    )


def _cells(trend: Trend) -> list[str]:
    before = trend.before
    values = [point.value for point in (*trend.earlier, *trend.now)][-_SHOWN:]
    return [
        trend.key.variant,
        trend.key.measure,
        "-" if before is None else f"{before:.4g}",
        f"{trend.value:.4g}",
        "-" if not before else f"{trend.value / before - 1:+.1%}",
        "-" if not before else f"{trend.spread / before:.1%}",
        trend.verdict,
        " ".join(f"{value:.4g}" for value in values),
        trend.key.conditions,
    ]


def _values(trend: Trend) -> dict[str, object]:
    (identity, label), bundle, variant, measure, conditions = trend.key
    return {
        "device": label,
        "machine": identity,
        "bundle": bundle,
        "variant": variant,
        "measure": measure,
        "conditions": conditions,
        "earlier": trend.earlier,
        "now": trend.now,
        "before": trend.before,
        "value": trend.value,
        "spread": trend.spread,
        "verdict": trend.verdict,
    }
