"""ONNX Runtime: the backend that every installation has."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgedenoise.bundles.bundle import METADATA_KEY
from edgedenoise.errors import DeviceFallbackError
from edgedenoise.runtimes.base import (
    INPUT_NAME,
    OUTPUT_NAME,
    Availability,
    Backend,
    EffectiveDevice,
    Session,
    SessionOptions,
    TensorInfo,
)
from edgedenoise.runtimes.bounds import ROUNDED_BIASES, ROUNDING_TIES, SchemeBounds
from edgedenoise.runtimes.device_names import AUTO, family_of
from edgedenoise.runtimes.failures import inference_errors
from edgedenoise.runtimes.fusion import Fusion

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from edgedenoise.bundles.manifest import Variant
    from edgedenoise.bundles.model_files import ModelFiles

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_FLOAT_CONVOLUTIONS = frozenset({"Conv", "FusedConv", "NhwcFusedConv"})
_ANY = (Exception,)
"""Hostile models make ONNX Runtime's binding raise classes of its own, of Python and of NumPy."""
SATURATION_FREE = "saturation-free kernels"
"""Part of `EffectiveDevice.detail` where 8-bit weights run on kernels that are exact without VNNI, and slower."""


class OnnxRuntime(Backend):
    """Opens ONNX graphs, float and QDQ alike."""

    name = "onnxruntime"
    label = "ONNX Runtime"
    runs_on = "any CPU; NVIDIA GPUs"
    suffixes = (".onnx",)
    is_cpu = True
    rank = 1  # OpenVINO is faster on x86: docs/results/index.md
    schemes = ("u8s7", "u8s8")
    opens_onnx = True
    runs_unfused = True
    # Measured on tests/fixtures/tiny.edge and edge-tiny, AVX-512 with VNNI: 72 dB and 2.5 levels or better, with
    # signed activations 45 dB and 14 levels.
    error_bounds: ClassVar[Mapping[str, SchemeBounds]] = {
        "u8s7": SchemeBounds(ROUNDING_TIES, ROUNDING_TIES),
        "u8s8": SchemeBounds(ROUNDING_TIES, ROUNDING_TIES),
        "s8s8": SchemeBounds(ROUNDED_BIASES, ROUNDED_BIASES),
        "coreml": SchemeBounds(ROUNDED_BIASES, ROUNDED_BIASES),
    }

    @property
    def install_command(self) -> str:
        """Command that installs ONNX Runtime."""
        return "pip install onnxruntime"

    def probe(self) -> Availability:
        """Return the version, and the devices whose providers are built in (only opening shows whether CUDA loads)."""
        try:
            import onnxruntime
        except ImportError as error:
            return Availability(False, reason=f"onnxruntime cannot be imported: {error}", command=self.install_command)
        built_in = onnxruntime.get_available_providers()
        devices = tuple(device for device, provider in _PROVIDERS.items() if provider in built_in)
        return Availability(True, version=onnxruntime.__version__, devices=devices)

    def int8_is_faster(self, variant: Variant, device: str = AUTO) -> bool:
        """Return whether the CPU has fast kernels for the encoding.

        The CUDA provider has no integer convolutions, the CPU provider no fast ones for signed activations, and 8-bit
        weights need slower exact kernels without VNNI (docs/guides/quantize.md).
        """
        signed = variant.encoding is not None and variant.encoding.activations != "u8"
        return family_of(device) in (AUTO, "cpu") and not signed and not self.saturates(variant)

    def device_hint(self, device: str) -> str | None:
        """Return the package that adds NVIDIA GPUs."""
        if family_of(device) == "cuda":
            return "For an NVIDIA GPU: pip install onnxruntime-gpu"
        return super().device_hint(device)

    def open_session(self, variant: Variant, model: ModelFiles, device: str, options: SessionOptions) -> OrtSession:
        """Open an ONNX model."""
        return OrtSession(variant, model.onnx_data, device, options, source=model.path)

    def fusion(self, variant: Variant, model: ModelFiles) -> Fusion | None:
        """Count nodes of the graph that the optimizer made for the CPU; None without the package onnx to read it."""
        try:
            import onnx
        except ImportError:
            return None
        settings, _ = _settings(variant, SessionOptions())
        with tempfile.TemporaryDirectory() as scratch:
            optimized = Path(scratch) / "optimized.onnx"
            settings.optimized_model_filepath = str(optimized)
            session = open_inference_session(model.onnx_data, settings, source=model.path)
            kinds = [node.op_type for node in onnx.load(optimized).graph.node]
        in_float = sum(kind in _FLOAT_CONVOLUTIONS for kind in kinds)
        return Fusion(
            convolutions=in_float + kinds.count("QLinearConv"),
            in_float=in_float,
            conversions=kinds.count("QuantizeLinear") + kinds.count("DequantizeLinear"),
            dynamic_shape=not all(isinstance(side, int) for side in session.get_inputs()[0].shape),
        )

    def metadata(self, model: ModelFiles) -> str | None:
        """Read the graph's `metadata_props`.

        Raises:
            InferenceError: the file cannot be opened, or its metadata is no text.
        """
        session = open_inference_session(model.onnx_data, unfused_settings(), source=model.path)
        with inference_errors(self.label, f"read the metadata of {model.path}", _ANY):
            return session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)  # type: ignore[no-any-return]


