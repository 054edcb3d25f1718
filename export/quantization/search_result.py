"""What a search for a quantization within a budget found, as structs; `reports/VARIANT.json` in a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edgedenoise.bundles.bundle import report_file
from edgedenoise.errors import UsageError
from edgedenoise.tables import table

if TYPE_CHECKING:
    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.bundles.manifest import Variant


class Budget(msgspec.Struct, frozen=True):
    """How much quality integers may cost; exactly one of the two."""

    max_drop_db: float | None = None
    """Of the PSNR to the ground truth."""
    min_psnr_db: float | None = None
    """To the float answer."""

    def __post_init__(self) -> None:
        if (self.max_drop_db is None) == (self.min_psnr_db is None):
            raise UsageError(
                "a budget is either a largest drop (to the ground truth) or a least PSNR (to the float answer);"
                f" received {self.max_drop_db} and {self.min_psnr_db}"
            )
        limit = self.max_drop_db if self.min_psnr_db is None else self.min_psnr_db
        if not 0 < float(limit or 0) < 200:
            raise UsageError(f"a budget of {limit} dB was given; accepted: above 0, below 200")

    def __str__(self) -> str:
        if self.min_psnr_db is None:
            return f"at most {self.max_drop_db:g} dB less than float"
        return f"at least {self.min_psnr_db:g} dB to the float answer"

    def spare_db(self, quality: Quality) -> float:
        """Return how far inside the budget a quality is; negative outside."""
        if self.min_psnr_db is not None:
            return quality.to_float_db - self.min_psnr_db
        if self.max_drop_db is None or quality.drop_db is None:
            raise UsageError(
                "a largest drop needs the ground truth", hint="give it with --clean DIR, or use --min-psnr 50dB"
            )
        return self.max_drop_db - quality.drop_db


class Quality(msgspec.Struct, frozen=True):
    """How good a graph's answers over held-out crops are, in exact arithmetic."""

    to_float_db: float
    """PSNR to the float answer, over all pixels together; 200 stands for equal."""
    drop_db: float | None
    """Mean PSNR of the float answer to the ground truth, less this one's; None without a ground truth."""


class LayerCost(msgspec.Struct, frozen=True):
    """A layer, and what it costs to quantize it alone."""

    layer: str
    """Name of its output in the float graph."""
    weight: str
    """Name of its weight in the network; empty for a layer without."""
    operator: str
    macs_share: float
    """Of all multiply-accumulates, 0 to 1."""
    quality: Quality


class Candidate(msgspec.Struct, frozen=True):
    """One way to quantize a graph, and what it gives."""

    scheme: str
    calibrator: str
    float_layers: tuple[str, ...]
    """Names of the layers' outputs that stay float."""
    int8_macs_share: float
    """Multiply-accumulates in integers, 0 to 1 of all."""
    quality: Quality
    estimated_time: float
    """Against float on the same runtime: below 1 is faster."""


class Plan(msgspec.Struct, frozen=True):
    """What was asked, what was tried, and what was chosen."""

    budget: Budget
    runtime: str
    """Whose speed counted."""
    crops: int
    """Held-out crops that it was told on."""
    met: bool
    chosen: Candidate
    """The one that meets the budget in the least time, or that comes closest."""
    tried: tuple[Candidate, ...]
    """All that were measured, in order."""
    layers: tuple[LayerCost, ...]
    """Of the chosen scheme and calibrator, in the order of the graph."""
    speed_vs_float: float | None = None
    """Measured, of the graph as the runtime fuses it: above 1 is faster. None when no graph was worth timing."""


def describe(candidate: Candidate) -> str:
    """Say a candidate in a few words."""
    kept = f"{len(candidate.float_layers)} layers float" if candidate.float_layers else "all layers in integers"
    if len(candidate.float_layers) == 1:
        kept = "1 layer float"
    quality = candidate.quality
    drop = "" if quality.drop_db is None else f"{quality.drop_db:.3f} dB lost, "
    return (
        f"{candidate.scheme} {candidate.calibrator}, {kept} ({candidate.int8_macs_share:.0%} of the work in integers):"
        f" {drop}{quality.to_float_db:.1f} dB to float"
    )


def plan_table(plan: Plan, *, wide: bool = False) -> str:
    """Format a plan for a terminal: the cost of each layer, the encodings tried, and the chosen one.

    Args:
        plan: result of the search.
        wide: whether to show the full names of layers; otherwise the tables fit 80 columns.
    """
    kept = plan.chosen.float_layers
    layers = [
        [
            f"{cost.layer} {cost.weight}".strip() if wide else _short(cost.weight or cost.layer),
            f"{cost.macs_share:.1%}",
            f"{cost.quality.to_float_db:.1f}",
            _drop(cost.quality),
            "float" if cost.layer in kept else "INT8",
        ]
        for cost in sorted(plan.layers, key=lambda cost: cost.quality.to_float_db)
    ]
    tried = [
        [
            f"{one.scheme} {one.calibrator}",
            f"{one.int8_macs_share:.0%}",
            f"{one.quality.to_float_db:.1f}",
            _drop(one.quality),
            f"{one.estimated_time:.2f}",
        ]
        for one in plan.tried
    ]
    lines = [
        f"each layer quantized alone, on {plan.crops} held-out crops:",
        table(["layer", "MACs", "dB to float", "dB lost", "precision"], layers),
        "",
        f"encodings tried (estimated time relative to float on {plan.runtime}):",
        table(["encoding", "INT8 MACs", "dB to float", "dB lost", "time"], tried),
        "",
        f"budget: {plan.budget}",
        f"{'chosen' if plan.met else 'closest'}: {describe(plan.chosen)}",
    ]
    if plan.speed_vs_float is not None:
        lines.append(f"measured on {plan.runtime}: {plan.speed_vs_float:.2f} times as fast as float")
    return "\n".join(lines)


def _short(name: str) -> str:
    """Return the end of a long name, so that a table with it fits 80 columns."""
    return name if len(name) <= 32 else f"...{name[-29:]}"


def _drop(quality: Quality) -> str:
    return "-" if quality.drop_db is None else f"{quality.drop_db:+.3f}"


def stored_plan(bundle: Bundle, variant: Variant) -> Plan | None:
    """Return the plan that a variant was quantized by; None when no budget was given."""
    if not bundle.has(report_file(variant.name)):
        return None
    return msgspec.json.decode(bundle.file(report_file(variant.name)).read_bytes(), type=Plan)
