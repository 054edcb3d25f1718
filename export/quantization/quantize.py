"""Quantize: encode a float graph as a QDQ graph, measure how close it is to float, and add it to a bundle."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.manifest import Encoding, Variant
from edgedenoise.bundles.writer import BundleWriter, check_editable
from edgedenoise.calibration.calibrate import (
    FLOAT_VARIANT,
    TRAINED_RANGES_FILE,
    float_graph,
    read_float_graph,
    stored_ranges,
    trained_ranges,
)
from edgedenoise.calibration.calibrators import MINMAX, calibrator_named
from edgedenoise.calibration.drawing import SetOptions
from edgedenoise.calibration.schemes import Scheme, WeightClip, scheme_named
from edgedenoise.calibration.sets import draw_set
from edgedenoise.errors import CalibrationError, UsageError
from edgedenoise.exporting.onnx.graph import embed, in_graph_order
from edgedenoise.exporting.quantization.contracts import check_encoded
from edgedenoise.exporting.quantization.correction import Auto, BiasCorrection, check_ways, mean_shifts, refine
from edgedenoise.exporting.quantization.judge import Judge, held_out_set, judged_images, known_set
from edgedenoise.exporting.quantization.qdq import encode
from edgedenoise.exporting.quantization.quantize_report import QuantizeReport, Removed
from edgedenoise.imaging.metrics import psnr_unit
from edgedenoise.progress import Progress, silent
from edgedenoise.runtimes.onnxruntime.backend import OnnxRuntime
from edgedenoise.runtimes.onnxruntime.reference import open_reference
from edgedenoise.runtimes.pipeline import run_image
from edgedenoise.runtimes.selftest import selftest_pair
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from edgedenoise.bundles.manifest import Manifest
    from edgedenoise.calibration.ranges import Ranges
    from edgedenoise.calibration.sets import CalibrationSet
    from edgedenoise.exporting.quantization.correction import Shifts
    from edgedenoise.imaging.normalize import Normalization
    from edgedenoise.imaging.tiling import Tiling

CORRECTION_CROPS = 8
QUANTIZE_STEPS = 3
"""Steps that are reported as progress: held-out crops, encoding, distance to float."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EncodingOptions:
    """How a graph is encoded, besides the scheme."""

    calibrator: str = MINMAX.name
    """Name of the calibrator that chose the ranges."""
    excluded_layers: Collection[str] = ()
    """Outputs of the layers that are kept in float."""
    weight_clip: WeightClip | Auto = "none"
    bias_correction: BiasCorrection | Auto = "none"

    def __post_init__(self) -> None:
        check_ways(self.weight_clip, self.bias_correction)


@dataclass(frozen=True)
class FloatSource:
    """A float graph, its ranges, and what quantized graphs are compared with."""

    model: onnx.ModelProto
    ranges: Ranges
    normalization: Normalization
    tiling: Tiling
    selftest: tuple[NDArray[np.float32], NDArray[np.float32]]
    """(image, float output) in unit range; see `selftest_pair`."""
    judge: Judge | None = None
    """Held-out images; None without."""
    correction_inputs: Sequence[NDArray[np.float32]] = ()
    """What the network is given, (1, C, h, w) each; the bias correction measures means on it."""
    trained_in_8_bits: bool = False
    trained_ranges: frozenset[str] = frozenset()
    """Tensors whose range in `ranges` was trained."""

    def selftest_db(self, model: onnx.ModelProto) -> float:
        """Run a graph's reference execution on the self-test image and return the PSNR to the float output."""
        image, answer = self.selftest
        with open_reference(model.SerializeToString()) as session:
            return psnr_unit(run_image(session, image, self.normalization, self.tiling), answer)

    def distance_db(self, model: onnx.ModelProto, scheme: Scheme) -> float:
        """Return the PSNR to float on held-out images or, without, on the self-test."""
        return self.selftest_db(model) if self.judge is None else self.judge.judge(model, scheme).to_float_db


