"""ONNX Runtime: the backend that every install has."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgedenoise.bundles.bundle import METADATA_KEY
from edgedenoise.errors import (
    DeviceFallbackError,
    DeviceMemoryError,
    DeviceNotFoundError,
    InferenceError,
    RuntimeUnavailableError,
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
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from edgedenoise.bundles.manifest import Variant

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_INSTALL = "pip install onnxruntime"
_FLOAT_CONVOLUTIONS = frozenset({"Conv", "FusedConv", "NhwcFusedConv"})
SATURATION_FREE = "saturation-free kernels"
"""In `EffectiveDevice.detail` where 8-bit weights are run by kernels that are exact without VNNI, and slower."""


class OnnxRuntime:
    """Opens ONNX graphs, float and QDQ alike."""

    name: ClassVar[str] = "onnxruntime"

    def probe(self) -> Availability:
        """Tell the version and the devices whose providers are built in (whether CUDA loads, only opening tells)."""
        try:
            import onnxruntime
        except ImportError as error:
            return Availability(False, reason=f"onnxruntime cannot be imported: {error}", command=_INSTALL)
        built_in = onnxruntime.get_available_providers()
        devices = tuple(device for device, provider in _PROVIDERS.items() if provider in built_in)
        return Availability(True, version=onnxruntime.__version__, devices=devices)

    def refuses(self, variant: Variant, path: Path | None = None) -> str | None:  # noqa: ARG002
        """Refuse nothing: where 8-bit weights would saturate, other kernels are used."""
        return None

    def open(self, variant: Variant, path: Path, device: str, options: SessionOptions) -> OrtSession:
        """Open an ONNX file; `device` is `auto` (the CPU), `cpu` or `cuda`."""
        found = self.probe()
        if not found.available:
            raise RuntimeUnavailableError(f"{found.reason}", hint=f"install it with: {found.command}")
        name = "cpu" if device == "auto" else device
        if name not in found.devices:
            raise DeviceNotFoundError(
                f"ONNX Runtime {found.version} has no device {device!r} here; it has {', '.join(found.devices)}",
                hint="for an NVIDIA GPU: pip install onnxruntime-gpu" if name == "cuda" else None,
            )
        return OrtSession(variant, path, name, options)

    def fusion(self, variant: Variant, path: Path) -> Fusion | None:
        """Count what the optimizer made of the graph on the CPU; None without the package onnx to read it."""
        try:
            import onnx
        except ImportError:
            return None
        settings, _ = _settings(variant, SessionOptions())
        with tempfile.TemporaryDirectory() as scratch:
            optimized = Path(scratch) / "optimized.onnx"
            settings.optimized_model_filepath = str(optimized)
            session = _open(path, settings, [_PROVIDERS["cpu"]])
            kinds = [node.op_type for node in onnx.load(optimized).graph.node]
        in_float = sum(kind in _FLOAT_CONVOLUTIONS for kind in kinds)
        return Fusion(
            convolutions=in_float + kinds.count("QLinearConv"),
            in_float=in_float,
            conversions=kinds.count("QuantizeLinear") + kinds.count("DequantizeLinear"),
            dynamic_shape=not all(isinstance(side, int) for side in session.get_inputs()[0].shape),
        )

    def metadata(self, path: Path) -> str | None:
        """Read the essentials from the graph's `metadata_props`."""
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = _open(path, settings, ["CPUExecutionProvider"])
        return session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)  # type: ignore[no-any-return]


class OrtSession:
    """One opened graph."""

    def __init__(self, variant: Variant, path: Path, device: str, options: SessionOptions) -> None:
        import onnxruntime

        settings, detail = _settings(variant, options)
        provider = _PROVIDERS[device]
        self._session = _open(path, settings, [provider])
        used = self._session.get_providers()[0]
        # onnxruntime-gpu lists CUDA although it does not load, and silently becomes a CPU session.
        if used != provider:
            raise DeviceFallbackError(
                f"the device {device!r} was asked for, but ONNX Runtime opened {used} instead of {provider}",
                hint="see what is missing with: edgedenoise doctor; or run with --device cpu",
            )
        self.effective = EffectiveDevice(OnnxRuntime.name, onnxruntime.__version__, device, ", ".join([used, *detail]))

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one array."""
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        try:
            answer = self._session.run([OUTPUT_NAME], {INPUT_NAME: x})[0]
        except (MemoryError, state.RuntimeException, state.Fail) as error:
            if isinstance(error, MemoryError) or _is_out_of_memory(str(error)):
                raise DeviceMemoryError(
                    f"ONNX Runtime ran out of memory on a {x.shape[2]}x{x.shape[3]} tile (halo included)",
                    suggested_tile=max(x.shape[2:]) // 2,
                    hint=f"use a smaller tile: --tile {max(x.shape[2:]) // 2}",
                ) from error
            raise InferenceError(f"ONNX Runtime failed: {error}") from error
        return np.asarray(answer)

    def stream(self, tiles: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Run one after another: ONNX Runtime already uses every core for each."""
        return map(self.run, tiles)

    def close(self) -> None:
        """Drop the session."""
        del self._session


def _settings(variant: Variant, options: SessionOptions) -> tuple[Any, list[str]]:
    """Return ONNX Runtime's own options, and what in them decides the result or the speed."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3  # errors only: warnings about CUDA's absence are ours to word
    if options.threads is not None:
        settings.intra_op_num_threads = options.threads
    if not options.fused:
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        return settings, ["unfused (oracle)"]
    if needs_protection(variant) and options.protect_saturation:
        # Kernels with 16-bit intermediate sums would cost whole decibels; this selects exact ones.
        settings.add_session_config_entry("session.x64quantprecision", "1")
        return settings, [SATURATION_FREE]
    return settings, []


def _open(path: Path, settings: Any, providers: list[str]) -> Any:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    try:
        return onnxruntime.InferenceSession(str(path), settings, providers=providers)
    except (
        state.InvalidProtobuf,
        state.InvalidGraph,
        state.InvalidArgument,
        state.Fail,
        state.NotImplemented,
        state.NoSuchFile,
    ) as error:
        raise InferenceError(f"ONNX Runtime {onnxruntime.__version__} cannot open {path}: {error}") from error


def _is_out_of_memory(message: str) -> bool:
    lowered = message.lower()
    return "failed to allocate memory" in lowered or "bad_alloc" in lowered or "out of memory" in lowered
