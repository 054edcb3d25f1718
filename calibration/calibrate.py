"""`edgedenoise calibrate`: measure the ranges of a bundle's float graph and store them in the bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.manifest import Calibration, Manifest
from edgedenoise.bundles.writer import BundleWriter, check_editable
from edgedenoise.calibration.calibrators import MINMAX, Calibrator
from edgedenoise.calibration.histograms import from_bytes, to_bytes
from edgedenoise.calibration.images import Duplicate
from edgedenoise.calibration.ranges import Ranges, measure_histograms
from edgedenoise.calibration.sets import DEFAULT_COUNT, DEFAULT_CROP_PX, CalibrationSet
from edgedenoise.calibration.strata import Stratify
from edgedenoise.errors import CalibrationError, IncompatibleError, UsageError
from edgedenoise.extras import missing_package
from edgedenoise.files import sha256_of
from edgedenoise.progress import Progress, silent
from edgedenoise.runtimes.base import INPUT_NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

FLOAT_VARIANT = "onnx-fp32"
RANGES_FILE = "calibration/ranges.json"
HISTOGRAMS_FILE = "calibration/histograms.npz"
SET_FILE = "calibration/set.json"
TRAINED_RANGES_FILE = "calibration/trained-ranges.json"
"""Ranges that the weights were trained with (`--objective qat`): they come before those that are measured."""


class CalibrationReport(msgspec.Struct, frozen=True):
    """What a bundle was calibrated on, for people and scripts; the crops themselves are in `calibration/set.json`."""

    crops: int
    photographs: int
    seed: int
    noise_levels: list[float]
    """Of the synthetic camera noise that was added to clean images; empty for noisy ones."""
    crop_px: int
    stratify: Stratify
    candidates: int
    """Crops that were drawn and measured to choose from; 0 where crops were not stratified."""
    duplicates: list[Duplicate]
    """Images that were dropped because another one shows the same."""
    overlapping: int
    """Crops that were dropped because they would have lain exactly where another one does."""


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
    """Measure the range of every activation tensor and store ranges and crop list in the bundle.

    Quantized variants that were encoded from earlier ranges are removed: they would no longer belong to the ranges
    beside them.

    Args:
        bundle: a bundle folder with a float ONNX variant.
        data: noisy images, as noisy as those that will be denoised; clean ones with `noise_levels`. A folder, or
            a text file that lists them.
        count: number of crops.
        seed: same seed, same crops.
        crop_px: side of a crop in pixels.
        noise_levels: see `CalibrationSet.from_folder`.
        stratify: see `CalibrationSet.from_folder`.
        set_of: a bundle (this one, too) whose recorded crops are measured instead of new ones, after every
            image in `data` has been compared with its recorded hash; the five options above then have no say.
        progress: told after each image, candidate and crop.

    Returns:
        The bundle as it is now; `calibration_report` tells what it was measured on.

    Raises:
        UsageError: `count`, `crop_px`, `stratify` or a noise level is not accepted, one of them was given beside
            `set_of`, or noise is asked for a network that normalises by the whole image.
        CalibrationError: the images cannot be used, or the bundle in `set_of` has no set.
        BundleError: a bundle cannot be opened or changed.
        RuntimeUnavailableError: onnx is not installed.
    """
    opened = Bundle.open(bundle)
    check_editable(opened)
    manifest = opened.manifest
    path = float_graph_file(opened)
    model = load_onnx(path)
    folder = Path(data)
    _check_noise(noise_levels, manifest)
    if set_of is None:
        chosen = CalibrationSet.from_folder(
            folder, count, seed, crop_px, noise_levels, stratify=stratify, progress=progress
        )
    else:
        if (count, seed, crop_px, [*noise_levels], stratify) != (DEFAULT_COUNT, 0, DEFAULT_CROP_PX, [], "none"):
            raise UsageError(
                f"the crops recorded in {set_of} are to be measured, and options of a new set were given as well;"
                " accepted: either",
                hint="leave out --count, --seed, --crop, --noise-level and --stratify, or leave out --set-of",
            )
        chosen = recorded_set(Bundle.open(set_of))
        _check_noise(chosen.noise_levels, manifest)
        chosen.check(folder, progress)
    histograms = measure_histograms(
        model,
        (x for x, _ in chosen.inputs(folder, manifest.normalization, manifest.tiling)),
        margin_px=manifest.tiling.margin_px,
        total=len(chosen.crops),
        progress=progress,
    )
    ranges = Ranges(sha256_of(path), len(chosen.crops), {name: one.range for name, one in histograms.items()})
    with BundleWriter.edit(opened) as draft:
        draft.drop_variants({v.name for v in manifest.variants if v.encoding is not None})
        draft.write(RANGES_FILE, msgspec.json.format(msgspec.json.encode(ranges), indent=1))
        draft.write(HISTOGRAMS_FILE, to_bytes(histograms))
        draft.write(SET_FILE, msgspec.json.format(msgspec.json.encode(chosen), indent=1))
        levels = list(noise_levels) or chosen.noise_levels
        recorded = Calibration(len(chosen.crops), chosen.photographs, chosen.seed, levels)
        draft.manifest = msgspec.structs.replace(draft.manifest, calibration=recorded)
    return Bundle.open(opened.root)


def recorded_set(bundle: Bundle) -> CalibrationSet:
    """Return the crops that a bundle was calibrated on.

    Raises:
        CalibrationError: it has not been calibrated.
    """
    _check_calibrated(bundle, SET_FILE)
    return msgspec.json.decode(bundle.file(SET_FILE).read_bytes(), type=CalibrationSet)


def calibration_report(bundle: Bundle) -> CalibrationReport:
    """Return what a bundle was calibrated on.

    Raises:
        CalibrationError: it has not been calibrated.
    """
    chosen = recorded_set(bundle)
    known = bundle.manifest.calibration
    return CalibrationReport(
        crops=len(chosen.crops),
        photographs=chosen.photographs,
        seed=chosen.seed,
        noise_levels=chosen.noise_levels if known is None else known.noise_levels,
        crop_px=chosen.crop_px,
        stratify=chosen.stratify,
        candidates=chosen.candidates,
        duplicates=chosen.duplicates,
        overlapping=chosen.overlapping,
    )


def stored_ranges(bundle: Bundle, calibrator: Calibrator = MINMAX) -> Ranges:
    """Return the ranges that a calibrator chooses from what a bundle stores.

    Ranges that the weights were trained with come before them. The image is never clipped by a calibrator.

    Raises:
        CalibrationError: there are none, they were measured on another graph, or histograms to choose from are missing.
    """
    ranges = measured_ranges(bundle)
    tensors = dict(ranges.tensors)
    if calibrator != MINMAX:
        if not bundle.has(HISTOGRAMS_FILE):
            raise CalibrationError(
                f"{bundle.source} stores no histograms, from which {calibrator.name} would choose; "
                f"accepted: {MINMAX.name}",
                hint=f"measure them: edgedenoise calibrate {bundle.source} --data DIR",
            )
        histograms = from_bytes(bundle.file(HISTOGRAMS_FILE).read_bytes())
        tensors |= {name: calibrator.choose(one) for name, one in histograms.items() if name != INPUT_NAME}
    if bundle.has(TRAINED_RANGES_FILE):
        tensors |= _read_ranges(bundle, TRAINED_RANGES_FILE).tensors
    return msgspec.structs.replace(ranges, tensors=tensors)


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
            hint=f"measure its ranges first: edgedenoise calibrate {bundle.source} --data DIR",
        )


def _check_noise(levels: Sequence[float], manifest: Manifest) -> None:
    if levels and manifest.normalization != "unit":
        raise UsageError(
            f"noise levels were given for {manifest.network.name}, which normalises by the whole noisy image; "
            "accepted for it: noisy images alone",
            hint="Add the noise to the images first: edgedenoise.noise.synthesis.add_camera_noise.",
        )


def _read_ranges(bundle: Bundle, name: str) -> Ranges:
    ranges = msgspec.json.decode(bundle.file(name).read_bytes(), type=Ranges)
    if ranges.graph_sha256 != sha256_of(float_graph_file(bundle)):
        raise CalibrationError(
            f"the ranges in {bundle.source} were measured on another graph",
            hint=f"measure them again: edgedenoise calibrate {bundle.source} --data DIR",
        )
    return ranges


def float_graph_file(bundle: Bundle) -> Path:
    """Return the path of a bundle's float ONNX graph, checked."""
    try:
        return bundle.variant_file(bundle.variant(FLOAT_VARIANT))
    except IncompatibleError as error:
        raise IncompatibleError(
            error.message, hint="export it first: edgedenoise export RUN --out NAME.edge"
        ) from error


def load_onnx(path: Path) -> onnx.ModelProto:
    """Read an ONNX file.

    Raises:
        RuntimeUnavailableError: the package onnx is not installed.
    """
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise (missing_package(error) or error) from error
    return onnx.load(path)
