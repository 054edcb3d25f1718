"""The process that builds one TensorRT engine: `python -m edgedenoise.exporting.tensorrt.child SPEC.json`.

A separate process, because the builder may take minutes, and its crash must not end the caller. One code path for the
modules `tensorrt` (8.5 to 11) and `tensorrt_rtx`; what only some versions have is looked for first.

The caller reads stdout: lines that begin with `PROGRESS` are progress, and the rest is the builder's log.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from edgedenoise.atomic import write_bytes
from edgedenoise.errors import OutputError
from edgedenoise.runtimes.base import INPUT_NAME

PROGRESS = "PROGRESS"
REFUSED = 3
"""Exit status when TensorRT refuses the graph or an option; the log says why."""

SINCE = {
    "IBuilderConfig.builder_optimization_level": "8.6",
    "BuilderFlag.VERSION_COMPATIBLE": "8.6",
    "IBuilderConfig.hardware_compatibility_level": "8.6",
    "HardwareCompatibilityLevel.AMPERE_PLUS": "8.6",
    "module.HardwareCompatibilityLevel": "8.6",
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED": "10.0",
    "module.IProgressMonitor": "10.0",
    "IBuilderConfig.progress_monitor": "10.0",
}
"""Names that are used although TensorRT 8.5 lacks them: their presence is checked first."""
UNTIL = {
    "BuilderFlag.FP16": "10",
    "BuilderFlag.INT8": "10",
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH": "10",
}
"""What is used although the newest major version does not have it: only on networks that are not strongly typed."""


class BuildSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Description of a build; paths are absolute."""

    module: str
    graph: str
    engine: str
    result: str
    strongly_typed: bool
    """Whether the graph's own types set the precision; otherwise `flags` name the types that the builder may use."""
    flags: list[str]
    """Members of `BuilderFlag`."""
    full_float32: bool = False
    """Whether float32 must mean float32: GPUs since Ampere would otherwise multiply in TF32 (ten bits of mantissa)."""
    sides_px: list[int]
    """One side for a static input, or the least, best and most."""
    timing_cache: str | None = None
    workspace_mb: int | None = None
    optimization_level: int | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False