@dataclass(frozen=True)
class QuantizedGraph:
    """A QDQ graph, how it was encoded, and how close it is to float."""

    model: onnx.ModelProto
    variant: Variant
    selftest_db: float
    held_out_db: float | None
    held_out_crops: int
    ranges: int
    """Number of activation ranges that it was encoded with."""
    weight_clip_gain_db: float | None
    bias_correction_gain_db: float | None

    @property
    def encoding(self) -> Encoding:
        """The encoding of the variant."""
        if self.variant.encoding is None:
            raise TypeError("a quantized graph has an encoding")
        return self.variant.encoding


def quantize(
    bundle: Path | str,
    *,
    scheme: str | None = None,
    calibrator: str | None = None,
    data: Path | str | None = None,
    excluded_layers: Collection[str] = (),
    weight_clip: WeightClip | Auto = "none",
    bias_correction: BiasCorrection | Auto = "none",
    ignore_trained_ranges: bool = False,
    progress: Progress = silent,
) -> QuantizeReport:
    """Encode a bundle's float graph as a QDQ graph and add it as the variant `onnx-int8-SCHEME`.

    Args:
        bundle: a calibrated bundle folder.
        scheme: one of `edgedenoise.calibration.schemes.SCHEMES`; None for the one that any CPU runs.
        calibrator: how ranges are chosen from the stored histograms; see `edgedenoise.calibration.calibrators`. None
            for `minmax`.
        data: images to measure the loss and the distance to float on as well, those that calibration has not seen.
        excluded_layers: outputs of layers that are kept in float; `quantize_to_budget` finds them.
        weight_clip: `mse` takes weight scales of least squared error; `auto` keeps that where it measures better, on
            crops of `data` or, without, on the self-test; never for weights that were trained in 8 bits.
        bias_correction: `mean` gives each channel the mean that it has in float, measured on crops of `data`; `auto`
            keeps that where it measures better.
        ignore_trained_ranges: choose all ranges by the calibrator, also those that the weights were trained with.
        progress: called after each step.

    Returns:
        How close the new graph is to float, and which variants of other backends were removed: they held the old
        encoding, and `edgedenoise.exporting.rebuild.rebuild` builds them again.

    Raises:
        CalibrationError: the bundle has no ranges.
        UsageError: there is no such scheme, calibrator, clipping or correction, or a correction lacks images; or a
            calibrator was given for a bundle whose ranges were trained.
        QuantizationError: a tensor has no range.
        ExportError: the graph breaks the scheme's contract.
        BundleError: the bundle cannot be opened or changed.

    Example:
        >>> import edgedenoise
        >>> report = edgedenoise.quantize("mine.edge", data="photos")
        >>> report.variant
        'onnx-int8-u8s7'
    """
    options = EncodingOptions(calibrator or MINMAX.name, excluded_layers, weight_clip, bias_correction)
    if bias_correction != "none" and data is None:
        raise UsageError(
            f"the bias correction {bias_correction!r} was asked for without images to measure means on",
            hint=f"Give the images that {bundle} was calibrated on with --data.",
        )
    opened = Bundle.open(bundle)
    check_editable(opened)
    check_calibrator(opened, calibrator, ignore_trained_ranges=ignore_trained_ranges)
    progress("quantize", 0, QUANTIZE_STEPS, "held-out crops")
    chosen = scheme_named(scheme or default_scheme())
    source = float_source(
        opened,
        options.calibrator,
        None if data is None else Path(data),
        correct=bias_correction != "none",
        ignore_trained_ranges=ignore_trained_ranges,
    )
    quantized = quantize_graph(source, chosen, options, progress)
    with BundleWriter.edit(opened) as writer:
        removed = put_quantized(writer, quantized)
    progress("quantize", QUANTIZE_STEPS, QUANTIZE_STEPS)
    return quantize_report(Bundle.open(opened.root), quantized, removed)


