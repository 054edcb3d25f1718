"""Verify: check everything about a bundle that this machine can check.

Checked are the hashes, the contracts of the graphs (where onnx is installed) and the self-test of every variant, on its
backend or by emulation: against the float output and, for quantized variants, against the reference execution (unfused
W8A8, the QDQ graph run node by node in float). A variant that is far from float but equal to the reference has a
calibration problem. One that is far from the reference has a kernel problem, and the first layer that differs is named.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.calibration.graphs import channel_problems, load_onnx
from edgedenoise.errors import EdgeDenoiseError, IncompatibleError, RuntimeUnavailableError
from edgedenoise.exporting.commands import compile_command
from edgedenoise.exporting.quantization.divergence import (
    Divergence,
    first_divergence,
    pieces_on,
    reference_bound,
)
from edgedenoise.extras import is_installed
from edgedenoise.imaging.metrics import psnr_unit
from edgedenoise.progress import Progress, silent
from edgedenoise.runtimes.base import SessionOptions
from edgedenoise.runtimes.onnxruntime.backend import OnnxRuntime
from edgedenoise.runtimes.onnxruntime.reference import open_reference
from edgedenoise.runtimes.opening import backend_of, open_emulation, open_variant
from edgedenoise.runtimes.pipeline import image_statistics, network_input, run_image
from edgedenoise.runtimes.registry import registry
from edgedenoise.runtimes.selftest import run_selftest, selftest_pair
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from pathlib import Path

    import onnx
    from numpy.typing import NDArray

    from edgedenoise.bundles.manifest import Variant
    from edgedenoise.runtimes.bounds import ReferenceBound
    from edgedenoise.runtimes.checked import CheckedSession

_STATED_TWICE = ("input_normalization", "tiling", "noise_level")
_STATED_OF_VARIANT = ("runtime", "precision", "encoding", "shapes")
Status = Literal["passed", "failed", "not run"]
State = Literal["tested on hardware", "emulated", "not tested", "not built"]
"""How much is known about a variant on this machine, from most to least."""


@dataclass(frozen=True)
class VariantCheck:
    """The check of one variant."""

    variant: str
    runtime: str
    precision: str
    status: Status
    reason: str = ""
    """Why the variant failed or was not run, and what would fix it; or a remark about one that passed."""
    state: State = "not tested"
    psnr_db: float | None = None
    """Self-test, against the float output, unit range."""
    max_error_lsb: float | None = None
    """Self-test, largest difference to the float output in 8-bit levels."""
    bound_db: float | None = None
    """What `psnr_db` must reach."""
    tiled_psnr_db: float | None = None
    """Self-test, PSNR of blended tiles to the whole image, which is not judged; None for exact tiles."""
    tiled_max_error_lsb: float | None = None
    """Self-test, largest difference of blended tiles to the whole image in 8-bit levels; None for exact tiles."""
    reference_max_error_lsb: float | None = None
    """Self-test, largest difference to the reference execution in 8-bit levels; None for float variants."""
    reference_psnr_db: float | None = None
    """Self-test, PSNR to the reference execution; None for float variants."""
    divergence: Divergence | None = None
    """The first layer that the backend computes differently, searched for where the variant is farther from the
    reference execution than the backend's `error_bounds` allow."""


@dataclass(frozen=True)
class NotBuilt:
    """A backend and precision, among the defaults of `compile`, that a bundle has no variant for."""

    target: str
    precision: str
    command: str
    """Command line that builds it."""
    state: State = "not built"


@dataclass(frozen=True)
class VerifyReport:
    """The check of a bundle."""

    bundle: str
    files_checked: int
    linted: tuple[str, ...]
    """ONNX variants whose graph contract was checked; empty without the package onnx."""
    variants: tuple[VariantCheck, ...]
    not_built: tuple[NotBuilt, ...] = ()
    unknown: tuple[str, ...] = ()
    """Variants that a newer version of edgedenoise wrote, with the reason why this one cannot read them."""
    strays: tuple[str, ...] = ()
    """Files in the folder that are not part of the bundle."""

    @property
    def passed(self) -> bool:
        """Whether nothing failed; variants that cannot run here do not count."""
        return all(check.status != "failed" for check in self.variants)

    @property
    def measured(self) -> bool:
        """Whether at least one variant was run or emulated, so that `passed` rests on numbers."""
        return any(check.status != "not run" for check in self.variants)