class BuildResult(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a build."""

    version: str
    flags: list[str]
    build_s: float


class RefusedError(Exception):
    """TensorRT refuses to build the engine; the message goes into the log."""


def build(spec: BuildSpec) -> BuildResult:
    """Build one engine and write it.

    Raises:
        RefusedError: the parser or the builder refuses the graph, or an option is not of this version.
    """
    start = time.monotonic()
    trt = importlib.import_module(spec.module)
    logger = trt.Logger(trt.Logger.INFO)
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt, spec))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(spec.graph):
        raise RefusedError(
            "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors)) or "the parser reports no reason"
        )
    config = builder.create_builder_config()
    flags = _configure(trt, config, spec)
    _set_shapes(builder, network, config, spec.sides_px)
    cache = _timing_cache(config, spec.timing_cache)
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise RefusedError("the builder returned no engine; its messages are above")
    write_bytes(Path(spec.engine), bytes(serialized))
    if cache is not None and spec.timing_cache is not None:
        with suppress(OutputError):  # without it the next build takes longer
            write_bytes(Path(spec.timing_cache), bytes(cache.serialize()))
    return BuildResult(version=trt.__version__, flags=flags, build_s=time.monotonic() - start)


def _network_flags(trt: Any, spec: BuildSpec) -> int:
    kinds = trt.NetworkDefinitionCreationFlag
    if spec.strongly_typed:
        return 1 << int(kinds.STRONGLY_TYPED)  # bit 1 in version 10, bit 0 in 11
    # Without a batch dimension of its own: an option up to 9, the only way since, and then not a flag in 11 any more.
    return 1 << int(kinds.EXPLICIT_BATCH) if hasattr(kinds, "EXPLICIT_BATCH") else 0


def _configure(trt: Any, config: Any, spec: BuildSpec) -> list[str]:
    """Set the options of a build, and return the names of those that were set."""
    names = [*spec.flags, *(["VERSION_COMPATIBLE"] if spec.version_compatible else [])]
    for name in names:
        flag = getattr(trt.BuilderFlag, name, None)
        if flag is None:
            raise RefusedError(f"{spec.module} {trt.__version__} has no builder flag {name}")
        config.set_flag(flag)
    if spec.full_float32:
        config.clear_flag(trt.BuilderFlag.TF32)
        names.append("no TF32")
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # so that the inspector reports precisions
    if spec.workspace_mb is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, spec.workspace_mb << 20)
    if spec.optimization_level is not None:
        if not hasattr(config, "builder_optimization_level"):
            raise RefusedError(f"{spec.module} {trt.__version__} has no optimization levels; they came with 8.6")
        config.builder_optimization_level = spec.optimization_level
        names.append(f"optimization_level={spec.optimization_level}")
    if spec.hardware_compatible:
        if not hasattr(config, "hardware_compatibility_level"):
            raise RefusedError(
                f"{spec.module} {trt.__version__} has no hardware-compatible engines; they came with 8.6"
            )
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
        names.append("AMPERE_PLUS")
    if hasattr(trt, "IProgressMonitor"):
        config.progress_monitor = _monitor(trt)
    return [*names, *(["STRONGLY_TYPED"] if spec.strongly_typed else [])]


def _set_shapes(builder: Any, network: Any, config: Any, sides_px: list[int]) -> None:
    """Fix the input to one square, or add a profile of three sizes; the graph sets the number of channels."""
    image = network.get_input(0)
    channels = int(image.shape[1])
    if len(sides_px) == 1:
        image.shape = (1, channels, sides_px[0], sides_px[0])
        return
    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT_NAME, *((1, channels, side, side) for side in sides_px))
    config.add_optimization_profile(profile)


def _timing_cache(config: Any, path: str | None) -> Any:
    """Load the times that earlier builds measured; None where the builder measures none (TensorRT-RTX)."""
    if path is None or not hasattr(config, "create_timing_cache"):
        return None
    known = Path(path)
    cache = config.create_timing_cache(known.read_bytes() if known.is_file() else b"")
    if cache is not None:
        config.set_timing_cache(cache, ignore_mismatch=True)
    return cache


def _monitor(trt: Any) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Reports the progress of the outermost phase, and of the current phase within it, to the parent process.

        Phases are nested, so one bar per phase would jump back and forth.
        """

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}
            self.outermost, self.done = "", 0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.steps[phase_name] = max(num_steps, 1)
            if parent_phase is None:
                self.outermost, self.done = phase_name, 0
            self.report(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name == self.outermost:
                # Only its end is the end.
                self.done = min(step + 1, self.steps[phase_name] - 1)
            self.report(phase_name, step + 1)
            return True

        def phase_finish(self, phase_name: str) -> None:
            if phase_name == self.outermost:
                self.done = self.steps[phase_name]
            self.report(phase_name, self.steps.get(phase_name, 1))

        def report(self, phase: str, step: int) -> None:
            within = "" if phase == self.outermost else f"{phase} {step}/{self.steps.get(phase, step)}"
            sys.stdout.write(f"{PROGRESS} {self.done} {self.steps.get(self.outermost, 1)} {within}\n")
            sys.stdout.flush()

    return Monitor()


def main(arguments: list[str]) -> int:
    """Build what the JSON file describes; return 0, or `REFUSED` after printing the reasons."""
    spec = msgspec.json.decode(Path(arguments[0]).read_bytes(), type=BuildSpec)
    try:
        result = build(spec)
    except RefusedError as refused:
        sys.stdout.write(f"refused: {refused}\n")
        return REFUSED
    write_bytes(Path(spec.result), msgspec.json.encode(result))
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)  # some versions crash while Python takes its objects apart, with the engine written and sound