def check_calibrator(bundle: Bundle, calibrator: str | None, *, ignore_trained_ranges: bool) -> None:
    """Check that a calibrator that was named would be used.

    Raises:
        UsageError: the ranges of the bundle were trained, so that the calibrator would choose few of them or none.
    """
    if calibrator is None or ignore_trained_ranges or not bundle.has(TRAINED_RANGES_FILE):
        return
    again = command_line("quantize", bundle.source, "--calibrator", calibrator, "--ignore-trained-ranges")
    raise UsageError(
        f"{bundle.source} was trained in 8 bits, and its trained ranges take precedence; expected no calibrator, got"
        f" {calibrator}",
        hint=f"Leave it out, or ignore the trained ranges, which costs quality: {again}",
    )


def default_scheme() -> str:
    """Return the name of the encoding that any CPU runs."""
    return OnnxRuntime.schemes[0]


def float_source(
    bundle: Bundle,
    calibrator: str,
    data: Path | None = None,
    *,
    correct: bool = False,
    ignore_trained_ranges: bool = False,
) -> FloatSource:
    """Return the float graph of a calibrated bundle with its ranges and held-out crops.

    Args:
        bundle: a calibrated bundle.
        calibrator: how ranges are chosen.
        data: images for held-out crops; None for none.
        correct: whether crops for a bias correction are drawn from `data` as well.
        ignore_trained_ranges: choose all ranges by the calibrator.

    Raises:
        CalibrationError: the bundle has no ranges, or `data` cannot be used.
        UsageError: there is no such calibrator.
    """
    manifest = bundle.manifest
    graph, model = float_graph(bundle), read_float_graph(bundle)
    ranges = stored_ranges(bundle, calibrator_named(calibrator), ignore_trained=ignore_trained_ranges)
    trained = None if ignore_trained_ranges else trained_ranges(bundle)
    levels = tuple(manifest.calibration.noise_levels) if manifest.calibration is not None else ()
    inputs: list[NDArray[np.float32]] = []
    if data is not None and correct:
        options = SetOptions(CORRECTION_CROPS, known_set(bundle).seed, noise_levels=levels)
        takes_level = manifest.noise_level is not None
        drawn = draw_set(data, options, manifest.input_normalization, manifest.tiling, takes_level=takes_level)
        inputs = [x for x, _ in drawn.inputs()]
    return FloatSource(
        model,
        ranges,
        manifest.input_normalization,
        manifest.tiling,
        selftest_pair(bundle),
        None if data is None else held_out_judge(graph, known_set(bundle), data, manifest, levels),
        inputs,
        trained_in_8_bits=bundle.has(TRAINED_RANGES_FILE),
        trained_ranges=frozenset(() if trained is None else trained.tensors),
    )


def held_out_judge(
    float_model: bytes, known: CalibrationSet, data: Path, manifest: Manifest, noise_levels: tuple[float, ...]
) -> Judge | None:
    """Return a judge with images that calibration has not seen; None, with a warning, where it has seen everything."""
    try:
        drawn = held_out_set(known, data, manifest, judged_images(manifest), noise_levels)
    except CalibrationError as error:
        _log.warning("the distance to float is measured on the self-test alone: %s", error.message)
        return None
    return Judge(float_model, drawn, drawn.clean() if noise_levels else None, replay=True)