def verify(bundle: Path | str, *, trust_engine: bool = False, progress: Progress = silent) -> VerifyReport:
    """Check a bundle: every file's hash, every graph's contract, every variant's self-test.

    Args:
        bundle: a bundle folder or archive.
        trust_engine: load TensorRT engines that contain code for the host although another machine built them.
        progress: called after each variant.

    Returns:
        The checks.

    Raises:
        BundleError: the bundle cannot be opened, or a file is damaged.

    Example:
        >>> import edgedenoise
        >>> report = edgedenoise.verify("edge-tiny")
        >>> report.passed
        True
    """
    opened = Bundle.open(bundle)
    opened.check()
    return verify_opened(opened, progress, trust_engine=trust_engine)


def verify_opened(bundle: Bundle, progress: Progress = silent, *, trust_engine: bool = False) -> VerifyReport:
    """Check the graphs and variants of a bundle whose files are known to be sound; see `verify`."""
    variants = bundle.manifest.variants
    linted, checks = [], []
    for done, variant in enumerate(variants):
        progress("verify", done, len(variants), variant.name)
        problems = _lint(bundle, variant)
        if problems is not None:
            linted.append(variant.name)
        problems = [*(problems or []), *_wrong_metadata(bundle, variant)]
        if problems:
            checks.append(VariantCheck(variant.name, variant.runtime, variant.precision, "failed", "; ".join(problems)))
            continue
        checks.append(check_variant(bundle, variant, trust_engine=trust_engine))
    progress("verify", len(variants), len(variants))
    return VerifyReport(
        bundle=str(bundle.source),
        files_checked=len(bundle.manifest.files),
        linted=tuple(linted),
        variants=tuple(checks),
        not_built=not_built(bundle),
        unknown=tuple(f"{one.name}: {one.reason}" for one in bundle.unknown_variants),
        strays=tuple(bundle.strays()),
    )


def not_built(bundle: Bundle) -> tuple[NotBuilt, ...]:
    """Return the default variants of all backends that a bundle does not have, with the commands that add them."""
    built = {(variant.runtime, variant.precision) for variant in bundle.manifest.variants}
    return tuple(
        NotBuilt(backend.name, precision, compile_command(bundle, backend, precision))
        for backend in registry.values()
        for precision in backend.default_precisions
        if (backend.name, precision) not in built
    )


def _lint(bundle: Bundle, variant: Variant) -> list[str] | None:
    """Return what breaks the graph contract or contradicts the manifest; None where it cannot be checked."""
    if variant.runtime != OnnxRuntime.name:
        return None
    graph = _loaded(bundle, variant)
    if graph is None:
        return None
    from edgedenoise.exporting.onnx.graph import lint
    from edgedenoise.exporting.quantization.contracts import lint_encoded

    problems = lint(graph) if variant.encoding is None else lint_encoded(graph, variant.encoding)
    return [*problems, *channel_problems(graph, bundle.manifest), *_wrong_tiling(bundle, graph)]


def _wrong_tiling(bundle: Bundle, graph: onnx.ModelProto) -> list[str]:
    """Return what the manifest states about tiles otherwise than the graph needs."""
    from edgedenoise.exporting.onnx.receptive_field import receptive_field

    tiling, problems = bundle.manifest.tiling, []
    field = receptive_field(graph)
    if field is not None and field.reads_whole_image and tiling.is_exact:
        problems.append("the manifest states exact tiles; the graph reads the mean of the whole image")
    if field is not None and tiling.halo_px < field.halo_px:
        problems.append(f"the halo in the manifest is {tiling.halo_px} px; the graph needs {field.halo_px} px")
    if field is not None and tiling.multiple_of % field.multiple_of:
        problems.append(
            f"multiple_of in the manifest is {tiling.multiple_of}; the graph needs a multiple of {field.multiple_of}"
        )
    return problems


