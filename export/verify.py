"""`edgedenoise verify`: check everything about a bundle that this machine can check.

Hashes, the graph contract (where onnx is installed), and the self-test of every variant on its runtime: against the
float answer, and for quantized variants against the oracle (exact W8A8, the QDQ graph run node by node in float).
A variant that is far from float but equal to the oracle has a calibration problem; one that is far from the oracle
has a kernel problem.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgedenoise.bundle import Bundle
from edgedenoise.errors import EdgeDenoiseError, IncompatibleError, RuntimeUnavailableError
from edgedenoise.export.targets import open_variant
from edgedenoise.metrics import psnr_unit
from edgedenoise.progress import Progress, silent
from edgedenoise.runtimes.base import SessionOptions
from edgedenoise.runtimes.ort import OnnxRuntime
from edgedenoise.runtimes.pipeline import run_picture
from edgedenoise.runtimes.selftest import run_selftest, selftest_pair

if TYPE_CHECKING:
    from pathlib import Path

    from edgedenoise.manifest import Variant
    from edgedenoise.runtimes.base import CheckedSession

Status = Literal["passed", "failed", "not run"]


@dataclass(frozen=True)
class VariantCheck:
    """What was found out about one variant."""

    variant: str
    runtime: str
    precision: str
    status: Status
    reason: str = ""
    """Why it failed or was not run; what would mend it."""
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


@dataclass(frozen=True)
class VerifyReport:
    """What was found out about a bundle."""

    bundle: str
    files_checked: int
    linted: tuple[str, ...]
    """ONNX variants whose graph contract was checked; empty without the package onnx."""
    variants: tuple[VariantCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed; variants that cannot run here do not count."""
        return all(check.status != "failed" for check in self.variants)


def verify_bundle(bundle: Path | str, *, progress: Progress = silent) -> VerifyReport:
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
    return VerifyReport(str(opened.source), len(opened.manifest.files), tuple(linted), tuple(checks))


def _lint(bundle: Bundle, variant: Variant) -> list[str] | None:
    """Return what breaks the graph contract; None where it cannot be checked."""
    if variant.runtime != OnnxRuntime.name:
        return None
    try:
        import onnx

        from edgedenoise.export.graph import lint
    except ImportError:
        return None
    return lint(onnx.load(bundle.variant_file(variant)), quantized=variant.encoding is not None)


def _check(bundle: Bundle, variant: Variant) -> VariantCheck:
    who = (variant.name, variant.runtime, variant.precision)
    try:
        session = open_variant(bundle, variant, prove=False)
    except (RuntimeUnavailableError, IncompatibleError) as error:
        return VariantCheck(*who, "not run", str(error).replace("\n", "; "))
    except EdgeDenoiseError as error:
        return VariantCheck(*who, "failed", str(error).replace("\n", "; "))
    try:
        result = run_selftest(bundle, variant, session)
        oracle = None if variant.encoding is None else _against_oracle(bundle, variant, session)
    except EdgeDenoiseError as error:
        return VariantCheck(*who, "failed", str(error).replace("\n", "; "))
    finally:
        session.close()
    oracle_db, oracle_levels = (None, None) if oracle is None else oracle
    reason = "" if result.passed else f"{result.psnr_db:.1f} dB to the float answer, {result.bound_db:.1f} dB expected"
    return VariantCheck(
        *who,
        "passed" if result.passed else "failed",
        reason,
        psnr_db=result.psnr_db,
        max_levels=result.max_levels,
        bound_db=result.bound_db,
        oracle_max_levels=oracle_levels,
        oracle_psnr_db=oracle_db,
    )


def _against_oracle(bundle: Bundle, variant: Variant, session: CheckedSession) -> tuple[float, float] | None:
    """Return (PSNR in dB, largest difference in levels) to the QDQ graph run in exact arithmetic."""
    graphs = [v for v in bundle.manifest.variants if v.runtime == OnnxRuntime.name and v.encoding == variant.encoding]
    if not graphs:
        return None
    picture, _ = selftest_pair(bundle)
    manifest = bundle.manifest
    oracle = open_variant(bundle, graphs[0], options=SessionOptions(fused=False), prove=False)
    try:
        exact, found = (run_picture(s, picture, manifest.normalization, manifest.tiling) for s in (oracle, session))
    finally:
        oracle.close()
    return psnr_unit(found, exact), float(np.abs(found - exact).max() * 255)
