"""TensorRT and TensorRT-RTX: engines on NVIDIA GPUs, through the API that 8.5 to 11 share.

The modules `tensorrt`, `tensorrt_lean` and `tensorrt_rtx` have the same runtime interface, so one file serves all.
Memory is allocated through `cudart`; neither torch nor pycuda is needed. Without a GPU no TensorRT object is created.
"""

from __future__ import annotations

import importlib
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import numpy as np

from edgedenoise.errors import DeviceMemoryError, InferenceError, IntegrityError
from edgedenoise.extras import is_installed
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
from edgedenoise.runtimes.device_names import AUTO, matching_device
from edgedenoise.runtimes.failures import memory_error
from edgedenoise.runtimes.fusion import Fusion
from edgedenoise.runtimes.tensorrt.cudart import Cudart, pinned_array
from edgedenoise.runtimes.tensorrt.engine_record import EngineRecord, mismatch, read_record, this_platform
from edgedenoise.runtimes.tensorrt.nvidia import Gpu, gpus
from edgedenoise.runtimes.tensorrt.trust import is_built_here
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from edgedenoise.bundles.manifest import Variant
    from edgedenoise.bundles.model_files import ModelFiles

_SLOTS = 2
"""Number of tiles in progress: one computes while the next is copied in and the one before is copied out."""
SINCE = {"Runtime.engine_host_code_allowed": "8.6"}
"""Attributes that 8.5 does not have, with the version that added them; used only where they exist."""
_CONVOLUTION, _REFORMAT = "convolution", "reformat"


class TensorRT(Backend):
    """Opens engines made by `edgedenoise compile --target tensorrt`."""

    name = "tensorrt"
    label = "TensorRT"
    runs_on = "NVIDIA Jetson and GPUs"
    extra: ClassVar[str | None] = "tensorrt"
    packages: ClassVar[tuple[str, ...]] = ("tensorrt",)
    install_note: ClassVar[str | None] = "on a Jetson it is a part of JetPack: docs/guides/jetson.md"
    guide = "docs/guides/jetson.md"
    precisions = ("fp32", "fp16", "int8")
    default_precisions = ("fp16", "int8")
    # Symmetric int8 only: the range of uint8 is halved silently, and integer biases are refused.
    schemes = ("s8s8",)
    built_where_it_runs: ClassVar[bool] = True
    builder: ClassVar[str | None] = "edgedenoise.exporting.tensorrt.builder:build"
    emulator = "edgedenoise.exporting.tensorrt.builder:emulate"
    emulation = "of the graph that the engine was built from; the engine itself was not read"
    # Not measured on a device: what is expected of kernels that keep values between integers in half precision.
    error_bounds: ClassVar[Mapping[str, SchemeBounds]] = {"s8s8": SchemeBounds(ROUNDED_BIASES, FLOAT_SUMS)}
    modules: ClassVar[tuple[str, ...]] = ("tensorrt", "tensorrt_lean")
    """Python modules in order of preference; the lean runtime loads version-compatible engines only."""

    def probe(self) -> Availability:
        """Ask the driver for GPUs, then look for the module; no TensorRT object is made."""
        found = gpus()
        if not found:
            return Availability(False, reason="the NVIDIA driver finds no GPU, or there is no such driver")
        module = self.module()
        if module is None:
            reason = f"the package {self.modules[0]} is not installed"
            return Availability(False, reason=reason, command=self.install_command)
        try:
            version = _version(module)
        except (ImportError, OSError) as error:
            return Availability(False, reason=f"{module} does not load: {error}", command=self.install_command)
        return Availability(True, version=version, devices=tuple(_device_name(gpu) for gpu in found))

    def module(self) -> str | None:
        """Return the name of the module that would be used; None when none is installed."""
        return next((name for name in self.modules if is_installed(name)), None)

    def auto_device(self, variant: Variant, model: ModelFiles, devices: tuple[str, ...]) -> str:  # noqa: ARG002
        """Return the first GPU that the engine was built for; the first of all when there is none.

        Raises:
            IntegrityError: the engine's record is missing or unreadable.
        """
        fitting = [_device_name(gpu) for gpu, reason in self._mismatches(model) if reason is None]
        return fitting[0] if fitting else devices[0]

    def unsupported_reason(
        self, variant: Variant, *, device: str = AUTO, model: ModelFiles | None = None
    ) -> str | None:
        """Refuse engines of another machine; without the file nothing is known."""
        if model is None or self.module() is None or not gpus():
            return None
        try:
            mismatches = self._mismatches(model)
        except IntegrityError as error:
            return error.message
        if device.lower() != AUTO:
            mismatches = [(gpu, why) for gpu, why in mismatches if matching_device(device, [_device_name(gpu)])]
        if not mismatches or any(why is None for _, why in mismatches):  # `open` reports a missing device
            return None
        return f"the engine {variant.name} is not for this machine: {mismatches[0][1]}"

    def untrusted_reason(self, variant: Variant, model: ModelFiles) -> str | None:
        """Refuse engines that contain code for the host, unless this user built them on this machine."""
        record = read_record(model)
        if not record.version_compatible or is_built_here(model.data, record.host_code_mac):
            return None
        return (
            f"the engine {variant.name} is version-compatible: it contains code that runs on this computer, and it was"
            " not built here"
        )

    def unsupported_hint(self, variant: Variant, model: ModelFiles) -> str | None:
        """Return the command that builds the engine on this machine."""
        record = read_record(model)
        options = ("--target", self.name, "--precision", variant.precision, *_shape_options(record))
        return f"Build one here: {command_line('compile', model.path.parent.parent, *options)}"

    def open_session(self, variant: Variant, model: ModelFiles, device: str, options: SessionOptions) -> TrtSession:  # noqa: ARG002
        """Open an engine on a GPU.

        Raises:
            IntegrityError: the engine's record is missing or unreadable.
            InferenceError: TensorRT does not accept the engine although the record says that it should.
        """
        module = self.module()
        gpu = next(gpu for gpu in gpus() if _device_name(gpu) == device)
        return TrtSession(importlib.import_module(str(module)), model, read_record(model), gpu, self)

    def fusion(self, variant: Variant, model: ModelFiles) -> Fusion | None:
        """Count the engine's layers by its inspector; None where it was built without names of formats."""
        session = self.open(variant, model)
        try:
            return session.fusion() if isinstance(session, TrtSession) else None
        finally:
            session.close()

    def _mismatches(self, model: ModelFiles) -> list[tuple[Gpu, str | None]]:
        """Return for each GPU why it must not load an engine, or None."""
        module = str(self.module())
        record, version, platform = read_record(model), _version(module), this_platform()
        return [(gpu, mismatch(record, module, version, gpu, platform)) for gpu in gpus()]


