"""The bar chart of a report: the error of each quantized layer, for variants that were quantized within a budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgedenoise.exporting.quantization.search_result import QuantizationPlan, describe, stored_plan

if TYPE_CHECKING:
    from edgedenoise.bundles.bundle import Bundle


@dataclass(frozen=True)
class Bar:
    """One layer of a chart."""

    layer: str
    work: str
    to_float: str
    lost: str
    runs_in: str
    percent: float
    """Length of the bar, 0 to 100: the mean square error of the layer relative to the largest one."""


@dataclass(frozen=True)
class PlanChart:
    """The layers of one variant, in the order of the graph."""

    variant: str
    asked: str
    chosen: str
    crops: int
    bars: tuple[Bar, ...]


def plan_charts(bundle: Bundle) -> list[PlanChart]:
    """Return one chart per variant of a bundle that has a plan."""
    plans = ((variant.name, stored_plan(bundle, variant)) for variant in bundle.manifest.variants)
    return [_chart(name, plan) for name, plan in plans if plan is not None]


def _chart(variant: str, plan: QuantizationPlan) -> PlanChart:
    errors = [10 ** (-cost.quality.to_float_db / 10) for cost in plan.layers]
    bars = [
        Bar(
            layer=f"{cost.layer} {cost.weight}".strip(),
            work=f"{cost.macs_share:.1%}",
            to_float=f"{cost.quality.to_float_db:.1f}",
            lost="-" if cost.quality.drop_db is None else f"{cost.quality.drop_db:+.3f}",
            runs_in="float" if cost.layer in plan.chosen.float_layers else "integers",
            percent=100 * error / max(errors),
        )
        for cost, error in zip(plan.layers, errors, strict=True)
    ]
    return PlanChart(variant, str(plan.budget), describe(plan.chosen), plan.crops, tuple(bars))