class OrtSession(Session):
    """One opened graph."""

    thread_safe = True  # InferenceSession.run may be called from several threads

    def __init__(
        self, variant: Variant, model: bytes, device: str, options: SessionOptions, *, source: Path | None = None
    ) -> None:
        """Open a serialized model; `source` is the file that it was read from, for messages."""
        import onnxruntime

        settings, detail = _settings(variant, options)
        provider = _PROVIDERS[device]
        self._session = open_inference_session(model, settings, [provider], source=source)
        used = self._session.get_providers()[0]
        # onnxruntime-gpu lists CUDA although it does not load, and silently becomes a CPU session.
        if used != provider:
            raise DeviceFallbackError(
                f"ONNX Runtime opened {used}; expected {provider}, because the device is {device!r}",
                hint="List what is missing with: edgedenoise doctor; or use --device cpu",
            )
        self.effective = EffectiveDevice(OnnxRuntime.name, onnxruntime.__version__, device, ", ".join([used, *detail]))
        with inference_errors(OnnxRuntime.label, f"read the inputs of {source or 'the model'}", _ANY):
            self.inputs = tuple(_info(value) for value in self._session.get_inputs())
            self.outputs = tuple(_info(value) for value in self._session.get_outputs())

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one array; ONNX Runtime uses every core for it."""
        with inference_errors(OnnxRuntime.label, "run a tile", _ANY, shape=x.shape):
            return np.asarray(self._session.run([OUTPUT_NAME], {INPUT_NAME: x})[0])

    def close(self) -> None:
        """Release the session."""
        del self._session


def unfused_settings(threads: int | None = None) -> Any:
    """Return ONNX Runtime's options for the reference execution: no graph optimisation, so no fused kernels."""
    import onnxruntime

    settings = _common_settings(threads)
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return settings


def _common_settings(threads: int | None) -> Any:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3  # errors only: warnings about CUDA's absence are worded here
    if threads is not None:
        settings.intra_op_num_threads = threads
    return settings


def open_inference_session(
    model: bytes, settings: Any, providers: list[str] | None = None, *, source: Path | None = None
) -> Any:
    """Open a serialized model in ONNX Runtime.

    Args:
        model: the serialized model.
        settings: options of ONNX Runtime.
        providers: execution providers; None for the CPU's.
        source: the file that the model was read from, for messages.

    Raises:
        InferenceError: the model cannot be opened.
        DeviceMemoryError: it does not fit into memory.
    """
    import onnxruntime

    what = "the model in memory" if source is None else str(source)
    with inference_errors(f"ONNX Runtime {onnxruntime.__version__}", f"open {what}", _ANY):
        # Its own fallback tries the same provider again, and prints banners to the standard output.
        return onnxruntime.InferenceSession(
            model, settings, providers=providers or [_PROVIDERS["cpu"]], enable_fallback=0
        )


def _settings(variant: Variant, options: SessionOptions) -> tuple[Any, list[str]]:
    """Return ONNX Runtime's own options, and those of them that decide the result or the speed, in words."""
    if not options.fused:
        return unfused_settings(options.threads), ["reference execution (unfused)"]
    settings = _common_settings(options.threads)
    if options.protect_saturation and OnnxRuntime().saturates(variant):
        # Kernels with 16-bit intermediate sums would cost whole decibels; this selects exact ones.
        settings.add_session_config_entry("session.x64quantprecision", "1")
        return settings, [SATURATION_FREE]
    return settings, []


def _info(value: Any) -> TensorInfo:
    dtype = {"tensor(float)": "float32", "tensor(float16)": "float16"}.get(value.type, value.type)
    return TensorInfo(value.name, dtype, tuple(side if isinstance(side, int) else None for side in value.shape))
