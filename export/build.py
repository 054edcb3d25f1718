"""Build: export, calibrate, quantize, compile and verify, over one folder that is sealed when everything is in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.writer import BundleWriter, check_replaceable
from edgedenoise.calibration.calibrate import choose_ranges, draw_calibration_set, measure, put_measurement
from edgedenoise.calibration.calibrators import MINMAX
from edgedenoise.calibration.drawing import DEFAULT_COUNT, SetOptions
from edgedenoise.calibration.schemes import scheme_named
from edgedenoise.errors import ParityError
from edgedenoise.exporting.compile import build_variants
from edgedenoise.exporting.onnx.float_bundle import EXPORT_STEPS, new_manifest, put_float_graph
from edgedenoise.exporting.quantization.float_layers import find_float_layers
from edgedenoise.exporting.quantization.quantize import (
    QUANTIZE_STEPS,
    EncodingOptions,
    FloatSource,
    default_scheme,
    held_out_judge,
    put_quantized,
    quantize_graph,
    quantize_report,
)
from edgedenoise.exporting.verify import not_built, verify_opened
from edgedenoise.progress import Progress, silent
from edgedenoise.runtimes.registry import registry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from edgedenoise.exporting.onnx.float_bundle import FloatGraph
    from edgedenoise.exporting.quantization.quantize import QuantizedGraph
    from edgedenoise.exporting.quantization.quantize_report import QuantizeReport
    from edgedenoise.exporting.verify import VerifyReport
    from edgedenoise.imaging.normalize import NormalizationKind

SEARCH_SECONDS = 120.0
"""Default limit of the search for layers to keep in float."""


@dataclass(frozen=True)
class BuildReport:
    """A new bundle, how close its INT8 graph is to float, and the checks of its variants."""

    bundle: Bundle
    quantized: QuantizeReport
    verified: VerifyReport


def build(
    checkpoint: Path | str,
    data: Path | str,
    out: Path | str,
    *,
    which: Literal["last", "best"] = "last",
    count: int = DEFAULT_COUNT,
    seed: int = 0,
    scheme: str | None = None,
    normalization: NormalizationKind | None = None,
    search_seconds: float = SEARCH_SECONDS,
    targets: tuple[str, ...] | None = None,
    noise_levels: Sequence[float] = (),
    about: str = "",
    progress: Progress = silent,
) -> BuildReport:
    """Make a complete bundle from a trained network: all of it or nothing.

    Args:
        checkpoint: folder made by `edgedenoise train`.
        data: noisy images to calibrate on; clean ones with `noise_levels`.
        out: the bundle folder to write; an existing bundle is replaced.
        which: the `last` state of the training, or the `best` one on images that were held out.
        count: number of calibration crops.
        seed: seed of the calibration crops.
        scheme: the integer encoding; None for the one that the network was trained in, else the one for any CPU.
        normalization: as in `export`.
        search_seconds: longest search for layers that cost too much in integers and are kept in float, in seconds; 0
            for none. It begins only where held-out images lose more than half of what is recommended.
        targets: names of backends to compile for besides ONNX Runtime; None for all that can build here.
        noise_levels: levels of synthetic camera noise; see `SetOptions`.
        about: Markdown for the model card: data and their licence, measured quality.
        progress: called after each step of each stage.

    Returns:
        The bundle and what was measured.

    Raises:
        ParityError: a variant fails its self-test; nothing is written.
        TrainingError, ExportError, CalibrationError, QuantizationError, UsageError, BundleError: see `export`,
            `calibrate`, `quantize` and `compile`.

    Example:
        >>> import edgedenoise
        >>> report = edgedenoise.build("runs/mine", "photos", "new.edge", targets=())
        >>> [variant.name for variant in report.bundle.manifest.variants], report.verified.passed
        (['onnx-fp32', 'onnx-int8-u8s7'], True)
    """
    from edgedenoise.exporting.onnx.to_onnx import export_graph  # torch, only here

    final = Path(out)
    check_replaceable(final)
    backends = [registry[name] for name in (buildable_targets() if targets is None else targets)]
    options = SetOptions(count, seed, noise_levels=noise_levels)
    graph = export_graph(checkpoint, which, normalization, progress)
    chosen = scheme or graph.scheme or default_scheme()
    with BundleWriter.create(final, new_manifest(graph, final.stem, about)) as writer:
        quantized = _graphs(writer, graph, Path(data), options, chosen, search_seconds, progress)
        bundle = writer.seal()
        for backend in backends:
            if backend.precisions:
                build_variants(bundle, writer, backend, progress=progress)
        verified = verify_opened(writer.seal(), progress)
        failed = [check for check in verified.variants if check.status == "failed"]
        if failed:
            raise ParityError(
                "variants fail their self-test, so nothing was written: "
                + "; ".join(f"{check.variant}: {check.reason}" for check in failed)
            )
    bundle = Bundle.open(final)
    return BuildReport(bundle, quantize_report(bundle, quantized), replace(verified, not_built=not_built(bundle)))


def buildable_targets() -> tuple[str, ...]:
    """Return the names of the backends that this installation can build for."""
    return tuple(backend.name for backend in registry.values() if backend.can_build())


def _graphs(
    writer: BundleWriter,
    graph: FloatGraph,
    data: Path,
    options: SetOptions,
    scheme: str,
    search_seconds: float,
    progress: Progress,
) -> QuantizedGraph:
    """Write the float graph, its ranges and the QDQ graph, and return the last one."""
    written = put_float_graph(writer, graph)
    progress("export", EXPORT_STEPS, EXPORT_STEPS)
    manifest = writer.manifest
    drawn = draw_calibration_set(data, options, manifest, progress)
    measurement = measure(written.model, written.sha256, drawn.crops, drawn.inputs(), manifest, progress)
    put_measurement(writer, measurement, options.noise_levels)
    source = FloatSource(
        written.model,
        choose_ranges(measurement.ranges, measurement.histograms, MINMAX, written.trained),
        manifest.input_normalization,
        manifest.tiling,
        written.selftest,
        held_out_judge(written.data, drawn.crops, data, manifest, tuple(options.noise_levels)),
        trained_in_8_bits=graph.trained_ranges is not None,
        trained_ranges=frozenset(graph.trained_ranges or ()),
    )
    kept: tuple[str, ...] = ()
    if source.judge is not None and search_seconds:
        kept = find_float_layers(
            source.model, source.ranges, scheme_named(scheme), source.judge, seconds=search_seconds, progress=progress
        ).layers
    quantized = quantize_graph(source, scheme_named(scheme), EncodingOptions(excluded_layers=kept), progress)
    put_quantized(writer, quantized)
    progress("quantize", QUANTIZE_STEPS, QUANTIZE_STEPS)
    return quantized
