"""OpenVINO: Intel CPUs, GPUs and NPUs, and a fast INT8 path on any x86 CPU."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgedenoise.bundles.bundle import METADATA_KEY
from edgedenoise.errors import DeviceFallbackError
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
    has_8_bit_pairs,
)
from edgedenoise.runtimes.bounds import FLOAT_SUMS, ROUNDING_TIES, SchemeBounds
from edgedenoise.runtimes.device_names import AUTO, family_of
from edgedenoise.runtimes.failures import inference_errors
from edgedenoise.runtimes.fusion import Fusion
from edgedenoise.runtimes.machine import has_avx2, onednn_saturates_u8s8
from edgedenoise.runtimes.openvino.core import shared_core
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from edgedenoise.bundles.manifest import Precision, Variant
    from edgedenoise.bundles.model_files import ModelFiles

_INTEGERS = frozenset({"u8", "i8"})
_FIRST_SIDES = (64, 64)
"""Height and width that a model is compiled for when it is opened, which shows early whether the device can run it."""


class OpenVino(Backend):
    """Opens OpenVINO IR made by `edgedenoise compile --target openvino`."""

    name = "openvino"
    label = "OpenVINO"
    runs_on = "x86 and ARM CPUs; Intel GPUs and NPUs"
    extra = "openvino"
    packages = ("openvino",)
    suffixes = (".xml",)
    is_cpu = True
    precisions = ("fp32", "fp16", "int8")
    default_precisions = ("fp32", "int8")
    schemes = ("u8s7", "u8s8")  # u8s8 needs VNNI or ARM: the CPU plugin's kernels saturate like all others
    opens_onnx = True
    builder = "edgedenoise.exporting.openvino.builder:build"
    # Measured on tests/fixtures/tiny.edge and edge-tiny, AVX-512 with VNNI: 78 dB and 0.8 levels where the network is
    # plain, 47 dB and 7.2 levels with Add and Concat nodes.
    error_bounds: ClassVar[Mapping[str, SchemeBounds]] = {
        "u8s7": SchemeBounds(ROUNDING_TIES, FLOAT_SUMS),
        "u8s8": SchemeBounds(ROUNDING_TIES, FLOAT_SUMS),
    }

    def probe(self) -> Availability:
        """Return the version, and the devices that OpenVINO's plugins find."""
        try:
            import openvino

            devices = tuple(device.lower() for device in shared_core().available_devices)
        except ImportError:
            return Availability(False, reason="the package openvino is not installed", command=self.install_command)
        except RuntimeError as error:
            return Availability(False, reason=f"OpenVINO does not start: {error}", command=self.install_command)
        if not devices:
            return Availability(False, reason="OpenVINO finds no device", command=self.install_command)
        return Availability(True, version=openvino.__version__.split("-")[0], devices=devices)

    def auto_device(self, variant: Variant, model: ModelFiles, devices: tuple[str, ...]) -> str:  # noqa: ARG002
        """Return the CPU, which every machine has, or the first device of an installation without its plugin."""
        return "cpu" if "cpu" in devices else devices[0]

    def saturates(self, variant: Variant) -> bool:
        """Return whether products of 8-bit pairs would saturate in oneDNN, which the CPU plugin uses."""
        return has_8_bit_pairs(variant) and onednn_saturates_u8s8()

    def unsupported_reason(
        self,
        variant: Variant,
        *,
        device: str = AUTO,
        model: ModelFiles | None = None,  # noqa: ARG002
    ) -> str | None:
        """Refuse 8-bit weights on CPUs without VNNI: the CPU plugin has no saturation-free kernels."""
        if family_of(device) not in (AUTO, "cpu") or not self.saturates(variant):
            return None
        return (
            f"{variant.name} has 8-bit weights, and OpenVINO cannot use VNNI on this CPU: sums of 8-bit products would"
            " saturate, which costs whole decibels"
        )

    def unsupported_hint(self, variant: Variant, model: ModelFiles) -> str | None:
        """Return the commands that build a variant with 7-bit weights."""
        path = model.path
        if path.parent.name != variant.name:  # a lone file
            return "Use 7-bit weights: quantize the bundle with --scheme u8s7, then compile it for openvino"
        bundle = path.parent.parent
        quantize = command_line("quantize", bundle, "--scheme", "u8s7")
        return f"Use 7-bit weights: {quantize}; {command_line('compile', bundle, '--target', self.name)}"

    def int8_is_faster(self, variant: Variant, device: str = AUTO) -> bool:
        """Return whether the device has fast kernels for the encoding (docs/guides/quantize.md)."""
        if variant.encoding is not None and variant.encoding.activations != "u8":
            return False
        return family_of(device) not in (AUTO, "cpu") or has_avx2()

    def open_session(
        self, variant: Variant, model: ModelFiles, device: str, options: SessionOptions
    ) -> OpenVinoSession:
        """Open an IR (`.xml` and `.bin`), or an ONNX model."""
        return OpenVinoSession(model, device, variant.precision, options)

    def fusion(self, variant: Variant, model: ModelFiles) -> Fusion:
        """Count operations of the graph that the CPU plugin made."""
        session = OpenVinoSession(model, "cpu", variant.precision, SessionOptions())
        try:
            return session.fusion()
        finally:
            session.close()

    def metadata(self, model: ModelFiles) -> str | None:
        """Read the IR's `rt_info`."""
        with inference_errors(self.label, f"read {model.path}", (Exception,)):
            network = _read(shared_core(), model)
            if not network.has_rt_info([METADATA_KEY]):
                return None
            return str(network.get_rt_info([METADATA_KEY]).value)


