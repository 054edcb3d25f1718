"""`edgedenoise compile`: make a backend's own files from the bundle's ONNX graphs, and prove them at once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.writer import BundleWriter, check_editable
from edgedenoise.calibration.calibrate import FLOAT_VARIANT
from edgedenoise.errors import IncompatibleError, ParityError, RuntimeUnavailableError, UsageError
from edgedenoise.progress import Progress, silent
from edgedenoise.runtimes.checked import CheckedSession
from edgedenoise.runtimes.job import BuildJob, BuildOptions
from edgedenoise.runtimes.onnxruntime.backend import OnnxRuntime
from edgedenoise.runtimes.opening import open_emulation
from edgedenoise.runtimes.registry import registry
from edgedenoise.runtimes.selftest import run_selftest

if TYPE_CHECKING:
    from pathlib import Path

    from edgedenoise.bundles.manifest import Precision, Variant
    from edgedenoise.runtimes.base import Backend

_log = logging.getLogger(__name__)
_AS_IT_IS = BuildOptions()


def compile(  # noqa: A001  (the public name, edgedenoise.compile; this module compiles no Python)
    bundle: Path | str,
    *,
    target: str,
    precision: Precision | None = None,
    options: BuildOptions = _AS_IT_IS,
    progress: Progress = silent,
) -> Bundle:
    """Build the target's form of the bundle's ONNX graphs, and add what was built as variants.

    Each is proved by the self-test at once: on the runtime where it opens here, else by the target's emulator, where
    it has one; `verify` tells which.

    Args:
        bundle: a bundle folder.
        target: name of a backend; `edgedenoise doctor` lists them.
        precision: what to build; None for the target's default, as far as the bundle has graphs for it.
        options: shapes, and the backend's own.
        progress: told after each variant.

    Returns:
        The bundle as it is now.

    Raises:
        UsageError: there is no such target, or it has no such precision or option.
        BundleError: the bundle is an archive or a part of the installed package.
        RuntimeUnavailableError: the target's package is missing, or this version cannot build for it.
        IncompatibleError: the bundle has no ONNX variant to build that precision from.
        ExportError: the backend refuses the graph.
        ParityError: what was built fails the self-test; the bundle stays as it was.
    """
    chosen = registry[target]
    opened = Bundle.open(bundle)
    if not chosen.precisions:  # opens the graphs as they are
        return opened
    check_editable(opened)
    sources = _sources(opened, chosen, precision)
    with BundleWriter.edit(opened) as draft:
        for done, (wanted, source) in enumerate(sources):
            progress("compile", done, len(sources), f"{chosen.name} {wanted}")
            job = BuildJob(opened, draft.root, source, opened.variant_file(source), wanted, options, progress)
            variant = chosen.build(job)
            draft.put_variant(variant)
            _prove(draft.seal(), variant, chosen, opened)
        progress("compile", len(sources), len(sources))
    return Bundle.open(opened.root)


def _sources(bundle: Bundle, target: Backend, precision: Precision | None) -> list[tuple[Precision, Variant]]:
    """Return (precision to build, ONNX variant to build it from)."""
    if precision is not None and precision not in target.precisions:
        raise UsageError(f"{target.name} has no precision {precision}; accepted are {', '.join(target.precisions)}")
    graphs = [v for v in bundle.manifest.variants if v.runtime == OnnxRuntime.name]
    add = f"edgedenoise quantize {bundle.source} --scheme {target.schemes[0]}"
    found: list[tuple[Precision, Variant]] = []
    for wanted in target.default_precisions if precision is None else (precision,):
        if wanted == "int8":
            found += [(wanted, v) for v in graphs if v.encoding is not None and v.encoding.scheme in target.schemes]
        else:
            found += [(wanted, v) for v in graphs if v.name == FLOAT_VARIANT]
    if not found:
        raise IncompatibleError(
            f"{bundle.source} has no ONNX variant to build {precision or 'anything'} for {target.name} from; it has"
            f" {', '.join(v.name for v in graphs) or 'none'}",
            hint=f"quantize it first: {add}",
        )
    if precision is None and "int8" in target.default_precisions and all(wanted != "int8" for wanted, _ in found):
        _log.warning(
            "%s has no INT8 graph for %s, so only %s is built; to add one: %s",
            bundle.source,
            target.name,
            ", ".join(wanted for wanted, _ in found),
            add,
        )
    return found


def _prove(written: Bundle, variant: Variant, target: Backend, original: Bundle) -> None:
    """Run the self-test of what was just built, where anything here can."""
    opened: CheckedSession | None
    try:
        session = target.open(variant, written.variant_file(variant))
        opened = CheckedSession(session, variant.shapes)
    except (RuntimeUnavailableError, IncompatibleError):
        if target.built_where_it_runs:  # and refused there at once: it would be refused for ever
            raise
        opened = open_emulation(written, variant)
    if opened is None:
        _log.warning("%s was built and nothing here can run it; prove it there: edgedenoise verify", variant.name)
        return
    with opened:
        result = run_selftest(written, variant, opened)
    if not result.passed:
        raise ParityError(
            f"{variant.name} was built but gives {result.psnr_db:.1f} dB to the float answer; at least"
            f" {result.bound_db:.1f} dB expected; the bundle was left as it was",
            hint="compare the backends with: edgedenoise verify " + str(original.source),
        )
