"""Build Core ML packages from the bundle's ONNX graphs, on Linux as on a Mac.

float16, float32 and 8-bit weights are built from the float graph, W8A8 from the QDQ graph with its own scales.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from edgedenoise.bundles.bundle import METADATA_KEY
from edgedenoise.bundles.manifest import InputShapes, Precision, Variant
from edgedenoise.calibration.calibrate import float_graph
from edgedenoise.calibration.graphs import load_onnx
from edgedenoise.errors import ExportError, UsageError
from edgedenoise.exporting.build_options import backend_options, input_shapes
from edgedenoise.exporting.coreml.program import to_program
from edgedenoise.exporting.fp16 import check_fp16
from edgedenoise.runtimes.base import INPUT_NAME, OUTPUT_NAME
from edgedenoise.runtimes.coreml.backend import CoreML, coremltools_quietly

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgedenoise.runtimes.job import BuildJob

TARGETS = ("iOS15", "iOS16", "iOS17", "iOS18")
"""Values of `--option deployment_target=`; macOS 12, 13, 14 and 15 run the same programs."""
_LEAST: Mapping[Precision, str] = {"fp32": "iOS15", "fp16": "iOS15", "w8a16": "iOS16", "int8": "iOS17"}
_WHY: Mapping[Precision, str] = {
    "fp32": "float32 programs run from iOS 15 and macOS 12 on, on the CPU and the GPU, never on the Neural Engine",
    "fp16": "float16 programs run from iOS 15 and macOS 12 on, on every compute unit",
    "w8a16": "8-bit weights came with iOS 16 and macOS 13; they are widened to float16 before anything is computed",
    "int8": "8-bit activations came with iOS 17 and macOS 14; the Neural Engine multiplies them from A17 Pro and M4 on",
}
_PACKAGE = "model.mlpackage"
_DATE = "com.github.apple.coremltools.conversion_date"
"""Key of the metadata that coremltools writes the date into."""


class PackageOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of `compile --target coreml --option KEY=VALUE`."""

    io: Literal["tensor", "image"] = "tensor"
    """Whether inputs and outputs are arrays in [0, 1], or RGB images of 8 bits, as camera apps use."""
    deployment_target: Literal["auto", "iOS15", "iOS16", "iOS17", "iOS18"] = "auto"
    """Oldest system that can load the package; `auto` for the oldest that supports the precision."""


def build(job: BuildJob) -> Variant:
    """Build a Core ML package.

    Args:
        job: what is compiled, for which precision and which sizes of input.

    Returns:
        The new variant; its `path` is the package's `Manifest.json`.

    Raises:
        ModuleNotFoundError: coremltools is not installed; `Backend.build` turns it into a RuntimeUnavailableError.
        ExportError: the graph cannot be translated, or does not fit into float16.
        UsageError: an option or a shape is not accepted.
    """
    options = backend_options(PackageOptions, job.options, CoreML.name)
    _check_io(options, job)
    target = _target(options, job.precision)
    shapes = input_shapes(job.options, job.bundle.manifest.tiling)
    with coremltools_quietly() as coremltools:
        graph = load_onnx(job.graph.read_bytes(), str(job.graph))
        if job.precision != "fp32":
            check_fp16(job.bundle, load_onnx(float_graph(job.bundle)))
        channels = job.bundle.manifest.input_channels
        model = _converted(coremltools, graph, job.precision, shapes, target, channels, image=options.io == "image")
        name = f"{CoreML.name}-{job.precision}" + ("-image" if options.io == "image" else "")
        variant = Variant(
            name,
            CoreML.name,
            job.precision,
            f"{name}/{_PACKAGE}/Manifest.json",
            job.source.encoding,
            job.source.fidelity_db,
            shapes,
            job.source.loss,
        )
        _describe(model, job, variant, target)
        _save(model, job.new_folder(variant) / _PACKAGE)
    return variant


def _check_io(options: PackageOptions, job: BuildJob) -> None:
    if options.io == "tensor":
        return
    if job.bundle.manifest.noise_level is not None:
        raise UsageError(
            f"{job.bundle.source} takes the noise level as a fourth channel: expected io=tensor, got io=image, which"
            " holds three channels of 8 bits",
            hint="Use --option io=tensor",
        )
    if job.bundle.manifest.normalization != "unit":
        raise UsageError(
            f"{job.bundle.source} is normalized by the statistics of the whole image; image inputs need a network that"
            " takes pixels in [0, 1]",
            hint="Use --option io=tensor, or train a student: edgedenoise train --objective distill",
        )
    if job.precision == "fp32":
        raise UsageError(
            "image inputs and outputs have 8 bits, which is too little for the float32 self-test",
            hint="Use --precision fp16, or --option io=tensor",
        )


def _target(options: PackageOptions, precision: Precision) -> str:
    least = _LEAST[precision]
    if options.deployment_target == "auto":
        return least
    if TARGETS.index(options.deployment_target) < TARGETS.index(least):
        raise UsageError(f"{precision} needs {least} or later, got {options.deployment_target}: {_WHY[precision]}")
    return options.deployment_target