def _wrong_metadata(bundle: Bundle, variant: Variant) -> list[str]:
    """Return what the metadata in a variant's model file states otherwise than the manifest."""
    backend = registry.get(variant.runtime)
    if backend is None or not backend.suffixes or not backend.probe().available:
        return []
    try:
        embedded = backend.metadata(bundle.model_files(variant))
        if not embedded:
            return []
        alone = Bundle.from_metadata(bundle.root / variant.path, embedded).manifest
    except EdgeDenoiseError as error:
        return [error.message]
    stated = {name: (getattr(alone, name), getattr(bundle.manifest, name)) for name in _STATED_TWICE}
    stated |= {name: (getattr(alone.variants[0], name), getattr(variant, name)) for name in _STATED_OF_VARIANT}
    return [
        f"the metadata in {variant.path} state {name} {inside}; the manifest states {outside}"
        for name, (inside, outside) in stated.items()
        if inside != outside
    ]


def check_variant(
    bundle: Bundle, variant: Variant, *, must_open: bool = False, trust_engine: bool = False
) -> VariantCheck:
    """Run the self-test of one variant: on its backend or, where that cannot run here, by emulation.

    Args:
        bundle: an opened bundle.
        variant: one of its variants.
        must_open: whether an unusable backend is an error instead of a reason to emulate.
        trust_engine: as in `verify`.

    Raises:
        RuntimeUnavailableError, IncompatibleError: the backend cannot run the variant here, and `must_open` is set.
    """
    check = VariantCheck(variant.name, variant.runtime, variant.precision, "not run")
    try:
        session = open_variant(bundle, variant, options=SessionOptions(trust_engine=trust_engine), selftest=False)
    except (RuntimeUnavailableError, IncompatibleError) as error:
        if must_open:
            raise
        return _emulated(bundle, variant, replace(check, reason=error.one_line))
    except EdgeDenoiseError as error:
        return replace(check, status="failed", reason=error.one_line)
    return _selftest(bundle, variant, session, replace(check, state="tested on hardware"))


def _emulated(bundle: Bundle, variant: Variant, check: VariantCheck) -> VariantCheck:
    """Check the numbers of a variant that this machine cannot run; `check` holds the reason."""
    try:
        session = open_emulation(bundle, variant)
    except (RuntimeUnavailableError, IncompatibleError) as error:
        return replace(check, reason=f"{check.reason}; it cannot be emulated either: {error.one_line}")
    except EdgeDenoiseError as error:
        return replace(check, status="failed", reason=error.one_line)
    if session is None:
        return check
    target = backend_of(variant)
    raised = f"numbers {target.emulation}; to test it, on the device: {command_line('verify', bundle.source)}"
    check = replace(check, reason=f"{check.reason}; {raised}", state="emulated")
    found = _selftest(bundle, variant, session, check)
    # The graph against itself is no comparison.
    if found.reference_max_error_lsb == 0:
        return replace(found, reference_psnr_db=None, reference_max_error_lsb=None)
    return found


