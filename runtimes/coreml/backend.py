"""Core ML on Macs: the package that an iPhone app would load, run through coremltools.

On Linux, coremltools builds packages but cannot run them; `export/coreml/emulation.py` computes their numbers there.
"""

from __future__ import annotations

import logging
import platform
import sys
import warnings
from collections import Counter
from contextlib import ExitStack, contextmanager, redirect_stderr
from importlib import metadata
from io import StringIO
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TextIO

import numpy as np

from edgedenoise.bundles.bundle import METADATA_KEY
from edgedenoise.errors import DeviceFallbackError
from edgedenoise.extras import is_installed
from edgedenoise.imaging.image import from_unit
from edgedenoise.runtimes.base import (
    CHANNELS,
    INPUT_NAME,
    OUTPUT_NAME,
    Availability,
    Backend,
    EffectiveDevice,
    Session,
    SessionOptions,
    TensorInfo,
)
from edgedenoise.runtimes.bounds import FLOAT_SUMS, ROUNDED_BIASES, SchemeBounds
from edgedenoise.runtimes.failures import inference_errors
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from edgedenoise.bundles.manifest import Variant
    from edgedenoise.bundles.model_files import ModelFiles

UNITS: Mapping[str, str] = {
    "all": "ALL",
    "cpu": "CPU_ONLY",
    "gpu": "CPU_AND_GPU",
    "ane": "CPU_AND_NE",
}
"""Name for `--device` -> member of coremltools' `ComputeUnit`; `ane` is the Neural Engine."""
_WANTED = {"gpu": "GPU", "ane": "NeuralEngine"}
_NOT_NEEDED = ("tensorflow", "torch")


class CoreML(Backend):
    """Opens packages made by `edgedenoise compile --target coreml`."""

    name = "coreml"
    label = "Core ML"
    runs_on = "iPhone, iPad and Mac"
    extra = "coreml"
    packages = ("coremltools",)
    guide = "docs/guides/iphone.md"
    suffixes = (".mlpackage",)
    precisions = ("fp32", "fp16", "w8a16", "int8")
    default_precisions = ("fp16", "int8")
    schemes = ("coreml",)  # symmetric int8 per tensor, with pairs at both inputs of an Add
    builder = "edgedenoise.exporting.coreml.builder:build"
    emulator = "edgedenoise.exporting.coreml.emulation:emulate"
    emulation = "of the saved program, interpreted"
    # Not measured on a device: what is expected of kernels that keep values between integers in half precision.
    error_bounds: ClassVar[Mapping[str, SchemeBounds]] = {"coreml": SchemeBounds(ROUNDED_BIASES, FLOAT_SUMS)}

    def probe(self) -> Availability:
        """Check that this is a Mac with coremltools."""
        if platform.system() != "Darwin":
            return Availability(False, reason="Core ML runs on Apple devices; packages can be built on Linux too")
        if not is_installed("coremltools"):
            return Availability(False, reason="the package coremltools is not installed", command=self.install_command)
        return Availability(True, version=metadata.version("coremltools"), devices=tuple(UNITS))

    def open_session(self, variant: Variant, model: ModelFiles, device: str, options: SessionOptions) -> CoreMLSession:  # noqa: ARG002
        """Open a package; the default device is all compute units."""
        return CoreMLSession(model, device, metadata.version("coremltools"))

    def metadata(self, model: ModelFiles) -> str | None:
        """Read a package's user-defined metadata."""
        with model.private_copy() as path:
            text: str = spec_of(package_of(path)).description.metadata.userDefined[METADATA_KEY]
        return text or None


class CoreMLSession(Session):
    """One opened package."""

    def __init__(self, model: ModelFiles, device: str, version: str) -> None:
        package = package_of(model.path)
        options = ("--target", CoreML.name, "--option", "deployment_target=iOS16")
        newer = (
            "If it was built for a newer system, build it again for an older one:"
            f" {command_line('compile', package.parent.parent, *options)}"
        )
        with coremltools_quietly() as coremltools:
            units = getattr(coremltools.ComputeUnit, UNITS[device])
            # coremltools raises no class of its own.
            with ExitStack() as opening, inference_errors(CoreML.label, f"open {package}", (Exception,), hint=newer):
                # Core ML takes paths only: it gets a private copy of the checked files.
                copy = package_of(opening.enter_context(model.private_copy()))
                self._model = coremltools.models.MLModel(str(copy), compute_units=units)
                # A package that does not load only warns, and gives its reason when it is used.
                compiled = self._model.get_compiled_model_path()
                self._copy = opening.pop_all()
            placed = placements(coremltools, compiled, units)
        wanted = _WANTED.get(device)
        if placed and wanted is not None and not any(wanted in where for where in placed):
            raise DeviceFallbackError(
                f"Core ML would run every operator on {', '.join(placed)}; expected {device!r}",
                hint="Use --device all; docs/guides/iphone.md lists what runs on which unit",
            )
        spec = self._model.get_spec()
        self._io = io_of(spec)
        self.inputs = tuple(_info(feature) for feature in spec.description.input)
        self.outputs = tuple(_info(feature) for feature in spec.description.output)
        counts = ", ".join(f"{count} operators on {where}" for where, count in placed.items())
        detail = counts or "this macOS does not report which unit runs what"
        self.effective = EffectiveDevice(CoreML.name, version, device, detail)

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one (1, 3, h, w) array; `predict` waits for its answer."""
        # coremltools raises no class of its own.
        with inference_errors(CoreML.label, "run a tile", (Exception,), shape=x.shape):
            answer = self._model.predict({INPUT_NAME: to_input(x, self._io)})[OUTPUT_NAME]
        return from_output(answer, self._io)

    def close(self) -> None:
        """Release the model."""
        del self._model
        self._copy.close()


def package_of(path: Path) -> Path:
    """Return the `.mlpackage` folder that contains a variant's file (its `Manifest.json`)."""
    return path.parent if path.name == "Manifest.json" else path


