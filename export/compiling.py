"""`edgedenoise compile`: make a backend's own files from the bundle's ONNX graphs, and prove them at once."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from edgedenoise.bundle import Bundle
from edgedenoise.calibration.schemes import schemes_for
from edgedenoise.errors import IncompatibleError, ParityError, RuntimeUnavailableError
from edgedenoise.export.targets import runtime_of, target_named
from edgedenoise.progress import Progress, silent
from edgedenoise.runtimes.base import CheckedSession, SessionOptions
from edgedenoise.runtimes.ort import OnnxRuntime
from edgedenoise.runtimes.selftest import run_selftest

if TYPE_CHECKING:
    from pathlib import Path

    from edgedenoise.export.targets import Target
    from edgedenoise.manifest import Precision, Variant


def compile_model(
    bundle: Path | str,
    *,
    target: str,
    precision: Precision | None = None,
    progress: Progress = silent,
) -> Bundle:
    """Build the target's form of every ONNX variant of the bundle that is for it, and add them as variants.

    Args:
        bundle: a bundle folder.
        target: a name of `edgedenoise.export.targets`.
        precision: only variants of this precision; None for all.
        progress: told after each variant.

    Returns:
        The bundle as it is now.

    Raises:
        UsageError: there is no such target.
        RuntimeUnavailableError: the target's package is missing, or this version cannot build for it.
        IncompatibleError: the bundle has no ONNX variant of that precision.
        ParityError: what was built fails the self-test; the bundle stays as it was.
    """
    chosen = target_named(target)
    opened = Bundle.open(bundle)
    sources = [
        v
        for v in opened.manifest.variants
        if v.runtime == OnnxRuntime.name and precision in (None, v.precision) and _is_for(v, chosen)
    ]
    if not sources:
        raise IncompatibleError(
            f"{opened.source} has no ONNX variant of precision {precision} to compile from",
            hint=f"quantize it first: edgedenoise quantize {opened.source}",
        )
    runtime = runtime_of(chosen)
    if chosen.builder is None:
        if chosen.name == OnnxRuntime.name:  # opens the graphs as they are
            return opened
        raise RuntimeUnavailableError(f"this version of edgedenoise has no builder for {chosen.name}")
    module, _, function = chosen.builder.partition(":")
    build = getattr(importlib.import_module(module), function)
    with opened.edit() as draft:
        for done, source in enumerate(sources):
            progress("compile", done, len(sources), source.name)
            variant: Variant = build(draft, source, opened.variant_file(source))
            options = SessionOptions(protect_saturation=False)  # built for devices that this one may not be
            with CheckedSession(runtime.open(variant, draft.root / variant.path, "auto", options)) as session:
                result = run_selftest(opened, variant, session)
            if not result.passed:
                raise ParityError(
                    f"{variant.name} was built but gives {result.psnr_db:.1f} dB to the float answer; at least"
                    f" {result.bound_db:.1f} dB expected; the bundle was left as it was",
                    hint="compare the backends with: edgedenoise verify " + str(opened.source),
                )
    progress("compile", len(sources), len(sources))
    return Bundle.open(opened.root)


def _is_for(variant: Variant, target: Target) -> bool:
    """Tell whether a variant is float, or encoded by a scheme that the target may be given."""
    encoding = variant.encoding
    return encoding is None or encoding.scheme in {scheme.name for scheme in schemes_for(target.device_class)}
