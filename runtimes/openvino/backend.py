"""OpenVINO: Intel CPUs, GPUs and NPUs, and a fast INT8 path on any x86."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgedenoise.bundles.bundle import METADATA_KEY
from edgedenoise.errors import (
    DeviceFallbackError,
    DeviceMemoryError,
    DeviceNotFoundError,
    IncompatibleError,
    InferenceError,
    RuntimeUnavailableError,
    UsageError,
)
from edgedenoise.runtimes.base import (
    INPUT_NAME,
    OUTPUT_NAME,
    Availability,
    EffectiveDevice,
    SessionOptions,
    needs_protection,
)
from edgedenoise.runtimes.fusion import Fusion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from edgedenoise.bundles.manifest import Precision, Variant

_INSTALL = 'pip install "edgedenoise[openvino]"'
_INTEGERS = frozenset({"u8", "i8"})


class OpenVino:
    """Opens OpenVINO IR made by `edgedenoise compile --target openvino`."""

    name: ClassVar[str] = "openvino"

    def probe(self) -> Availability:
        """Tell the version and the devices that OpenVINO's plugins find."""
        try:
            import openvino

            devices = tuple(device.lower() for device in openvino.Core().available_devices)
        except ImportError:
            return Availability(False, reason="the package openvino is not installed", command=_INSTALL)
        except RuntimeError as error:
            return Availability(False, reason=f"OpenVINO does not start: {error}", command=_INSTALL)
        return Availability(True, version=openvino.__version__.split("-")[0], devices=devices)

    def refuses(self, variant: Variant, path: Path | None = None) -> str | None:  # noqa: ARG002
        """Refuse 8-bit weights on CPUs without VNNI: the CPU plugin has no saturation-free kernels to switch to."""
        if not needs_protection(variant):
            return None
        return (
            f"{variant.name} has 8-bit weights; on this CPU, which has no VNNI, OpenVINO's products of 8-bit pairs"
            " would saturate and cost whole decibels"
        )

    def open(self, variant: Variant, path: Path, device: str, options: SessionOptions) -> OpenVinoSession:
        """Open an IR (`.xml`); `device` is `auto` (the CPU) or one of the probed names."""
        found = self.probe()
        if not found.available:
            raise RuntimeUnavailableError(
                f"OpenVINO cannot run here: {found.reason}", hint=f"install it with: {found.command}"
            )
        if not options.fused:
            raise UsageError("OpenVINO always fuses; the oracle runs on ONNX Runtime")
        refusal = self.refuses(variant)
        if options.protect_saturation and refusal is not None:
            raise IncompatibleError(
                refusal,
                hint="use 7-bit weights: edgedenoise quantize B.edge --scheme u8s7, then compile --target openvino",
            )
        name = "cpu" if device == "auto" else device.lower()
        if name not in found.devices:
            raise DeviceNotFoundError(
                f"OpenVINO {found.version} has no device {device!r} here; it has {', '.join(found.devices)}"
            )
        return OpenVinoSession(path, name, variant.precision, options)

    def fusion(self, variant: Variant, path: Path) -> Fusion:
        """Count what the CPU plugin made of the graph."""
        session = OpenVinoSession(path, "cpu", variant.precision, SessionOptions())
        try:
            return session.fusion()
        finally:
            session.close()

    def metadata(self, path: Path) -> str | None:
        """Read the essentials from the IR's `rt_info`."""
        import openvino

        model = _worded(lambda: openvino.Core().read_model(path), f"read {path}")
        if not model.has_rt_info([METADATA_KEY]):
            return None
        return str(model.get_rt_info([METADATA_KEY]).value)


class OpenVinoSession:
    """One opened IR, compiled for the tile shape that is in use.

    NPUs and GPUs want static shapes, and on CPUs they cost nothing (benchmarks/tiles.py). An image's tiles all have
    one shape: the model is compiled for the first tile's, and again only when the shape changes.
    """

    def __init__(self, path: Path, device: str, precision: Precision, options: SessionOptions) -> None:
        import openvino

        self._device = device.upper()
        self._config: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
        }
        if self._device.startswith("NPU"):
            computes_in = "float16"  # has nothing else for what is not integer, and refuses the hint
        else:
            half = precision == "fp16" and not self._device.startswith("CPU")
            # Float must mean float32: GPUs and some CPUs would otherwise quietly compute in 16 bits.
            self._config["INFERENCE_PRECISION_HINT"] = "f16" if half else "f32"
            computes_in = "float16" if half else "float32"
        if options.threads is not None:
            self._config["INFERENCE_NUM_THREADS"] = options.threads
        self._core = openvino.Core()
        self._model = _worded(lambda: self._core.read_model(path), f"open {path}")
        self._request: Any = None
        self._shape: tuple[int, ...] = ()
        self._compile((1, 3, 64, 64))
        self.effective = EffectiveDevice(
            OpenVino.name,
            openvino.__version__.split("-")[0],
            device,
            f"{self._device} plugin, static tiles, {computes_in} where not integer",
        )

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one array."""
        if x.shape != self._shape:
            self._compile(x.shape)
        try:
            answers = self._request.infer({INPUT_NAME: x}, share_inputs=True)
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, MemoryError) or "alloc" in str(error).lower():
                raise DeviceMemoryError(
                    f"OpenVINO ran out of memory on a {x.shape[2]}x{x.shape[3]} tile (halo included)",
                    suggested_tile=max(x.shape[2:]) // 2,
                    hint=f"use a smaller tile: --tile {max(x.shape[2:]) // 2}",
                ) from error
            raise InferenceError(f"OpenVINO failed: {error}") from error
        return np.array(answers[OUTPUT_NAME])  # a copy: the request's own buffer is used again

    def stream(self, tiles: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Run one after another: with the latency hint every core works on each."""
        return map(self.run, tiles)

    def fusion(self) -> Fusion:
        """Count the compiled model's operations by the precision that they run in."""
        convolutions = in_float = conversions = 0
        for op in self._request.get_compiled_model().get_runtime_model().get_ordered_ops():
            told = op.get_rt_info()
            kind, runs_in, gives = (
                told[key].astype(str) if key in told else ""
                for key in ("layerType", "runtimePrecision", "outputPrecisions")
            )
            if kind == "Convolution":
                convolutions += 1
                in_float += runs_in not in _INTEGERS
            elif kind == "FakeQuantize" or (kind != "Const" and runs_in not in _INTEGERS and gives in _INTEGERS):
                conversions += 1
        return Fusion(convolutions, in_float, conversions, dynamic_shape=False)

    def close(self) -> None:
        """Drop the compiled model."""
        del self._request, self._model, self._core

    def _compile(self, shape: tuple[int, ...]) -> None:
        def compiled() -> Any:
            self._model.reshape({INPUT_NAME: list(shape)})
            return self._core.compile_model(self._model, self._device, self._config)

        model = _worded(compiled, f"compile for {self._device} at {shape}")
        used = [str(name) for name in model.get_property("EXECUTION_DEVICES")]
        if not all(name.startswith(self._device) for name in used):
            raise DeviceFallbackError(
                f"the device {self._device} was asked for, but OpenVINO runs on {', '.join(used)}",
                hint="see what is here with: edgedenoise doctor; or run with --device cpu",
            )
        self._request = model.create_infer_request()
        self._shape = shape


def _worded(call: Callable[[], Any], what: str) -> Any:
    """Run `call()` and word OpenVINO's RuntimeErrors."""
    try:
        return call()
    except RuntimeError as error:
        raise InferenceError(f"OpenVINO cannot {what}: {error}") from error