def spec_of(package: Path) -> Any:
    """Read the specification of a package.

    coremltools' own `load_spec` writes the package's manifest again, which changes a file that a bundle records.

    Raises:
        InferenceError: the package has none, or it cannot be read.
    """
    with coremltools_quietly() as coremltools:
        spec = coremltools.proto.Model_pb2.Model()
        with inference_errors(CoreML.label, f"read {package}", (Exception,)):
            spec.ParseFromString((package / "Data" / "com.apple.CoreML" / "model.mlmodel").read_bytes())
            if not spec.description.input or not spec.description.output:
                raise ValueError("it has no input, or no output")
    return spec


def io_of(spec: Any) -> Literal["tensor", "image"]:
    """Return whether the inputs and outputs of a model are images or arrays."""
    return "image" if spec.description.input[0].type.WhichOneof("Type") == "imageType" else "tensor"


def to_input(x: NDArray[np.float32], io: Literal["tensor", "image"]) -> Any:
    """Return (1, 3, h, w) in [0, 1] as the input of a model: the array, or an RGB image of 8 bits."""
    if io == "tensor":
        return x
    from PIL import Image

    return Image.fromarray(from_unit(x[0].transpose(1, 2, 0), np.dtype(np.uint8)))


def from_output(answer: Any, io: Literal["tensor", "image"]) -> NDArray[np.float32]:
    """Return the output of a model as (1, 3, h, w) float32 in [0, 1]."""
    if io == "tensor":
        return np.asarray(answer, np.float32)
    pixels = np.asarray(answer.convert("RGB"), np.float32) / 255
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def placements(coremltools: Any, compiled: str, units: Any) -> Counter[str]:
    """Count the operators of a program by the compute unit that Core ML prefers for each.

    Empty where the system does not report it (before macOS 14.4).
    """
    plans = getattr(coremltools.models, "compute_plan", None)
    if plans is None:
        return Counter()
    try:
        plan = plans.MLComputePlan.load_from_path(compiled, compute_units=units)
        operations = plan.model_structure.program.functions["main"].block.operations
        usages = [plan.get_compute_device_usage_for_mlprogram_operation(operation) for operation in operations]
    except (RuntimeError, AttributeError, OSError, ValueError, TypeError):
        return Counter()
    # Constants have no usage: nothing runs for them.
    names = (type(usage.preferred_compute_device).__name__ for usage in usages if usage is not None)
    return Counter(name.removeprefix("ML").removesuffix("ComputeDevice") for name in names)


def _info(feature: Any) -> TensorInfo:
    """Describe an input or output; images are described as the arrays that a session takes and returns."""
    kind = feature.type.WhichOneof("Type")
    sides = tuple(feature.type.multiArrayType.shape) if kind == "multiArrayType" else ()
    # An array of flexible shape states its default only; the session's file says what else is accepted.
    return TensorInfo(feature.name, "float32", sides if len(sides) == 4 else (1, CHANNELS, None, None))


@contextmanager
def coremltools_quietly() -> Iterator[Any]:
    """Import coremltools without its warnings, its progress bars and the packages that it imports needlessly.

    coremltools warns about versions of scikit-learn and torch, which are not used here, imports TensorFlow and torch if
    they are installed, and shows a progress bar for every pass. All other output to stderr is passed on.
    """
    hidden = [name for name in _NOT_NEEDED if name not in sys.modules and "coremltools" not in sys.modules]
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.ERROR)
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # as if they were not installed
    try:
        with warnings.catch_warnings(), redirect_stderr(_WithoutBars(sys.stderr)):
            warnings.simplefilter("ignore")
            import coremltools
            import coremltools.converters.mil.frontend.milproto.load
            import coremltools.models.compute_plan
            import coremltools.optimize.coreml

            for name in hidden:
                sys.modules.pop(name, None)
            yield coremltools
    finally:
        for name in hidden:
            if sys.modules.get(name, 0) is None:
                del sys.modules[name]
        logger.setLevel(level)


class _WithoutBars(StringIO):
    """A stream that passes on everything except the progress bars of tqdm."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._after_bar = False

    def write(self, text: str) -> int:
        """Pass on a text, unless it is a progress bar or the line break after one."""
        is_bar = text.startswith("\r") or "%|" in text
        if not is_bar and not (self._after_bar and text == "\n"):
            self._stream.write(text)
        self._after_bar = is_bar
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()