def _selftest(bundle: Bundle, variant: Variant, session: CheckedSession, check: VariantCheck) -> VariantCheck:
    try:
        result = run_selftest(bundle, variant, session)
        reference = None if variant.encoding is None else _against_reference(bundle, variant, result.output)
    except EdgeDenoiseError as error:
        return replace(check, status="failed", reason=error.one_line)
    finally:
        session.close()
    reasons = [check.reason] if check.reason else []
    if result.reason is not None:
        reasons.append(result.reason)
    if reference is not None and reference.reason:
        reasons.append(reference.reason)
    blended = result.tiled_bound_db is None
    if blended:
        reasons.append(
            f"tiles are blended and not exact: {result.tiled_psnr_db:.1f} dB and at most"
            f" {result.tiled_max_error_lsb:.2f} 8-bit levels from the whole image"
        )
    return replace(
        check,
        status="passed" if result.passed else "failed",
        reason="; ".join(reasons),
        psnr_db=result.psnr_db,
        max_error_lsb=result.max_error_lsb,
        bound_db=result.bound_db,
        tiled_psnr_db=result.tiled_psnr_db if blended else None,
        tiled_max_error_lsb=result.tiled_max_error_lsb if blended else None,
        reference_max_error_lsb=None if reference is None else reference.max_error_lsb,
        reference_psnr_db=None if reference is None else reference.psnr_db,
        divergence=None if reference is None else reference.divergence,
    )


@dataclass(frozen=True)
class _ReferenceCheck:
    """How a variant compares with the reference execution on the self-test."""

    psnr_db: float
    max_error_lsb: float
    reason: str = ""
    """Remark on a distance beyond the stated bound; empty within it, or where none is stated."""
    divergence: Divergence | None = None


def _against_reference(bundle: Bundle, variant: Variant, found: NDArray[np.float32]) -> _ReferenceCheck | None:
    """Return the distance of the self-test's output to that of the reference execution; None without its QDQ graph."""
    graphs = [v for v in bundle.manifest.variants if v.runtime == OnnxRuntime.name and v.encoding == variant.encoding]
    if not graphs or variant.encoding is None:
        return None
    image, _ = selftest_pair(bundle)
    manifest = bundle.manifest
    with open_reference(bundle.model_files(graphs[0]).onnx_data) as reference:
        exact = run_image(reference, image, manifest.input_normalization, manifest.tiling)
    psnr_db, max_error_lsb = psnr_unit(found, exact), float(np.abs(found - exact).max() * 255)
    graph = _loaded(bundle, graphs[0])
    bound = reference_bound(variant.encoding.scheme, backend_of(variant), graph)
    if bound is None or bound.holds(psnr_db, max_error_lsb):
        return _ReferenceCheck(psnr_db, max_error_lsb)
    if graph is None:
        divergence, words = None, 'to find the first layer that differs: pip install "edgedenoise[quantize]"'
    else:
        divergence, words = _divergence(bundle, variant, graph, bound)
    reason = f"{psnr_db:.1f} dB and {max_error_lsb:.1f} levels from the reference execution: {words}"
    return _ReferenceCheck(psnr_db, max_error_lsb, reason, divergence)


def _divergence(
    bundle: Bundle, variant: Variant, graph: onnx.ModelProto, bound: ReferenceBound
) -> tuple[Divergence | None, str]:
    """Return the first layer that a backend computes differently, and a description of it."""
    image, _ = selftest_pair(bundle)
    stats = image_statistics(image, bundle.manifest.input_normalization)
    x = _whole_multiple(network_input(image, stats), bundle)
    try:
        backend = pieces_on(backend_of(variant), variant, graph, x)
        found = first_divergence(graph, x, backend, bound)
    except EdgeDenoiseError as error:
        return None, f"the first layer that differs cannot be found: {error}".replace("\n", "; ")
    return found, "no layer alone is far off; small differences add up" if found is None else str(found)


def _loaded(bundle: Bundle, variant: Variant) -> onnx.ModelProto | None:
    """Return a variant's graph; None without the package onnx."""
    if not is_installed("onnx"):
        return None
    return load_onnx(bundle.model_files(variant).onnx_data, f"{bundle.source}: {variant.path}")


def _whole_multiple(pixels: NDArray[np.float32], bundle: Bundle) -> NDArray[np.float32]:
    """Return (C, H, W) cut to sides that the network accepts, as one input of a graph."""
    step = bundle.manifest.tiling.multiple_of
    height, width = (side // step * step for side in pixels.shape[1:])
    return np.ascontiguousarray(pixels[None, :, :height, :width], dtype=np.float32)