def _converted(
    coremltools: Any,
    graph: Any,
    precision: Precision,
    shapes: InputShapes,
    target_name: str,
    channels: int,
    *,
    image: bool,
) -> Any:
    target = getattr(coremltools.target, target_name)
    program = to_program(graph, _symbolic(shapes, channels), target, to_bytes=image)
    float16 = precision != "fp32"
    kind = coremltools.ImageType if image else coremltools.TensorType
    scaled = {"scale": 1 / 255} if image else {}
    try:
        model = coremltools.convert(
            program,
            convert_to="mlprogram",
            inputs=[kind(name=INPUT_NAME, shape=_accepted(coremltools, shapes, channels), **scaled)],
            compute_precision=coremltools.precision.FLOAT16 if float16 else coremltools.precision.FLOAT32,
            minimum_deployment_target=target,
            skip_model_load=True,
        )
    except (ValueError, RuntimeError, NotImplementedError) as error:
        raise ExportError(f"coremltools {coremltools.__version__} cannot convert the graph: {error}") from error
    if precision == "w8a16":
        weights = coremltools.optimize.coreml
        symmetric = weights.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=0)
        model = weights.linear_quantize_weights(model, weights.OptimizationConfig(global_config=symmetric))
    return model


def _symbolic(shapes: InputShapes, channels: int) -> tuple[Any, ...]:
    if shapes.kind == "fixed":
        return (1, channels, shapes.sides_px[0], shapes.sides_px[0])
    from coremltools.converters.mil.mil import get_new_symbol

    return (1, channels, get_new_symbol(), get_new_symbol())


def _accepted(coremltools: Any, shapes: InputShapes, channels: int) -> Any:
    def square(side: Any) -> tuple[Any, ...]:
        return (1, channels, side, side)

    sides = shapes.sides_px
    if shapes.kind == "fixed":
        return square(sides[0])
    if shapes.kind == "enumerated":
        # The Neural Engine is prepared for the default first.
        return coremltools.EnumeratedShapes([square(side) for side in sides], default=square(sides[-1]))
    ranged = [coremltools.RangeDim(sides[0], sides[2], default=sides[1]) for _ in range(2)]
    return coremltools.Shape((1, channels, *ranged))


def _describe(model: Any, job: BuildJob, variant: Variant, target: str) -> None:
    """Embed the metadata that a lone package needs, and descriptions for Xcode."""
    manifest = job.bundle.manifest
    model.user_defined_metadata[METADATA_KEY] = job.metadata(variant)
    model.author = manifest.created_by
    model.license = "the weights' own: see MODEL_CARD.md of the bundle"
    model.version = manifest.name
    model.short_description = (
        f"{manifest.network.name}, a denoiser, {job.precision}. Deployment target {target}: {_WHY[job.precision]}."
    )
    unit = "pixels in [0, 1], sRGB"
    if manifest.normalization != "unit":
        unit = "pixels in [0, 1] less the whole image's mean, divided by its deviation, per channel"
    if manifest.normalization_limit is not None:
        unit += f"; the deviation is at least the largest distance from the mean over {manifest.normalization_limit:g}"
    level = ""
    if manifest.noise_level is not None:
        level = f" Fourth plane: the noise level, min(1, {manifest.noise_level.gain:g} sigma), with white as 1."
    model.input_description[INPUT_NAME] = (
        f"RGB, planes first; {unit}.{level} Includes {manifest.tiling.margin_px} pixels of context on each side."
    )
    model.output_description[OUTPUT_NAME] = "The denoised image, in the units and of the size of the input."


def _save(model: Any, package: Path) -> None:
    """Save a package whose bytes depend on nothing but the model."""
    with tempfile.TemporaryDirectory() as scratch:
        first = Path(scratch) / _PACKAGE
        model.save(str(first))
        spec = model.get_spec()
        spec.description.metadata.userDefined.pop(_DATE, None)  # it would make every day's package another one
        if spec.description.input[0].type.WhichOneof("Type") == "imageType":
            _give_images(spec)
        model_file = next(first.rglob("model.mlmodel"))
        model_file.write_bytes(spec.SerializeToString(deterministic=True))
        manifest = first / "Manifest.json"
        manifest.write_text(_with_fixed_names(manifest.read_text(encoding="utf-8")), encoding="utf-8")
        # coremltools writes the manifest again whenever it opens a package; from now on it writes the same bytes.
        with coremltools_quietly() as coremltools:
            coremltools.models.utils.load_spec(str(first))
        package.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(first, package)


def _give_images(spec: Any) -> None:
    """Make the output an image of the size and colours of the input, as the converter does for other sources."""
    given, taken = spec.description.output[0].type, spec.description.input[0].type.imageType
    given.ClearField("multiArrayType")
    given.imageType.CopyFrom(taken)


def _with_fixed_names(manifest: str) -> str:
    """Replace the random names of a package's items by names derived from their paths."""
    known = msgspec.json.decode(manifest)
    names = {old: str(uuid.uuid5(uuid.NAMESPACE_URL, item["path"])) for old, item in known["itemInfoEntries"].items()}
    known["itemInfoEntries"] = {names[old]: item for old, item in sorted(known["itemInfoEntries"].items(), key=_path)}
    known["rootModelIdentifier"] = names[known["rootModelIdentifier"]]
    return msgspec.json.format(msgspec.json.encode(known), indent=4).decode() + "\n"


def _path(entry: tuple[str, dict[str, str]]) -> str:
    return entry[1]["path"]
