"""Calibrate: measure the ranges of a bundle's float graph and store them in the bundle."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.contents import read_json
from edgedenoise.bundles.manifest import Calibration, Manifest
from edgedenoise.bundles.writer import BundleWriter, check_editable
from edgedenoise.calibration.calibrators import MINMAX, Calibrator
from edgedenoise.calibration.drawing import DEFAULT_COUNT, DEFAULT_CROP_PX, SetOptions
from edgedenoise.calibration.graphs import channel_problems, load_onnx
from edgedenoise.calibration.histograms import Histogram, Range, from_bytes, to_bytes
from edgedenoise.calibration.images import Duplicate
from edgedenoise.calibration.ranges import Ranges, measure_histograms
from edgedenoise.calibration.sets import CalibrationSet, DrawnSet, draw_set
from edgedenoise.calibration.strata import Stratify
from edgedenoise.errors import CalibrationError, IncompatibleError, IntegrityError, UsageError
from edgedenoise.imaging.normalize import UNIT
from edgedenoise.progress import Progress, silent
from edgedenoise.runtimes.base import INPUT_NAME
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from edgedenoise.imaging.normalize import Statistics

FLOAT_VARIANT = "onnx-fp32"
RANGES_FILE = "calibration/ranges.json"
HISTOGRAMS_FILE = "calibration/histograms.npz"
SET_FILE = "calibration/set.json"
TRAINED_RANGES_FILE = "calibration/trained-ranges.json"
"""Ranges that the weights were trained with (`--objective qat`); they take precedence over measured ones."""
_log = logging.getLogger(__name__)
STRENGTHS = (0.5, 1.0, 2.0)
"""Strengths that the crops are given the noise level with, for networks that take it."""


class CalibrationReport(msgspec.Struct, frozen=True, rename={"images": "photographs"}):
    """What a bundle was calibrated on; the crops themselves are in `calibration/set.json`."""

    crops: int
    images: int
    seed: int
    noise_levels: list[float]
    """Levels of the synthetic camera noise that was added to clean images; empty for noisy images."""
    crop_px: int
    stratify: Stratify
    candidates: int
    """Number of crops that were measured to choose from; 0 where crops were not stratified."""
    duplicates: list[Duplicate]
    """Images that were dropped because another one shows the same."""
    overlapping: int
    """Number of crops that were dropped because their image had no other place left."""
    trained_ranges: int = 0
    """Number of ranges that the weights were trained with; `quantize` prefers them to those of this set."""


def calibrate(
    bundle: Path | str,
    data: Path | str,
    *,
    count: int = DEFAULT_COUNT,
    seed: int = 0,
    crop_px: int = DEFAULT_CROP_PX,
    noise_levels: Sequence[float] = (),
    stratify: Stratify = "none",
    set_of: Path | str | None = None,
    progress: Progress = silent,
) -> Bundle:
    """Measure the range of every activation tensor of a bundle's float graph and store ranges and crop list in it.

    Quantized variants are removed: they were encoded from earlier ranges. Of eight images or more, one in eight is
    left out, so that `quantize` can measure on images that calibration has not seen.

    Args:
        bundle: a bundle folder with a float ONNX variant.
        data: images as noisy as those to be denoised, or clean ones with `noise_levels`. A folder, or a text file
            that lists them.
        count: number of crops.
        seed: the same seed draws the same crops.
        crop_px: side of a crop in pixels.
        noise_levels: see `SetOptions`.
        stratify: see `SetOptions`.
        set_of: a bundle (this one, too) whose recorded crops are measured instead of new ones, after every image in
            `data` was compared with its recorded hash. The five options above must then be left out.
        progress: called after each image and each crop.

    Returns:
        The bundle as it is now; `calibration_report` returns what it was measured on.

    Raises:
        UsageError: `count`, `crop_px`, `stratify` or a noise level is not accepted, one of them was given beside
            `set_of`, or noise is asked for a network that normalizes by the whole image.
        CalibrationError: the images cannot be used, or the bundle in `set_of` has no set.
        BundleError: a bundle cannot be opened or changed.
        RuntimeUnavailableError: onnx is not installed.

    Example:
        >>> import edgedenoise
        >>> bundle = edgedenoise.calibrate("mine.edge", "photos", count=64)
        >>> bundle.manifest.calibration.crops
        64
    """
    opened = Bundle.open(bundle)
    check_editable(opened)
    manifest = opened.manifest
    graph = float_graph(opened)
    model = read_float_graph(opened)
    folder = Path(data)
    if set_of is None:
        options = SetOptions(count, seed, crop_px, noise_levels, stratify)
        drawn = draw_calibration_set(folder, options, manifest, progress)
        crops, inputs, levels = drawn.crops, drawn.inputs(), list(noise_levels)
    else:
        if (count, seed, crop_px, [*noise_levels], stratify) != (DEFAULT_COUNT, 0, DEFAULT_CROP_PX, [], "none"):
            raise UsageError(
                f"options of a new set were given beside the set recorded in {set_of}; expected one of the two",
                hint="Leave out --count, --seed, --crop, --noise-level and --stratify, or leave out --set-of.",
            )
        crops = recorded_set(Bundle.open(set_of))
        levels = crops.noise_levels
        _check_noise(levels, manifest)
        crops.check(folder, progress)
        inputs = crops.inputs(
            folder, manifest.input_normalization, manifest.tiling, takes_level=manifest.noise_level is not None
        )
    measurement = measure(model, hashlib.sha256(graph).hexdigest(), crops, inputs, manifest, progress)
    with BundleWriter.edit(opened) as writer:
        quantized = [v.name for v in manifest.variants if v.encoding is not None]
        writer.drop_variants(set(quantized))
        put_measurement(writer, measurement, levels)
    if quantized:
        _log.warning(
            "removed %s, which had the ranges of the former set; to quantize again: %s",
            ", ".join(quantized),
            command_line("quantize", opened.source),
        )
    return Bundle.open(opened.root)


def draw_calibration_set(folder: Path, options: SetOptions, manifest: Manifest, progress: Progress) -> DrawnSet:
    """Return the crops that a network is calibrated on.

    Raises:
        UsageError: noise is asked for a network that normalizes by the whole image.
        CalibrationError: the images cannot be used.
    """
    _check_noise(options.noise_levels, manifest)
    takes_level = manifest.noise_level is not None
    if takes_level:
        options = replace(options, strengths=STRENGTHS)
    return draw_set(
        folder,
        options,
        manifest.input_normalization,
        manifest.tiling,
        takes_level=takes_level,
        hold_out=True,
        progress=progress,
    )


@dataclass(frozen=True)
class RangeMeasurement:
    """The values that the activations of a float graph take over a calibration set."""

    crops: CalibrationSet
    ranges: Ranges
    histograms: dict[str, Histogram]
    """By the name of the tensor."""


def measure(
    model: onnx.ModelProto,
    graph_sha256: str,
    crops: CalibrationSet,
    inputs: Iterable[tuple[NDArray[np.float32], Statistics]],
    manifest: Manifest,
    progress: Progress = silent,
) -> RangeMeasurement:
    """Measure what values every activation tensor of a float graph takes.

    Args:
        model: the float graph.
        graph_sha256: SHA-256 of the file that it is stored in.
        crops: the record of the inputs.
        inputs: what the network is given for each crop.
        manifest: margin and normalization of the inputs. Where the normalization limits them, the limits are the
            range of the input, whatever the crops hold.
        progress: called after each crop.

    Raises:
        CalibrationError: there are no crops, or a tensor is not finite.
    """
    histograms = measure_histograms(
        model, (x for x, _ in inputs), margin_px=manifest.tiling.margin_px, total=len(crops.crops), progress=progress
    )
    tensors = {name: one.range for name, one in histograms.items()}
    known = manifest.input_normalization.input_range
    if known is not None:  # the noise level is in [0, 1], which is part of each of these ranges
        tensors[INPUT_NAME] = Range(*known)
    return RangeMeasurement(crops, Ranges(graph_sha256, len(crops.crops), tensors), histograms)


def put_measurement(writer: BundleWriter, measurement: RangeMeasurement, noise_levels: Sequence[float]) -> None:
    """Write a measurement into a bundle that is being written.

    Args:
        writer: the bundle.
        measurement: what was measured.
        noise_levels: levels that noise was added with, for the manifest.
    """
    crops = measurement.crops
    writer.write_json(RANGES_FILE, measurement.ranges)
    writer.write(HISTOGRAMS_FILE, to_bytes(measurement.histograms))
    writer.write_json(SET_FILE, crops)
    recorded = Calibration(len(crops.crops), crops.images, crops.seed, list(noise_levels))
    writer.manifest = msgspec.structs.replace(writer.manifest, calibration=recorded)


def recorded_set(bundle: Bundle) -> CalibrationSet:
    """Return the crops that a bundle was calibrated on.

    Raises:
        CalibrationError: the bundle has not been calibrated.
    """
    _check_calibrated(bundle, SET_FILE)
    return read_json(bundle.read(SET_FILE), CalibrationSet, f"{bundle.source}: {SET_FILE}")


def calibration_report(bundle: Bundle) -> CalibrationReport:
    """Return what a bundle was calibrated on.

    Raises:
        CalibrationError: the bundle has not been calibrated.
    """
    chosen, trained = recorded_set(bundle), trained_ranges(bundle)
    known = bundle.manifest.calibration
    return CalibrationReport(
        crops=len(chosen.crops),
        images=chosen.images,
        seed=chosen.seed,
        noise_levels=chosen.noise_levels if known is None else known.noise_levels,
        crop_px=chosen.crop_px,
        stratify=chosen.stratify,
        candidates=chosen.candidates,
        duplicates=chosen.duplicates,
        overlapping=chosen.overlapping,
        trained_ranges=0 if trained is None else len(trained.tensors),
    )


def stored_ranges(bundle: Bundle, calibrator: Calibrator = MINMAX, *, ignore_trained: bool = False) -> Ranges:
    """Return the ranges that a calibrator chooses from what a bundle stores; see `choose_ranges`.

    Args:
        bundle: a calibrated bundle.
        calibrator: how a range is chosen.
        ignore_trained: choose all ranges by the calibrator, also those that the weights were trained with.

    Raises:
        CalibrationError: there are none, they were measured on another graph, or histograms to choose from are missing.
    """
    measured = measured_ranges(bundle)
    histograms = None
    if calibrator != MINMAX:
        if not bundle.has(HISTOGRAMS_FILE):
            raise CalibrationError(
                f"{bundle.source} stores no histograms to choose from; expected the calibrator {MINMAX.name}, got"
                f" {calibrator.name}",
                hint=f"Measure them: {command_line('calibrate', bundle.source, '--data', 'noisy')}",
            )
        histograms = from_bytes(bundle.read(HISTOGRAMS_FILE), f"{bundle.source}: {HISTOGRAMS_FILE}")
    trained = trained_ranges(bundle)
    if trained is not None and ignore_trained:  # the weights of its float layers have never been rounded
        trained = msgspec.structs.replace(trained, tensors={})
    return choose_ranges(measured, histograms or {}, calibrator, trained)


def trained_ranges(bundle: Bundle) -> Ranges | None:
    """Return the ranges that a bundle's weights were trained with; None for weights that were trained in float.

    Raises:
        CalibrationError: the file is damaged, or belongs to another graph.
    """
    return _read_ranges(bundle, TRAINED_RANGES_FILE) if bundle.has(TRAINED_RANGES_FILE) else None


def choose_ranges(
    measured: Ranges, histograms: Mapping[str, Histogram], calibrator: Calibrator, trained: Ranges | None
) -> Ranges:
    """Return the ranges that a graph is encoded with.

    Args:
        measured: the whole ranges.
        histograms: what the calibrator chooses from, by tensor; unused by `MINMAX`. The image is never clipped.
        calibrator: how a range is chosen.
        trained: ranges that the weights were trained with; they take precedence, and their layers stay in float.
    """
    tensors = dict(measured.tensors)
    if calibrator != MINMAX:
        tensors |= {name: calibrator.choose(one) for name, one in histograms.items() if name != INPUT_NAME}
    if trained is None:
        return msgspec.structs.replace(measured, tensors=tensors)
    return msgspec.structs.replace(measured, tensors=tensors | trained.tensors, float_layers=trained.float_layers)


def measured_ranges(bundle: Bundle) -> Ranges:
    """Return the whole range that each tensor took over a bundle's calibration set.

    Raises:
        CalibrationError: there are none, or they were measured on another graph.
    """
    _check_calibrated(bundle, RANGES_FILE)
    return _read_ranges(bundle, RANGES_FILE)


def _check_calibrated(bundle: Bundle, name: str) -> None:
    if not bundle.has(name):
        raise CalibrationError(
            f"{bundle.source} has not been calibrated: it has no {name}",
            hint=f"Measure its ranges first: {command_line('calibrate', bundle.source, '--data', 'noisy')}",
        )


def _check_noise(levels: Sequence[float], manifest: Manifest) -> None:
    if levels and manifest.input_normalization != UNIT:
        raise UsageError(
            f"noise levels were given for {manifest.network.name}, which normalizes by the whole noisy image; expected"
            " noisy images",
            hint="Add the noise to the images first: edgedenoise.noise.synthesis.add_camera_noise.",
        )


def _read_ranges(bundle: Bundle, name: str) -> Ranges:
    ranges = read_json(bundle.read(name), Ranges, f"{bundle.source}: {name}")
    wrong = next((tensor for tensor, one in ranges.tensors.items() if not one.low <= one.high), None)
    if wrong is not None:
        raise IntegrityError(f"{bundle.source}: {name} has no range for {wrong}: its low is above its high")
    if ranges.graph_sha256 != hashlib.sha256(float_graph(bundle)).hexdigest():
        raise CalibrationError(
            f"the ranges in {bundle.source} were measured on another graph",
            hint=f"Measure them again: {command_line('calibrate', bundle.source, '--data', 'noisy')}",
        )
    return ranges


def float_graph(bundle: Bundle) -> bytes:
    """Return a bundle's float ONNX graph, serialized, checked."""
    try:
        return bundle.model_files(bundle.variant(FLOAT_VARIANT)).onnx_data
    except IncompatibleError as error:
        raise IncompatibleError(error.message, hint=export_hint(bundle)) from error


def read_float_graph(bundle: Bundle) -> onnx.ModelProto:
    """Return a bundle's float graph, which takes the channels that the manifest declares.

    Raises:
        IntegrityError: it is damaged, or takes another number of channels.
        IncompatibleError: the bundle has no float graph.
        RuntimeUnavailableError: the package onnx is not installed.
    """
    model = load_onnx(float_graph(bundle), f"{bundle.source}: {FLOAT_VARIANT}")
    for problem in channel_problems(model, bundle.manifest):
        raise IntegrityError(f"{bundle.source}: {FLOAT_VARIANT}: {problem}", hint=export_hint(bundle))
    return model


def export_hint(bundle: Bundle) -> str:
    """Return the command that writes a bundle's float graph; only the user knows where its checkpoint is."""
    return f"Export it first: {command_line('export', 'CHECKPOINT', '--out', bundle.source)}"
