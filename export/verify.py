"""`edgedenoise verify`: check everything about a bundle that this machine can check.

Hashes, the graph contract (where onnx is installed), and the self-test of every variant on its runtime: against the
float answer, and for quantized variants against the oracle (exact W8A8, the QDQ graph run node by node in float).
A variant that is far from float but equal to the oracle has a calibration problem; one that is far from the oracle
has a kernel problem, and the first layer that differs is named.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.errors import EdgeDenoiseError, IncompatibleError, RuntimeUnavailableError
from edgedenoise.exporting.quantization.divergence import (
    Divergence,
    first_divergence,
    pieces_on,
    reference_bound,
)
from edgedenoise.imaging.metrics import psnr_unit
from edgedenoise.imaging.normalize import statistics
from edgedenoise.progress import Progress, silent
from edgedenoise.runtimes.base import SessionOptions
from edgedenoise.runtimes.onnxruntime.backend import OnnxRuntime
from edgedenoise.runtimes.opening import backend_of, open_emulation, open_variant
from edgedenoise.runtimes.pipeline import run_image
from edgedenoise.runtimes.registry import registry
from edgedenoise.runtimes.selftest import run_selftest, selftest_pair

if TYPE_CHECKING:
    from pathlib import Path

    import onnx
    from numpy.typing import NDArray

    from edgedenoise.bundles.manifest import Variant
    from edgedenoise.runtimes.bounds import ReferenceBound
    from edgedenoise.runtimes.checked import CheckedSession

Status = Literal["passed", "failed", "not run"]
State = Literal["ran here", "built here, numbers checked by emulation", "built here, never run", "not built"]
"""How much is known on this machine, from most to least."""


@dataclass(frozen=True)
class VariantCheck:
    """What was found out about one variant."""

    variant: str
    runtime: str
    precision: str
    status: Status
    reason: str = ""
    """Why it failed or was not run, and what would fix it; or what is odd about one that passed."""
    state: State = "built here, never run"
    psnr_db: float | None = None
    """Self-test, against the float answer, unit range."""
    max_levels: float | None = None
    """Self-test, largest difference to the float answer in 8-bit levels."""
    bound_db: float | None = None
    """What `psnr_db` must reach."""
    oracle_max_levels: float | None = None
    """Self-test, largest difference to exact W8A8 in 8-bit levels; None for float variants."""
    oracle_psnr_db: float | None = None
    """Self-test, PSNR to exact W8A8; None for float variants."""
    divergence: Divergence | None = None
    """The first layer that the runtime computes differently, looked for where the variant is farther from exact W8A8
    than the backend's `error_bounds` allow."""


@dataclass(frozen=True)
class NotBuilt:
    """A target and precision that a bundle has no variant for, of those that `compile` builds unasked."""

    target: str
    precision: str
    command: str
    """What would build it."""
    state: State = "not built"


