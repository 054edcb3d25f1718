"""Core ML on Macs: the package that an iPhone app would load, run through coremltools.

On Linux coremltools builds packages and runs none; `export/coreml/emulation.py` computes their numbers there.
"""

from __future__ import annotations

import importlib.util
import logging
import platform
import sys
import warnings
from collections import Counter
from contextlib import contextmanager, redirect_stderr
from importlib import metadata
from io import StringIO
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from edgedenoise.bundles.bundle import METADATA_KEY
from edgedenoise.errors import (
    DeviceFallbackError,
    DeviceMemoryError,
    DeviceNotFoundError,
    InferenceError,
    RuntimeUnavailableError,
    UsageError,
)
from edgedenoise.imaging.image import from_unit
from edgedenoise.runtimes.base import INPUT_NAME, OUTPUT_NAME, Availability, EffectiveDevice, SessionOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from edgedenoise.bundles.manifest import Variant

_INSTALL = 'pip install "edgedenoise[coreml]"'
UNITS: Mapping[str, str] = {
    "all": "ALL",
    "cpu": "CPU_ONLY",
    "gpu": "CPU_AND_GPU",
    "ane": "CPU_AND_NE",
}
"""What `--device` accepts -> member of coremltools' `ComputeUnit`; `ane` is the Neural Engine."""
_WANTED = {"gpu": "GPU", "ane": "NeuralEngine"}
_NOT_NEEDED = ("tensorflow", "torch")


class CoreML:
    """Opens packages made by `edgedenoise compile --target coreml`."""

    name: ClassVar[str] = "coreml"

    def probe(self) -> Availability:
        """Tell whether this is a Mac with coremltools."""
        if platform.system() != "Darwin":
            return Availability(False, reason="Core ML runs on Apple's devices; packages are built here all the same")
        if importlib.util.find_spec("coremltools") is None:
            return Availability(False, reason="the package coremltools is not installed", command=_INSTALL)
        return Availability(True, version=metadata.version("coremltools"), devices=tuple(UNITS))

    def refuses(self, variant: Variant, path: Path | None = None) -> str | None:  # noqa: ARG002
        """Refuse nothing: the system itself chooses what runs each operator."""
        return None

    def open(
        self,
        variant: Variant,  # noqa: ARG002
        path: Path,
        device: str,
        options: SessionOptions,
    ) -> CoreMLSession:
        """Open a package; `device` is `auto` (all compute units) or one of the probed names."""
        found = self.probe()
        if not found.available or found.version is None:
            raise RuntimeUnavailableError(
                f"Core ML cannot run here: {found.reason}",
                hint=f"install it with: {found.command}" if found.command else "verify it on a Mac: docs/iphone.md",
            )
        if not options.fused:
            raise UsageError("Core ML always fuses; the oracle runs on ONNX Runtime")
        name = "all" if device == "auto" else device.lower()
        if name not in UNITS:
            raise DeviceNotFoundError(f"Core ML has no device {device!r}; it has {', '.join(UNITS)}")
        return CoreMLSession(package_of(path), name, found.version)

    def metadata(self, path: Path) -> str | None:
        """Read the essentials from a package's user-defined metadata."""
        with coremltools_quietly() as coremltools:
            spec = coremltools.models.utils.load_spec(str(package_of(path)))
        text: str = spec.description.metadata.userDefined[METADATA_KEY]
        return text or None


class CoreMLSession:
    """One opened package."""

    def __init__(self, package: Path, device: str, version: str) -> None:
        with coremltools_quietly() as coremltools:
            units = getattr(coremltools.ComputeUnit, UNITS[device])
            try:
                self._model = coremltools.models.MLModel(str(package), compute_units=units)
                # A package that does not load only warns, and gives its reason when it is used.
                compiled = self._model.get_compiled_model_path()
            except Exception as error:  # coremltools raises no class of its own
                raise InferenceError(
                    f"Core ML cannot open {package}: {error}",
                    hint="it may be for a newer system: edgedenoise compile B.edge --target coreml --option"
                    " deployment_target=iOS16",
                ) from error
            placed = placements(coremltools, compiled, units)
        wanted = _WANTED.get(device)
        if placed and wanted is not None and not any(wanted in where for where in placed):
            raise DeviceFallbackError(
                f"the device {device!r} was asked for, but Core ML would run everything on {', '.join(placed)}",
                hint="run it with --device all, or see docs/iphone.md for what runs where",
            )
        self._io = io_of(self._model.get_spec())
        told = ", ".join(f"{count} operators on {where}" for where, count in placed.items())
        self.effective = EffectiveDevice(
            CoreML.name, version, device, told or "this macOS does not tell what ran where"
        )

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one (1, 3, h, w) array."""
        try:
            answer = self._model.predict({INPUT_NAME: to_input(x, self._io)})[OUTPUT_NAME]
        except MemoryError as error:
            raise DeviceMemoryError(f"Core ML ran out of memory on a {x.shape[2]}x{x.shape[3]} tile") from error
        except Exception as error:  # coremltools raises no class of its own
            raise InferenceError(f"Core ML failed: {error}") from error
        return from_output(answer, self._io)

    def stream(self, tiles: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Run one after another: `predict` waits for its answer."""
        return map(self.run, tiles)

    def close(self) -> None:
        """Drop the model."""
        del self._model


def package_of(path: Path) -> Path:
    """Return the `.mlpackage` folder that a variant's file (its `Manifest.json`) stands in."""
    return path.parent if path.name == "Manifest.json" else path


def io_of(spec: Any) -> Literal["tensor", "image"]:
    """Tell whether a model takes and gives images or arrays."""
    return "image" if spec.description.input[0].type.WhichOneof("Type") == "imageType" else "tensor"


def to_input(x: NDArray[np.float32], io: Literal["tensor", "image"]) -> Any:
    """Return (1, 3, h, w) in [0, 1] as what a model takes: the array, or an RGB image of 8 bits."""
    if io == "tensor":
        return x
    from PIL import Image

    return Image.fromarray(from_unit(x[0].transpose(1, 2, 0), np.dtype(np.uint8)))


def from_output(answer: Any, io: Literal["tensor", "image"]) -> NDArray[np.float32]:
    """Return a model's answer as (1, 3, h, w) float32 in [0, 1]."""
    if io == "tensor":
        return np.asarray(answer, np.float32)
    pixels = np.asarray(answer.convert("RGB"), np.float32) / 255
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def placements(coremltools: Any, compiled: str, units: Any) -> Counter[str]:
    """Count the operators of a program by the compute unit that Core ML prefers for each.

    Empty where the system does not tell (before macOS 14.4).
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


@contextmanager
def coremltools_quietly() -> Iterator[Any]:
    """Import coremltools without what it says, and without what it drags along.

    It warns of versions of scikit-learn and torch, which are not used here, imports TensorFlow and torch wherever they
    are, and shows a bar for every pass.
    """
    hidden = [name for name in _NOT_NEEDED if name not in sys.modules and "coremltools" not in sys.modules]
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.ERROR)
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # as if they were not installed
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
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
