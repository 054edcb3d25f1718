"""The result of a search for a quantization within a budget, as structs; `reports/VARIANT.json` in a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edgedenoise.bundles.bundle import report_file
from edgedenoise.bundles.contents import read_json
from edgedenoise.errors import UsageError
from edgedenoise.tables import table

if TYPE_CHECKING:
    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.bundles.manifest import Variant

WORST_FACTOR = 3.0
"""How many times the accepted mean drop the worst image may lose."""


class Budget(msgspec.Struct, frozen=True):
    """How much quality integers may cost; exactly one of the two."""

    max_drop_db: float | None = None
    """Largest accepted drop of the mean PSNR to the ground truth; the worst image may lose `WORST_FACTOR` as much."""
    min_psnr_db: float | None = None
    """Smallest accepted PSNR to the float output."""

    def __post_init__(self) -> None:
        if (self.max_drop_db is None) == (self.min_psnr_db is None):
            raise UsageError(
                "a budget is either a largest drop (to the ground truth) or a smallest PSNR (to the float output);"
                f" got {self.max_drop_db} and {self.min_psnr_db}"
            )
        limit = self.max_drop_db if self.min_psnr_db is None else self.min_psnr_db
        if not 0 < float(limit or 0) < 200:
            raise UsageError(f"the budget is out of range; expected above 0, below 200 dB, got {limit}")

    def __str__(self) -> str:
        if self.min_psnr_db is None:
            return f"at most {self.max_drop_db:g} dB less than float"
        return f"at least {self.min_psnr_db:g} dB to the float output"

    def spare_db(self, fidelity: Fidelity) -> float:
        """Return how far inside the budget a graph is, in dB; negative outside."""
        if self.min_psnr_db is not None:
            return fidelity.to_float_db - self.min_psnr_db
        if self.max_drop_db is None or fidelity.drop_db is None:
            raise UsageError(
                "a largest drop needs the ground truth, and none was given",
                hint="Give its folder with --clean, or use --min-psnr 50dB.",
            )
        spare = self.max_drop_db - fidelity.drop_db
        if fidelity.worst_drop_db is None:
            return spare
        return min(spare, self.max_drop_db - fidelity.worst_drop_db / WORST_FACTOR)


class Fidelity(msgspec.Struct, frozen=True):
    """How close a graph's answers over held-out crops are to float, in exact arithmetic."""

    to_float_db: float
    """PSNR to the float output, over all pixels together; 200 stands for equal."""
    drop_db: float | None
    """Mean PSNR of the float output to the ground truth minus that of this answer; None without a ground truth."""
    worst_drop_db: float | None = None
    """The same on the image that loses most."""
    images: int = 0
    """Number of images that both count."""
    least_noise_lsb: float = 0.0
    """Least noise of an image that both count, in 8-bit levels; see `HeldOutLoss`."""


class LayerCost(msgspec.Struct, frozen=True):
    """The cost of quantizing one layer alone."""

    layer: str
    """Name of its output in the float graph."""
    weight: str
    """Name of its weight in the network; empty for a layer without."""
    operator: str
    macs_share: float
    """Share of all multiply-accumulates, 0 to 1."""
    quality: Fidelity


class Candidate(msgspec.Struct, frozen=True):
    """One way to quantize a graph, with its quality and time."""

    scheme: str
    calibrator: str
    float_layers: tuple[str, ...]
    """Names of the layers' outputs that stay float."""
    int8_macs_share: float
    """Share of multiply-accumulates in integers, 0 to 1."""
    quality: Fidelity
    estimated_time: float
    """Time against float on the same runtime: below 1 is faster."""


class QuantizationPlan(msgspec.Struct, frozen=True):
    """The budget, the candidates that were tried, and the one that was chosen."""

    budget: Budget
    runtime: str
    """Backend whose speed counted."""
    crops: int
    """Number of held-out crops that it was measured on."""
    met: bool
    chosen: Candidate
    """The candidate that meets the budget in the least time, or that comes closest."""
    tried: tuple[Candidate, ...]
    """All candidates, in the order in which they were measured."""
    layers: tuple[LayerCost, ...]
    """Costs with the chosen scheme and calibrator, in the order of the graph."""
    speed_vs_float: float | None = None
    """Measured, of the graph as the runtime fuses it: above 1 is faster. None when no graph was worth timing."""


def describe(candidate: Candidate) -> str:
    """Format a candidate in a few words."""
    kept = f"{len(candidate.float_layers)} layers float" if candidate.float_layers else "all layers in integers"
    if len(candidate.float_layers) == 1:
        kept = "1 layer float"
    quality = candidate.quality
    drop = "" if quality.drop_db is None else f"{quality.drop_db:.3f} dB lost, "
    return (
        f"{candidate.scheme} {candidate.calibrator}, {kept} ({candidate.int8_macs_share:.0%} of the work in integers):"
        f" {drop}{quality.to_float_db:.1f} dB to float"
    )


def plan_table(plan: QuantizationPlan, *, wide: bool = False) -> str:
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


def _drop(quality: Fidelity) -> str:
    return "-" if quality.drop_db is None else f"{quality.drop_db:+.3f}"


def stored_plan(bundle: Bundle, variant: Variant) -> QuantizationPlan | None:
    """Return the plan that a variant was quantized by; None when no budget was given."""
    if not bundle.has(report_file(variant.name)):
        return None
    name = report_file(variant.name)
    return read_json(bundle.read(name), QuantizationPlan, f"{bundle.source}: {name}")