def quantize_graph(
    source: FloatSource, scheme: Scheme, options: EncodingOptions, progress: Progress = silent
) -> QuantizedGraph:
    """Encode a float graph and measure how close the result is to float; no folder is touched.

    Args:
        source: the float graph.
        scheme: the integer encoding.
        options: ranges' calibrator, layers kept in float, weight clipping and bias correction.
        progress: called after each step.

    Raises:
        QuantizationError: a tensor has no range.
    """
    clip, correction = options.weight_clip, options.bias_correction
    if source.trained_in_8_bits:
        # These integers are better than float: what brings them nearer to it makes them worse.
        clip = "none" if clip == "auto" else clip
        correction = "none" if correction == "auto" else correction

    def encoded(weight_clip: WeightClip, shifts: Shifts) -> onnx.ModelProto:
        return encode(
            source.model,
            source.ranges,
            scheme,
            options.excluded_layers,
            weight_clip=weight_clip,
            bias_shifts=shifts,
        )

    def shifts(with_shifts: Callable[[Shifts], onnx.ModelProto]) -> Shifts:
        return mean_shifts(source.model, with_shifts, source.correction_inputs, source.tiling.margin_px)

    progress("quantize", 1, QUANTIZE_STEPS, "encoding")
    refined = refine(
        encoded, lambda model: source.distance_db(model, scheme), shifts, weight_clip=clip, bias_correction=correction
    )
    progress("quantize", 2, QUANTIZE_STEPS, "distance to float")
    selftest_db = source.selftest_db(refined.model)
    fidelity = None if source.judge is None else source.judge.judge(refined.model, scheme)
    loss = None if source.judge is None or fidelity is None else source.judge.loss_of(fidelity)
    name = f"onnx-int8-{scheme.name}"
    encoding = msgspec.structs.replace(
        scheme.encoding,
        calibrator=options.calibrator,
        float_layers=in_graph_order(source.model, {*options.excluded_layers, *source.ranges.float_layers}),
        weight_clip=refined.weight_clip,
        bias_correction=refined.bias_correction,
        trained_ranges=len(source.trained_ranges & source.ranges.tensors.keys()),
    )
    return QuantizedGraph(
        refined.model,
        Variant(name, OnnxRuntime.name, "int8", f"{name}/model.onnx", encoding, round(selftest_db, 2), loss=loss),
        selftest_db,
        None if fidelity is None else fidelity.to_float_db,
        0 if source.judge is None else len(source.judge.crops),
        len(source.ranges.tensors),
        refined.weight_clip_gain_db,
        refined.bias_correction_gain_db,
    )


def put_quantized(writer: BundleWriter, quantized: QuantizedGraph) -> tuple[Removed, ...]:
    """Write a QDQ graph into a bundle that is being written; variants of the same scheme are replaced.

    Returns:
        The variants of other backends that were removed, because they held the old encoding.

    Raises:
        ExportError: the graph breaks the scheme's contract.
    """
    encoding = quantized.encoding
    # Files of backends hold the old encoding: they are compiled again from the new graph.
    of_scheme = [v for v in writer.manifest.variants if v.encoding and v.encoding.scheme == encoding.scheme]
    writer.drop_variants({v.name for v in of_scheme})
    writer.put_variant(quantized.variant)
    embed(quantized.model, writer.metadata(quantized.variant))
    check_encoded(quantized.model, encoding)
    writer.write(quantized.variant.path, quantized.model.SerializeToString())
    others = [v for v in of_scheme if v.name != quantized.variant.name]
    return tuple(Removed(v.name, v.runtime, v.precision, v.shapes) for v in others)


def quantize_report(bundle: Bundle, quantized: QuantizedGraph, removed: tuple[Removed, ...] = ()) -> QuantizeReport:
    """Return the report about a QDQ graph that was added to a bundle."""
    encoding = quantized.encoding
    return QuantizeReport(
        bundle=bundle.root,
        variant=quantized.variant.name,
        scheme=encoding.scheme,
        selftest_db=quantized.selftest_db,
        held_out_db=quantized.held_out_db,
        size_bytes=bundle.manifest.files[quantized.variant.path].size_bytes,
        float_size_bytes=bundle.manifest.files[bundle.variant(FLOAT_VARIANT).path].size_bytes,
        weight_clip=encoding.weight_clip,
        weight_clip_gain_db=quantized.weight_clip_gain_db,
        bias_correction=encoding.bias_correction,
        bias_correction_gain_db=quantized.bias_correction_gain_db,
        held_out_crops=quantized.held_out_crops,
        loss=quantized.variant.loss,
        float_layers=tuple(encoding.float_layers),
        trained_ranges=encoding.trained_ranges or 0,
        measured_ranges=quantized.ranges - (encoding.trained_ranges or 0),
        removed=removed,
    )