class OpenVinoSession(Session):
    """One opened IR, compiled for the tile shape that is in use.

    NPUs and GPUs need static shapes, and on CPUs these cost nothing (benchmarks/tiles.py). The tiles of an image have
    one shape: the model is compiled for the first tile's shape, and again only when the shape changes.
    """

    def __init__(self, model: ModelFiles, device: str, precision: Precision, options: SessionOptions) -> None:
        import openvino

        self._device = device.upper()
        self._config: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
        }
        if self._device.startswith("NPU"):
            computes_in = "float16"  # NPUs have no other float type, and refuse the hint
        else:
            half = precision == "fp16" and not self._device.startswith("CPU")
            # Float must mean float32: GPUs and some CPUs would otherwise silently compute in 16 bits.
            self._config["INFERENCE_PRECISION_HINT"] = "f16" if half else "f32"
            computes_in = "float16" if half else "float32"
        if options.threads is not None:
            self._config["INFERENCE_NUM_THREADS"] = options.threads
        with inference_errors(OpenVino.label, f"open {model.path}", (Exception,)):
            self._core = shared_core()
            self._model = _read(self._core, model)
            self.inputs = tuple(_info(port) for port in self._model.inputs)
            self.outputs = tuple(_info(port) for port in self._model.outputs)
        self._request: Any = None
        self._shape: tuple[int, ...] = ()
        self._compile((1, self.inputs[0].shape[1] or CHANNELS, *_FIRST_SIDES), None)
        self.effective = EffectiveDevice(
            OpenVino.name,
            openvino.__version__.split("-")[0],
            device,
            f"{self._device} plugin, static tiles, {computes_in} where not integer",
        )

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one array: with the latency hint every core works on it."""
        return self.timed_run(x)[1]

    def timed_run(self, x: NDArray[np.float32]) -> tuple[float, NDArray[np.float32]]:
        """Run one array; the time leaves out the copy of the answer, as that of `benchmark_app` does."""
        if x.shape != self._shape:
            self._compile(x.shape, x.shape)
        with inference_errors(OpenVino.label, "run a tile", (Exception,), shape=x.shape):
            start = time.perf_counter()
            answers = self._request.infer({INPUT_NAME: x}, share_inputs=True, share_outputs=True)
            seconds = time.perf_counter() - start
            return seconds, np.array(answers[OUTPUT_NAME])  # a copy, because the request's own buffer is used again

    def fusion(self) -> Fusion:
        """Count the compiled model's operations by the precision that they run in."""
        convolutions = in_float = conversions = 0
        for op in self._request.get_compiled_model().get_runtime_model().get_ordered_ops():
            info = op.get_rt_info()
            kind, runs_in, gives = (
                info[key].astype(str) if key in info else ""
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

    def _compile(self, shape: tuple[int, ...], tile: tuple[int, ...] | None) -> None:
        """Compile for a shape; `tile` is the tile that does not fit when memory runs out, None at opening."""
        self._request, self._shape = None, ()  # the memory of the last shape is free before more is taken
        doing = f"compile the model for {self._device} at {shape}"
        with inference_errors(OpenVino.label, doing, (Exception,), shape=tile):
            self._model.reshape({INPUT_NAME: list(shape)})
            model = self._core.compile_model(self._model, self._device, self._config)
            used = [str(name) for name in model.get_property("EXECUTION_DEVICES")]
            request = model.create_infer_request()
        if not all(name.startswith(self._device) for name in used):
            raise DeviceFallbackError(
                f"OpenVINO runs on {', '.join(used)}; expected {self._device}",
                hint="List the devices of this machine with: edgedenoise doctor; or use --device cpu",
            )
        self._request, self._shape = request, shape


def _read(core: Any, model: ModelFiles) -> Any:
    """Return the network of checked files; OpenVINO reads no file by itself."""
    if model.data.startswith(b"<"):  # the format is recognized by its content, as OpenVINO does
        return core.read_model(model.data, model.companion(".bin") or b"")
    return core.read_model(model.onnx_data, b"")


def _info(port: Any) -> TensorInfo:
    dtype = port.get_element_type().get_type_name()
    shape = tuple(side.get_length() if side.is_static else None for side in port.get_partial_shape())
    return TensorInfo(port.get_any_name(), {"f32": "float32", "f16": "float16"}.get(dtype, dtype), shape)
