"""Compile: build a backend's own files from the bundle's ONNX graphs, and run their self-test at once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.writer import BundleWriter, check_editable
from edgedenoise.calibration.calibrate import FLOAT_VARIANT, export_hint
from edgedenoise.errors import IncompatibleError, ParityError, UsageError
from edgedenoise.exporting.commands import has_int8_graph, quantize_command
from edgedenoise.exporting.verify import check_variant
from edgedenoise.progress import Progress, silent
from edgedenoise.runtimes.job import BuildJob, BuildOptions
from edgedenoise.runtimes.onnxruntime.backend import OnnxRuntime
from edgedenoise.runtimes.registry import registry
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from pathlib import Path

    from edgedenoise.bundles.manifest import Precision, Variant
    from edgedenoise.runtimes.base import Backend

_log = logging.getLogger(__name__)
_DEFAULTS = BuildOptions()


def compile(  # noqa: A001  (the public name, edgedenoise.compile; this module compiles no Python)
    bundle: Path | str,
    *,
    target: str,
    precision: Precision | None = None,
    options: BuildOptions = _DEFAULTS,
    progress: Progress = silent,
) -> Bundle:
    """Build a backend's form of the bundle's ONNX graphs, and add it as variants.

    The self-test of each variant is run at once: on the backend where it opens here, else by the backend's emulator,
    if there is one. `verify` reports which.

    Args:
        bundle: a bundle folder.
        target: name of a backend; `edgedenoise doctor` lists them.
        precision: what to build; None for the backend's defaults, as far as the bundle has graphs for them.
        options: shapes, and the backend's own options.
        progress: called after each variant.

    Returns:
        The bundle as it is now.

    Raises:
        UsageError: there is no such backend, or it has no such precision or option.
        BundleError: the bundle is an archive or part of the installed package.
        RuntimeUnavailableError: the backend's package is missing, or this version cannot build for it.
        IncompatibleError: the bundle has no ONNX variant to build that precision from.
        ExportError: the backend does not accept the graph.
        ParityError: a variant fails its self-test; the bundle stays as it was.

    Example:
        >>> import edgedenoise
        >>> bundle = edgedenoise.compile("mine.edge", target="openvino")
        >>> [variant.name for variant in bundle.manifest.variants if variant.runtime == "openvino"]
        ['openvino-fp32', 'openvino-int8-u8s7']
    """
    backend = registry[target]
    opened = Bundle.open(bundle)
    if not backend.precisions:  # opens the graphs as they are
        return opened
    check_editable(opened)
    _warn_without_int8(opened, backend, precision)
    with BundleWriter.edit(opened) as writer:
        variants = build_variants(opened, writer, backend, precision, options, progress)
        written = writer.seal()
        for variant in variants:
            check = check_variant(written, variant, must_open=backend.built_where_it_runs)
            if check.status == "failed":
                raise ParityError(
                    f"{variant.name} was built, but fails its self-test: {check.reason}; the bundle was left as it was",
                    hint=f"Compare the other variants with: {command_line('verify', opened.source)}",
                )
            if check.status == "not run":
                _log.warning(
                    "%s was built and cannot be tested here; on the device: %s",
                    variant.name,
                    command_line("verify", opened.source),
                )
    return Bundle.open(opened.root)


def build_variants(
    bundle: Bundle,
    writer: BundleWriter,
    backend: Backend,
    precision: Precision | None = None,
    options: BuildOptions = _DEFAULTS,
    progress: Progress = silent,
) -> list[Variant]:
    """Build a backend's variants into a bundle that is being written; their self-test is left to `check_variant`.

    Args:
        bundle: what is compiled, with its ONNX graphs and ranges.
        writer: the bundle that is being written.
        backend: what to build for.
        precision: what to build; None for the backend's defaults.
        options: shapes, and the backend's own options.
        progress: called after each variant.

    Returns:
        The new variants.

    Raises:
        UsageError, RuntimeUnavailableError, IncompatibleError, ExportError: as `compile`.
    """
    sources = _sources(bundle, backend, precision)
    variants = []
    for done, (wanted, source) in enumerate(sources):
        progress("compile", done, len(sources), f"{backend.name} {wanted}")
        job = BuildJob(bundle, writer.root, source, bundle.variant_file(source), wanted, options, progress)
        variant = backend.build(job)
        writer.put_variant(variant)
        variants.append(variant)
    progress("compile", len(sources), len(sources))
    return variants


def _sources(bundle: Bundle, backend: Backend, precision: Precision | None) -> list[tuple[Precision, Variant]]:
    """Return (precision to build, ONNX variant to build it from)."""
    if precision is not None and precision not in backend.precisions:
        raise UsageError(
            f"{backend.name} has no precision {precision}; expected one of {', '.join(backend.precisions)}",
            hint=f"To build the usual ones: {command_line('compile', bundle.source, '--target', backend.name)}",
        )
    graphs = [v for v in bundle.manifest.variants if v.runtime == OnnxRuntime.name]
    found: list[tuple[Precision, Variant]] = []
    for wanted in backend.default_precisions if precision is None else (precision,):
        if wanted == "int8":
            found += [(wanted, v) for v in graphs if v.encoding is not None and v.encoding.scheme in backend.schemes]
        else:
            found += [(wanted, v) for v in graphs if v.name == FLOAT_VARIANT]
    if not found:
        has_float = any(v.name == FLOAT_VARIANT for v in graphs)  # then INT8 is what is missing
        raise IncompatibleError(
            f"{bundle.source} has no ONNX variant to build {precision or 'anything'} for {backend.name} from; it has"
            f" {', '.join(v.name for v in graphs) or 'none'}",
            hint=f"Quantize it first: {quantize_command(bundle, backend)}" if has_float else export_hint(bundle),
        )
    return found


def _warn_without_int8(bundle: Bundle, backend: Backend, precision: Precision | None) -> None:
    """Warn when INT8 is among the defaults and the bundle has no graph for it."""
    if precision is None and "int8" in backend.default_precisions and not has_int8_graph(bundle, backend):
        _log.warning(
            "%s has no INT8 graph for %s, so only %s is built; to add one: %s",
            bundle.source,
            backend.name,
            ", ".join(wanted for wanted in backend.default_precisions if wanted != "int8"),
            quantize_command(bundle, backend),
        )