@dataclass(frozen=True)
class VerifyReport:
    """What was found out about a bundle."""

    bundle: str
    files_checked: int
    linted: tuple[str, ...]
    """ONNX variants whose graph contract was checked; empty without the package onnx."""
    variants: tuple[VariantCheck, ...]
    not_built: tuple[NotBuilt, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing failed; variants that cannot run here do not count."""
        return all(check.status != "failed" for check in self.variants)


def verify(bundle: Path | str, *, progress: Progress = silent) -> VerifyReport:
    """Check a bundle: every file's hash, every graph's contract, every variant's self-test.

    Args:
        bundle: a bundle folder or archive.
        progress: told after each variant.

    Raises:
        BundleError: the bundle cannot be opened, or a file is damaged.
    """
    opened = Bundle.open(bundle)
    opened.check()
    variants = opened.manifest.variants
    linted, checks = [], []
    for done, variant in enumerate(variants):
        progress("verify", done, len(variants), variant.name)
        problems = _lint(opened, variant)
        if problems is not None:
            linted.append(variant.name)
        if problems:
            checks.append(VariantCheck(variant.name, variant.runtime, variant.precision, "failed", "; ".join(problems)))
            continue
        checks.append(_check(opened, variant))
    progress("verify", len(variants), len(variants))
    return VerifyReport(str(opened.source), len(opened.manifest.files), tuple(linted), tuple(checks), not_built(opened))


def not_built(bundle: Bundle) -> tuple[NotBuilt, ...]:
    """Return what `compile` would build unasked and a bundle does not have."""
    built = {(variant.runtime, variant.precision) for variant in bundle.manifest.variants}
    return tuple(
        NotBuilt(
            target.name,
            precision,
            f"edgedenoise compile {bundle.source} --target {target.name} --precision {precision}",
        )
        for target in registry.values()
        for precision in target.default_precisions
        if (target.name, precision) not in built
    )


def _lint(bundle: Bundle, variant: Variant) -> list[str] | None:
    """Return what breaks the graph contract; None where it cannot be checked."""
    if variant.runtime != OnnxRuntime.name:
        return None
    graph = _loaded(bundle, variant)
    if graph is None:
        return None
    from edgedenoise.exporting.onnx.graph import lint
    from edgedenoise.exporting.quantization.contracts import lint_encoded

    return lint(graph) if variant.encoding is None else lint_encoded(graph, variant.encoding)


def _check(bundle: Bundle, variant: Variant) -> VariantCheck:
    check = VariantCheck(variant.name, variant.runtime, variant.precision, "not run")
    try:
        session = open_variant(bundle, variant, selftest=False)
    except (RuntimeUnavailableError, IncompatibleError) as error:
        return _emulated(bundle, variant, replace(check, reason=_words(error)))
    except EdgeDenoiseError as error:
        return replace(check, status="failed", reason=_words(error))
    return _selftest(bundle, variant, session, replace(check, state="ran here"))


def _emulated(bundle: Bundle, variant: Variant, check: VariantCheck) -> VariantCheck:
    """Check the numbers of a variant that nothing here can run; `check` says why not."""
    try:
        session = open_emulation(bundle, variant)
    except (RuntimeUnavailableError, IncompatibleError) as error:
        return replace(check, reason=f"{check.reason}; nor can it be emulated: {_words(error)}")
    except EdgeDenoiseError as error:
        return replace(check, status="failed", reason=_words(error))
    if session is None:
        return check
    target = backend_of(variant)
    raised = f"numbers {target.emulation}; to raise it, on the device: edgedenoise verify {bundle.source}"
    check = replace(check, reason=f"{check.reason}; {raised}", state="built here, numbers checked by emulation")
    found = _selftest(bundle, variant, session, check)
    # The graph against itself is no comparison.
    return replace(found, oracle_psnr_db=None, oracle_max_levels=None) if found.oracle_max_levels == 0 else found


def _selftest(bundle: Bundle, variant: Variant, session: CheckedSession, check: VariantCheck) -> VariantCheck:
    try:
        result = run_selftest(bundle, variant, session)
        oracle = None if variant.encoding is None else _against_oracle(bundle, variant, session)
    except EdgeDenoiseError as error:
        return replace(check, status="failed", reason=_words(error))
    finally:
        session.close()
    reasons = [check.reason] if check.reason else []
    if not result.passed:
        reasons.append(f"{result.psnr_db:.1f} dB to the float answer, {result.bound_db:.1f} dB expected")
    if oracle is not None and oracle.reason:
        reasons.append(oracle.reason)
    return replace(
        check,
        status="passed" if result.passed else "failed",
        reason="; ".join(reasons),
        psnr_db=result.psnr_db,
        max_levels=result.max_levels,
        bound_db=result.bound_db,
        oracle_max_levels=None if oracle is None else oracle.max_levels,
        oracle_psnr_db=None if oracle is None else oracle.psnr_db,
        divergence=None if oracle is None else oracle.divergence,
    )


def _words(error: EdgeDenoiseError) -> str:
    return str(error).replace("\n", "; ")


@dataclass(frozen=True)
class _OracleCheck:
    """How a variant compares with exact W8A8 on the self-test."""

    psnr_db: float
    max_levels: float
    reason: str = ""
    """What is odd about that; empty within the stated bound, or where none is stated."""
    divergence: Divergence | None = None


def _against_oracle(bundle: Bundle, variant: Variant, session: CheckedSession) -> _OracleCheck | None:
    """Compare with the QDQ graph run in exact arithmetic; None where the bundle has no such graph."""
    graphs = [v for v in bundle.manifest.variants if v.runtime == OnnxRuntime.name and v.encoding == variant.encoding]
    if not graphs or variant.encoding is None:
        return None
    image, _ = selftest_pair(bundle)
    manifest = bundle.manifest
    oracle = open_variant(bundle, graphs[0], options=SessionOptions(fused=False), selftest=False)
    try:
        exact, found = (run_image(s, image, manifest.normalization, manifest.tiling) for s in (oracle, session))
    finally:
        oracle.close()
    psnr_db, max_levels = psnr_unit(found, exact), float(np.abs(found - exact).max() * 255)
    graph = _loaded(bundle, graphs[0])
    bound = reference_bound(variant.encoding.scheme, backend_of(variant), graph)
    if bound is None or bound.holds(psnr_db, max_levels):
        return _OracleCheck(psnr_db, max_levels)
    if graph is None:
        divergence, words = None, 'to see at which layer it begins: pip install "edgedenoise[quantize]"'
    else:
        divergence, words = _divergence(bundle, variant, graph, bound)
    reason = f"{psnr_db:.1f} dB and {max_levels:.1f} levels from exact W8A8: {words}"
    return _OracleCheck(psnr_db, max_levels, reason, divergence)


def _divergence(
    bundle: Bundle, variant: Variant, graph: onnx.ModelProto, bound: ReferenceBound
) -> tuple[Divergence | None, str]:
    """Look for the first layer that a runtime computes differently; return it and the words for it."""
    image, _ = selftest_pair(bundle)
    x = _whole_multiple(statistics(image, bundle.manifest.normalization).apply(image), bundle)
    try:
        backend = pieces_on(backend_of(variant), variant, graph, x)
        found = first_divergence(graph, x, backend, bound)
    except EdgeDenoiseError as error:
        return None, f"at which layer it begins cannot be told: {error}".replace("\n", "; ")
    return found, "no layer alone is far off, small differences add up" if found is None else str(found)


def _loaded(bundle: Bundle, variant: Variant) -> onnx.ModelProto | None:
    """Return a variant's graph; None without the package onnx."""
    try:
        import onnx
    except ImportError:
        return None
    return onnx.load(bundle.variant_file(variant))


def _whole_multiple(pixels: NDArray[np.float32], bundle: Bundle) -> NDArray[np.float32]:
    """Cut (3, H, W) to sides that the network can shuffle, and make it one input of a graph."""
    step = bundle.manifest.tiling.multiple_of
    height, width = (side // step * step for side in pixels.shape[1:])
    return np.ascontiguousarray(pixels[None, :, :height, :width], dtype=np.float32)