class TensorRTRTX(TensorRT):
    """Opens engines made by `edgedenoise compile --target tensorrt-rtx`, which are built without a GPU."""

    name = "tensorrt-rtx"
    label = "TensorRT-RTX"
    runs_on = "NVIDIA RTX GPUs"
    extra = "tensorrt-rtx"
    packages = ("tensorrt_rtx",)
    install_note = None
    modules = ("tensorrt_rtx",)
    built_where_it_runs = False
    builder = "edgedenoise.exporting.tensorrt.builder:build_rtx"


@dataclass(frozen=True)
class _Slot:
    """Memory and events of one tile in progress."""

    host_in: int
    host_out: int
    device_in: int
    device_out: int
    uploaded: int
    computed: int
    downloaded: int


class TrtSession(Session):
    """One opened engine, with its memory and its three CUDA streams: copies in, work, copies out."""

    def __init__(self, module: Any, model: ModelFiles, record: EngineRecord, gpu: Gpu, backend: TensorRT) -> None:
        path = model.path
        self._record = record
        self._side = 0
        self._slots: tuple[_Slot, ...] = ()
        with ExitStack() as opening:  # whatever fails, what was allocated before is released
            self._cuda = Cudart()
            self._gpu = gpu
            self._cuda.set_device(gpu.index)
            self._trt = module
            self._logger = module.Logger(module.Logger.WARNING)
            self._runtime = module.Runtime(self._logger)
            if record.version_compatible and hasattr(self._runtime, "engine_host_code_allowed"):
                # Such engines contain host code. `Backend.open` has asked `untrusted_reason` whether it may run.
                self._runtime.engine_host_code_allowed = True
            self._engine = self._runtime.deserialize_cuda_engine(model.data)
            if self._engine is None:
                raise InferenceError(
                    f"{module.__name__} {module.__version__} cannot load {path}, although it was built for it",
                    hint=f"Build it again: {command_line('compile', path.parent.parent, '--target', backend.name)}",
                )
            _check_interface(self._engine, module, path)
            self._channels = record.input_channels
            self.inputs = (_info(record, INPUT_NAME, self._channels),)
            self.outputs = (_info(record, OUTPUT_NAME, CHANNELS),)
            self._context = self._engine.create_execution_context()
            if self._context is None:
                raise memory_error(backend.label, detail=f"{gpu.name} has not enough memory for the engine")
            self._queues = tuple(self._taken(opening, self._cuda.stream, self._cuda.destroy_stream) for _ in range(3))
            self._closing = opening.pop_all()
        self._buffers = ExitStack()
        between = f", {record.between} between integer layers" if record.precision == "int8" else ""
        self.effective = EffectiveDevice(
            backend.name,
            module.__version__,
            _device_name(gpu),
            f"{module.__name__} on {gpu.name}, {record.precision}{between}",
        )

    def stream(self, tiles: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Run (1, C, s, s) arrays in order; the next one is copied to the GPU while one computes."""
        waiting: list[tuple[_Slot, tuple[int, ...]]] = []
        self._cuda.set_device(self._gpu.index)  # each thread has a GPU of its own
        try:
            for number, tile in enumerate(tiles):
                if tile.shape[2] != self._side:
                    while waiting:  # tiles in progress use the memory that is about to change
                        yield self._finish(*waiting.pop(0))
                    self._take_memory(tile.shape[2])
                slot = self._slots[number % _SLOTS]
                self._begin(slot, tile)
                waiting.append((slot, tile.shape))
                if len(waiting) == _SLOTS:
                    yield self._finish(*waiting.pop(0))
            while waiting:
                yield self._finish(*waiting.pop(0))
        finally:
            for queue in self._queues if waiting else ():  # stopped early: the memory is still being written to
                self._cuda.synchronize(queue)

    def fusion(self) -> Fusion | None:
        """Count the engine's layers by the precision of their inputs; None where that is not reported."""
        if self._trt.__name__ == "tensorrt_lean":  # has the method, and lacks the type of its argument
            return None
        inspector = self._engine.create_engine_inspector()
        text = inspector.get_engine_information(self._trt.LayerInformationFormat.JSON)
        return fusion_of(text, dynamic_shape=self._record.shapes.kind == "ranged")

    def close(self) -> None:
        """Release everything: first what uses the engine, then the engine."""
        self._cuda.set_device(self._gpu.index)
        for queue in self._queues:
            self._cuda.synchronize(queue)
        self._queues = ()  # a generator that is closed later has nothing to wait for
        self._buffers.close()
        self._closing.close()
        del self._context, self._engine, self._runtime, self._logger

    def _begin(self, slot: _Slot, tile: NDArray[np.float32]) -> None:
        """Queue the copies and the work of one tile, without waiting."""
        cuda, (copies_in, work, copies_out) = self._cuda, self._queues
        pinned_array(slot.host_in, tile.shape)[...] = tile
        cuda.upload(slot.device_in, slot.host_in, tile.nbytes, copies_in)
        cuda.record(slot.uploaded, copies_in)
        cuda.wait(work, slot.uploaded)
        accepted = (
            self._context.set_input_shape(INPUT_NAME, tile.shape)
            and self._context.set_tensor_address(INPUT_NAME, slot.device_in)
            and self._context.set_tensor_address(OUTPUT_NAME, slot.device_out)
            and self._context.execute_async_v3(work)
        )
        if not accepted:
            raise InferenceError(
                f"TensorRT refused to run a tile of shape {tile.shape}; expected {_expected(self._record)}"
            )
        cuda.record(slot.computed, work)
        cuda.wait(copies_out, slot.computed)
        cuda.download(slot.host_out, slot.device_out, tile.nbytes // self._channels * CHANNELS, copies_out)
        cuda.record(slot.downloaded, copies_out)

    def _finish(self, slot: _Slot, shape: tuple[int, ...]) -> NDArray[np.float32]:
        self._cuda.wait_for(slot.downloaded)
        return pinned_array(slot.host_out, (1, CHANNELS, *shape[2:])).copy()  # a copy, because the memory is used again

    def _take_memory(self, side: int) -> None:
        """Allocate memory for `_SLOTS` tiles of a side, after releasing that of the last side."""
        self._buffers.close()
        self._side, self._slots = 0, ()
        cuda, plane = self._cuda, side * side * np.dtype(np.float32).itemsize
        taken, given = self._channels * plane, CHANNELS * plane
        try:
            with ExitStack() as taking:
                slots = tuple(
                    _Slot(
                        *(self._taken(taking, partial(cuda.malloc_host, n), cuda.free_host) for n in (taken, given)),
                        *(self._taken(taking, partial(cuda.malloc, n), cuda.free) for n in (taken, given)),
                        *(self._taken(taking, cuda.event, cuda.destroy_event) for _ in range(3)),
                    )
                    for _ in range(_SLOTS)
                )
                self._buffers = taking.pop_all()
        except DeviceMemoryError as error:
            smaller = self._smaller_side(side)
            raise DeviceMemoryError(error.message, suggested_tile=smaller, hint=error.hint) from error
        self._side, self._slots = side, slots

    def _smaller_side(self, side: int) -> int | None:
        least = self._record.shapes.sides_px[0]
        return max(least, side // 2) if least < side else None

    @staticmethod
    def _taken(stack: ExitStack, take: Any, give_back: Any) -> int:
        taken: int = take()
        stack.callback(give_back, taken)
        return taken


def fusion_of(text: str, *, dynamic_shape: bool) -> Fusion | None:
    """Count layers in an engine inspector's JSON; None when it contains names only.

    Raises:
        InferenceError: the text is not such JSON.
    """
    try:
        layers = msgspec.json.decode(text)["Layers"]
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise InferenceError(f"the engine inspector's JSON cannot be read: {error}") from error
    if not all(isinstance(layer, dict) for layer in layers):
        return None
    kinds = [(str(layer.get("LayerType", "")).lower(), _reads_integers(layer)) for layer in layers]
    convolutions = [integers for kind, integers in kinds if _CONVOLUTION in kind or kind == "caskgemmconvolution"]
    return Fusion(
        convolutions=len(convolutions),
        in_float=convolutions.count(False),
        conversions=sum(_REFORMAT in kind or "quantize" in kind for kind, _ in kinds),
        dynamic_shape=dynamic_shape,
    )


def _reads_integers(layer: dict[str, Any]) -> bool:
    inputs = layer.get("Inputs") or []
    return bool(inputs) and "int8" in str(inputs[0].get("Format/Datatype", "")).lower()


def _info(record: EngineRecord, name: str, channels: int) -> TensorInfo:
    """Describe an input or output of an engine, which `_check_interface` has found to be float32."""
    side = record.shapes.sides_px[0] if record.shapes.kind == "fixed" else None
    return TensorInfo(name, "float32", (1, channels, side, side))


def _check_interface(engine: Any, module: Any, path: Path) -> None:
    """Check that an engine has the input and the output of a denoiser."""
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    wanted = {INPUT_NAME: module.TensorIOMode.INPUT, OUTPUT_NAME: module.TensorIOMode.OUTPUT}
    found = {name: engine.get_tensor_mode(name) for name in names}
    if found != wanted or any(engine.get_tensor_dtype(name) != module.DataType.FLOAT for name in names):
        raise InferenceError(
            f"{path} has the tensors {', '.join(names)}; expected float32 {INPUT_NAME} in and {OUTPUT_NAME} out"
        )


def _expected(record: EngineRecord) -> str:
    """Return the sides that an engine accepts, in words."""
    sides = record.shapes.sides_px
    return f"sides from {sides[0]} to {sides[-1]}" if record.shapes.kind == "ranged" else f"sides of {sides[0]}"


def _shape_options(record: EngineRecord) -> tuple[str, str]:
    """Return the shapes of an engine as options of `compile`."""
    sides = ":".join(map(str, record.shapes.sides_px))
    return ("--tile-range" if record.shapes.kind == "ranged" else "--tile"), sides


def _device_name(gpu: Gpu) -> str:
    return "cuda" if gpu.index == 0 else f"cuda:{gpu.index}"


def _version(module: str) -> str:
    """Return a module's version; a module without a distribution (as JetPack's may be) is imported for it."""
    try:
        return metadata.version(module)
    except metadata.PackageNotFoundError:
        return str(importlib.import_module(module).__version__)
