"""The record of a TensorRT engine: what built it, for which GPU, from which graph.

An engine runs on the GPU and with the TensorRT that built it; loading the engine of another machine may crash the
process. Each engine therefore has a file `engine.json`, which is compared before the engine is loaded.
"""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING

import msgspec

from edgedenoise.atomic import write_bytes
from edgedenoise.bundles.contents import read_json
from edgedenoise.bundles.manifest import InputShapes, Precision
from edgedenoise.errors import IntegrityError
from edgedenoise.runtimes.base import CHANNELS
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from pathlib import Path

    from edgedenoise.bundles.model_files import ModelFiles
    from edgedenoise.runtimes.tensorrt.nvidia import Gpu


_RTX_GPUS = frozenset({"8.0", "8.6", "8.9"})
_RTX_SINCE = (12, 0)
"""What engines that TensorRT-RTX builds without a GPU are for, by NVIDIA's documentation (docs/guides/jetson.md)."""


class EngineRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The machine that an engine is bound to, and how it was built."""

    module: str
    """Python module whose builder built it: `tensorrt` or `tensorrt_rtx`."""
    version: str
    """Version of that module."""
    gpu: str | None
    """Name of the GPU that it was tuned on; None for engines that are built without a GPU."""
    compute_capability: str | None
    driver: str | None
    """Newest CUDA version that the driver supported."""
    platform: str
    """Operating system and machine, such as `linux-aarch64`."""
    graph_sha256: str
    """SHA-256 of the ONNX file that it was built from."""
    precision: Precision
    between: str
    """Type of what runs between integer layers, in words; of all layers for float engines."""
    flags: list[str]
    """Builder and network flags that were set."""
    shapes: InputShapes
    build_s: float
    version_compatible: bool = False
    """Whether later versions of the same major release run it too."""
    hardware_compatible: bool = False
    """Whether all GPUs since Ampere run it."""
    notes: list[str] = []
    input_channels: int = CHANNELS
    """4 for a network that takes the noise level; see `Manifest.input_channels`."""
    host_code_mac: str = ""
    """Code by which the machine that built a version-compatible engine recognises it; see `trust.py`."""


def record_file(engine: Path) -> Path:
    """Return the path of an engine's record."""
    return engine.with_suffix(".json")


def write_record(engine: Path, record: EngineRecord) -> None:
    """Write the record of an engine."""
    write_bytes(record_file(engine), msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")


def read_record(engine: ModelFiles) -> EngineRecord:
    """Read the record of an engine.

    Raises:
        IntegrityError: it is missing or unreadable; an engine is not loaded without it.
    """
    path, data = record_file(engine.path), engine.companion(".json")
    if data is None:
        raise IntegrityError(
            f"{engine.path} has no record: expected {path} beside it, got no such file",
            hint="Copy the whole bundle, or build the engine again:"
            f" {command_line('compile', engine.path.parent.parent, '--target', 'tensorrt')}",
        )
    return read_json(data, EngineRecord, str(path))


def mismatch(record: EngineRecord, module: str, version: str, gpu: Gpu | None, here_platform: str) -> str | None:
    """Return why an engine must not be loaded on this machine, naming both machines; None when it may be.

    Args:
        record: record of the engine.
        module: name of the module that would load it: `tensorrt`, `tensorrt_lean` or `tensorrt_rtx`.
        version: version of that module.
        gpu: GPU that it would run on; None when there is none.
        here_platform: operating system and machine, as in the record.
    """
    if gpu is None:
        return f"it needs an NVIDIA GPU ({record.gpu or 'any that TensorRT-RTX supports'}), and there is none here"
    ahead_of_time = record.gpu is None
    if record.platform != here_platform and not ahead_of_time:  # those run on Windows and Linux alike
        return f"it was built on {record.platform}, this is {here_platform}"
    built_by, here = f"{record.module} {record.version}", f"{module} {version}"
    if record.version_compatible:
        if _major(record.version) != _major(version) or _numbers(version) < _numbers(record.version):
            return f"it was built by {built_by} for that and later versions of the same major one, here is {here}"
    elif (_family(record.module), record.version) != (_family(module), version):
        return f"it was built by {built_by}, here is {here}"
    elif module == "tensorrt_lean":
        return f"it is not version-compatible, and the lean runtime ({here}) loads those only"
    if ahead_of_time:
        if gpu.compute_capability not in _RTX_GPUS and _numbers(gpu.compute_capability) < _RTX_SINCE:
            return (
                f"it was built for compute capability {', '.join(sorted(_RTX_GPUS))} and 12.0 and later, {gpu.name}"
                f" here has {gpu.compute_capability}"
            )
        return None
    if record.hardware_compatible:
        if _numbers(gpu.compute_capability) < (8, 0):
            return f"it was built for compute capability 8.0 and later, {gpu.name} here has {gpu.compute_capability}"
        return None
    if (record.gpu, record.compute_capability) != (gpu.name, gpu.compute_capability):
        return (
            f"it was built for {record.gpu} (compute capability {record.compute_capability}), here is {gpu.name}"
            f" ({gpu.compute_capability})"
        )
    return None


def this_platform() -> str:
    """Return operating system and machine as in `EngineRecord.platform`."""
    return f"{sys.platform}-{platform.machine()}".lower()


def _family(module: str) -> str:
    """Return the module that builds for a module: the lean runtime loads what the full one builds."""
    return "tensorrt" if module == "tensorrt_lean" else module


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _major(version: str) -> int:
    return _numbers(version)[0]
