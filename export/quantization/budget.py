"""Search for the fastest encoding within a budget of quality (`edgedenoise quantize --max-drop`).

The search begins with all layers in integers, with every scheme and calibrator. Where none keeps the budget, layers
return to float one by one, those first that cost most for the time that they save. Then each of them is tried in
integers again.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgedenoise.bundles.bundle import Bundle, report_file
from edgedenoise.bundles.manifest import Limits, Variant
from edgedenoise.bundles.model_files import ModelFiles
from edgedenoise.bundles.writer import BundleWriter, check_editable
from edgedenoise.calibration.calibrate import (
    HISTOGRAMS_FILE,
    TRAINED_RANGES_FILE,
    read_float_graph,
    stored_ranges,
)
from edgedenoise.calibration.calibrators import MINMAX, calibrator_named
from edgedenoise.calibration.schemes import class_of_this_cpu, scheme_named, schemes_for
from edgedenoise.errors import QuantizationError, UsageError
from edgedenoise.exporting.onnx.graph import conv_macs_per_px
from edgedenoise.exporting.quantization.float_layers import (
    LEAST_INT8_SHARE,
    affordable,
    by_dearness,
    smallest_prefix,
)
from edgedenoise.exporting.quantization.judge import SEARCH_CROPS, Judge, judge_of
from edgedenoise.exporting.quantization.qdq import encode, quantized_layers
from edgedenoise.exporting.quantization.quantize import (
    EncodingOptions,
    check_calibrator,
    float_source,
    put_quantized,
    quantize_graph,
    quantize_report,
)
from edgedenoise.exporting.quantization.search_result import Budget, Candidate, LayerCost, QuantizationPlan, describe
from edgedenoise.exporting.quantization.sensitivity import layer_costs
from edgedenoise.progress import Progress, silent
from edgedenoise.runtimes.base import SessionOptions
from edgedenoise.runtimes.checked import CheckedSession
from edgedenoise.runtimes.machine import saturates_u8s8
from edgedenoise.runtimes.registry import registry
from edgedenoise.runtimes.timing import speed_against

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedenoise.calibration.ranges import Ranges
    from edgedenoise.exporting.quantization.quantize_report import QuantizeReport
    from edgedenoise.runtimes.base import Backend

CALIBRATORS = ("minmax", "mse", "percentile-99.999", "percentile-99.99", "entropy")
"""Calibrators to try where histograms are stored and the weights were trained in float."""


@dataclass(frozen=True)
class BudgetReport:
    """A variant that keeps a budget, and the plan that it follows."""

    quantized: QuantizeReport
    plan: QuantizationPlan


def quantize_to_budget(
    bundle: Path | str,
    *,
    max_drop_db: float | None = None,
    min_psnr_db: float | None = None,
    data: Path | str | None = None,
    clean: Path | str | None = None,
    scheme: str | None = None,
    calibrator: str | None = None,
    runtime: str = "onnxruntime",
    crops: int = SEARCH_CROPS,
    ignore_trained_ranges: bool = False,
    progress: Progress = silent,
) -> BudgetReport:
    """Search for the fastest encoding within a budget and add it as a variant, with the plan beside it.

    Args:
        bundle: a calibrated bundle folder.
        max_drop_db: how much less than float its PSNR to the ground truth may be in the mean; the worst image may
            lose three times as much. Needs `clean`.
        min_psnr_db: alternatively, what its PSNR to the float output must reach.
        data: noisy images to judge on. May be left out for a bundle that was calibrated with synthetic noise.
        clean: their ground truth under the same names; without `data`, clean images that noise is added to.
        scheme: try this scheme alone; None tries all that the runtime runs at full speed here.
        calibrator: try this calibrator alone; None tries all.
        runtime: backend whose speed counts; the variant must be faster than float there.
        crops: number of held-out images, or windows of larger ones, to judge on.
        ignore_trained_ranges: choose all ranges by the calibrator, also those that the weights were trained with.
        progress: called after each step.

    Returns:
        The new variant and the plan that it follows.

    Raises:
        QuantizationError: no plan keeps the budget, or none is faster than float; its `plan` is the best one. The
            bundle stays as it was.
        UsageError: both limits or none, no ground truth for a drop, an unknown scheme, calibrator or runtime, or a
            runtime that opens no ONNX graphs, or a calibrator for a bundle whose ranges were trained.
        CalibrationError: the bundle has no ranges, calibration has seen everything, or the images cannot be used.

    Example:
        >>> import edgedenoise
        >>> try:
        ...     plan = edgedenoise.quantize_to_budget("mine.edge", min_psnr_db=40, data="photos").plan
        ... except edgedenoise.EdgeDenoiseError as error:  # no encoding is close and fast enough
        ...     plan = error.plan  # the best one that was tried
        >>> plan.chosen.quality.to_float_db > 20
        True
    """
    budget = Budget(max_drop_db, min_psnr_db)
    opened = Bundle.open(bundle)
    backend = registry[runtime]
    if not backend.opens_onnx:
        expected = [name for name, one in registry.items() if one.opens_onnx]
        raise UsageError(
            f"{runtime} opens no ONNX graphs, so no encoding can be timed on it; expected {' or '.join(expected)},"
            f" got {runtime}",
            hint=_other_runtime(runtime),
        )
    check_editable(opened)
    check_calibrator(opened, calibrator, ignore_trained_ranges=ignore_trained_ranges)
    folder, truth = (None if path is None else Path(path) for path in (data, clean))
    judge = judge_of(opened, folder, truth, crops, progress)
    budget.spare_db(judge.float_fidelity)  # a drop without a ground truth is refused before the search
    search = _Search(opened, budget, judge, backend, progress, ignore_trained_ranges)
    plan = search.run(_schemes(scheme), _calibrators(opened, calibrator, ignore_trained_ranges))
    if not plan.met:
        raise QuantizationError(
            f"no plan keeps the budget of {plan.budget} with {LEAST_INT8_SHARE:.0%} of the multiply-accumulates in"
            f" integers; the best of {len(plan.tried)}: {describe(plan.chosen)}",
            hint="Train it in 8 bits (edgedenoise train --objective qat --init CHECKPOINT), calibrate on more images,"
            " or widen the budget.",
            plan=plan,
        )
    if plan.speed_vs_float is not None and plan.speed_vs_float < 1:
        raise QuantizationError(
            f"{describe(plan.chosen)}: it keeps the budget of {plan.budget}, but on {runtime} it is not faster than"
            f" float here ({plan.speed_vs_float:.2f}x), so it was not added",
            hint=_other_runtime(runtime),
            plan=plan,
        )
    chosen = plan.chosen
    options = EncodingOptions(chosen.calibrator, chosen.float_layers)
    source = float_source(opened, chosen.calibrator, ignore_trained_ranges=ignore_trained_ranges)
    quantized = quantize_graph(source, scheme_named(chosen.scheme), options, progress)
    limits = Limits(max_drop_db=max_drop_db, min_psnr_db=min_psnr_db)
    with BundleWriter.edit(opened) as writer:
        removed = put_quantized(writer, quantized)
        writer.write_json(report_file(quantized.variant.name), plan)
        writer.manifest = msgspec.structs.replace(writer.manifest, limits=limits)
    return BudgetReport(quantize_report(Bundle.open(opened.root), quantized, removed), plan)


@dataclass
class _Search:
    """The graph, the crops, and what has been tried."""

    bundle: Bundle
    budget: Budget
    judge: Judge
    runtime: Backend
    progress: Progress
    ignore_trained_ranges: bool = False
    tried: list[Candidate] = field(default_factory=list)
    chosen_ranges: dict[str, Ranges] = field(default_factory=dict)
    """Calibrator -> the ranges that it chooses, which are the same for every candidate."""

    def run(self, schemes: tuple[str, ...], calibrators: tuple[str, ...]) -> QuantizationPlan:
        """Return the plan for the first budget-keeping candidate in the order of estimated time, or the closest."""
        self.model = read_float_graph(self.bundle)
        self.layers = [node.output[0] for node in quantized_layers(self.model)]
        self.macs = {name: float(macs) for name, macs in conv_macs_per_px(self.model).items()}
        # How long all layers in integers take, float being 1: what a plan's time is estimated from.
        self.times = {scheme: 1 / self._speed(scheme, ()) for scheme in schemes}
        best: tuple[Candidate, list[LayerCost]] | None = None
        for scheme in sorted(schemes, key=lambda name: self.times[name]):
            if best is not None and self._holds(best[0]) and best[0].estimated_time <= self.times[scheme]:
                continue  # no plan of this scheme can be faster
            whole = [self._try(scheme, calibrator, frozenset()) for calibrator in calibrators]
            found = max(whole, key=self._spare)
            ranges = self._ranges(found.calibrator)
            costs = [*layer_costs(self.model, ranges, scheme_named(scheme), self.judge.middle(), self.progress)]
            if not self._holds(found):
                found = self._with_float_layers(found, costs)
            if best is None or self._rank(found) < self._rank(best[0]):
                best = found, costs
        if best is None:
            raise UsageError(f"no scheme to try on {self.runtime.name}")
        chosen, costs = best
        met = self._holds(chosen)
        return QuantizationPlan(
            budget=self.budget,
            runtime=self.runtime.name,
            crops=len(self.judge.crops),
            met=met,
            chosen=chosen,
            tried=tuple(self.tried),
            layers=tuple(costs),
            speed_vs_float=self._speed(chosen.scheme, chosen.float_layers, chosen.calibrator) if met else None,
        )

    def _with_float_layers(self, start: Candidate, costs: list[LayerCost]) -> Candidate:
        """Put layers back to float, dearest first, until the budget holds; then the needless ones to integers again."""
        found: dict[int, Candidate] = {}

        def holds(kept: Sequence[str]) -> bool:
            found[len(kept)] = self._try(start.scheme, start.calibrator, frozenset(kept))
            return self._holds(found[len(kept)])

        kept = smallest_prefix(affordable(by_dearness(costs), self.macs), holds)
        if kept is None:
            return max([start, *found.values()], key=self._spare)
        return self._without_needless(found[len(kept)])

    def _without_needless(self, found: Candidate) -> Candidate:
        for layer in sorted(found.float_layers, key=lambda name: self.macs.get(name, 0), reverse=True):
            narrower = frozenset(found.float_layers) - {layer}
            if not narrower:
                continue  # all in integers is where the search began
            again = self._try(found.scheme, found.calibrator, narrower)
            if self._holds(again):
                found = again
        return found

    def _try(self, scheme: str, calibrator: str, kept: frozenset[str]) -> Candidate:
        note = f"{scheme} {calibrator}, {len(kept)} float"
        self.progress("search", len(self.tried), len(self.tried) + 1, note)
        chosen = scheme_named(scheme)
        quality = self.judge.judge(encode(self.model, self._ranges(calibrator), chosen, kept), chosen)
        share = self._share(kept)
        time = share * self.times[scheme] + (1 - share)
        found = Candidate(scheme, calibrator, tuple(n for n in self.layers if n in kept), share, quality, time)
        self.tried.append(found)
        self.progress("search", len(self.tried), len(self.tried), note)
        return found

    def _ranges(self, calibrator: str) -> Ranges:
        if calibrator not in self.chosen_ranges:
            self.chosen_ranges[calibrator] = stored_ranges(
                self.bundle, calibrator_named(calibrator), ignore_trained=self.ignore_trained_ranges
            )
        return self.chosen_ranges[calibrator]

    def _share(self, kept: frozenset[str]) -> float:
        return 1 - sum(macs for name, macs in self.macs.items() if name in kept) / sum(self.macs.values())

    def _spare(self, candidate: Candidate) -> float:
        return self.budget.spare_db(candidate.quality)

    def _rank(self, candidate: Candidate) -> tuple[bool, float]:
        """Order candidates: those within the budget first, the fastest of them first; then the closest."""
        holds = self._holds(candidate)
        return not holds, candidate.estimated_time if holds else -self._spare(candidate)

    def _holds(self, candidate: Candidate) -> bool:
        return self._spare(candidate) >= 0

    def _speed(self, scheme: str, kept: tuple[str, ...], calibrator: str = MINMAX.name) -> float:
        """Time a graph, fused by the runtime, against float in turns: above 1 is faster."""
        chosen = scheme_named(scheme)
        encoded = encode(self.model, self._ranges(calibrator), chosen, kept)
        encoding = chosen.encoding
        with ExitStack() as opened:
            sessions = []
            for name, model, precision in (("float", self.model, None), ("int8", encoded, encoding)):
                files = ModelFiles.of_bytes(f"{name}.onnx", model.SerializeToString())
                variant = Variant(
                    name, self.runtime.name, "fp32" if precision is None else "int8", files.name, precision
                )
                session = CheckedSession(self.runtime.open(variant, files, "auto", SessionOptions()))
                sessions.append(opened.enter_context(session))
            return speed_against(*sessions)


def _other_runtime(used: str) -> str | None:
    """Return the hint that names another runtime to time on; None where this machine has none."""
    others = (name for name, one in registry.items() if name != used and one.opens_onnx and one.probe().available)
    name = next(others, None)
    return None if name is None else f"Try another runtime: --runtime {name}"


def _schemes(wanted: str | None) -> tuple[str, ...]:
    """Return the schemes to try: those that run at full speed on this CPU."""
    if wanted is not None:
        return (scheme_named(wanted).name,)
    mine = schemes_for(class_of_this_cpu())
    return tuple(scheme.name for scheme in mine if scheme.weight_bits < 8 or not saturates_u8s8())


def _calibrators(bundle: Bundle, wanted: str | None, ignore_trained_ranges: bool) -> tuple[str, ...]:
    """Return the calibrators to try; weights that were trained with ranges of their own leave no choice."""
    if wanted is not None:
        return (calibrator_named(wanted).name,)
    trained = bundle.has(TRAINED_RANGES_FILE) and not ignore_trained_ranges
    return CALIBRATORS if bundle.has(HISTOGRAMS_FILE) and not trained else (MINMAX.name,)
