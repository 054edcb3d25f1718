"""Build TensorRT engines from the bundle's ONNX graphs: on the device that runs them, or without a GPU for RTX GPUs.

Precision is set as each version requires: up to 10 by builder flags, from 11 on (and for TensorRT-RTX) by
the graph's own types, so that float16 comes from a converted graph. INT8 always comes from the QDQ graph.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import platformdirs

from edgedenoise.atomic import sha256_of, write_bytes
from edgedenoise.bundles.manifest import Variant
from edgedenoise.calibration.calibrate import float_graph
from edgedenoise.calibration.graphs import load_onnx
from edgedenoise.errors import ExportError, IncompatibleError, OutputError, RuntimeUnavailableError, UsageError
from edgedenoise.exporting.build_options import backend_options, input_shapes
from edgedenoise.exporting.fp16 import check_fp16, to_fp16
from edgedenoise.exporting.tensorrt.child import PROGRESS, REFUSED, BuildResult, BuildSpec
from edgedenoise.runtimes.base import SessionOptions
from edgedenoise.runtimes.onnxruntime.backend import OnnxRuntime
from edgedenoise.runtimes.tensorrt.backend import TensorRT, TensorRTRTX
from edgedenoise.runtimes.tensorrt.engine_record import EngineRecord, read_record, this_platform, write_record
from edgedenoise.runtimes.tensorrt.nvidia import gpus
from edgedenoise.runtimes.tensorrt.trust import host_code_mac
from edgedenoise.shell import command_line, quoted

if TYPE_CHECKING:
    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.progress import Progress
    from edgedenoise.runtimes.base import Session
    from edgedenoise.runtimes.job import BuildJob
    from edgedenoise.runtimes.tensorrt.nvidia import Gpu

_LOG_TAIL_LINES = 15
_ERROR = re.compile(r"\[TRT\] \[[EF]\]")
_STRONGLY_TYPED_SINCE = 11


class EngineOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of `compile --target tensorrt --option KEY=VALUE`."""

    version_compatible: bool = False
    """Whether later versions of the same major release, and the lean runtime, may run the engine (8.6 and later)."""
    hardware_compatible: bool = False
    """Whether all GPUs since Ampere may run it (8.6 and later)."""
    workspace_mb: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """GPU memory that the builder may use, in MiB; None for its own choice."""
    optimization_level: Annotated[int, msgspec.Meta(ge=0, le=5)] | None = None
    """0 builds fastest, 5 tries the most kernels (8.6 and later); None for its own choice."""
    timeout_s: Annotated[int, msgspec.Meta(ge=1)] = 1800
    """Time after which the builder's process is ended, in seconds."""


@dataclass(frozen=True)
class _Builder:
    """The module that builds, and the GPU that it builds for."""

    target: str
    module: str
    version: str
    gpu: Gpu | None
    strongly_typed: bool


def build(job: BuildJob) -> Variant:
    """Build an engine for this machine's GPU with its TensorRT.

    Args:
        job: what is compiled; int8 from the QDQ graph, fp16 and fp32 from the float graph.

    Returns:
        The new variant; its files are in `job.root`.

    Raises:
        RuntimeUnavailableError: there is no GPU or no TensorRT here; the hint is what to run on the device.
        ExportError: TensorRT refuses the graph, crashes or takes too long; its log's end is in the message.
        UsageError: an option or a shape is not accepted.
    """
    found = TensorRT().probe()
    if not found.available or found.version is None:
        raise RuntimeUnavailableError(
            "TensorRT engines are built on the device that runs them, and this machine cannot build one:"
            f" {found.reason}",
            hint=_on_the_device(job),
        )
    if TensorRT().module() != TensorRT.modules[0]:
        raise RuntimeUnavailableError(
            f"only {TensorRT().module()} is installed here, which runs engines but does not build them",
            hint='Install the builder with: pip install "edgedenoise[tensorrt]"',
        )
    typed = int(found.version.split(".")[0]) >= _STRONGLY_TYPED_SINCE
    return _build(job, _Builder("tensorrt", TensorRT.modules[0], found.version, gpus()[0], typed))


def build_rtx(job: BuildJob) -> Variant:
    """Build an engine with TensorRT-RTX for any GPU that it supports; no GPU is needed here.

    Args, returns and raises as `build`.
    """
    module = TensorRTRTX.modules[0]
    try:
        version = metadata.version(module)
    except metadata.PackageNotFoundError:
        raise RuntimeUnavailableError(
            f"the package {module} is not installed", hint='Install it with: pip install "edgedenoise[tensorrt-rtx]"'
        ) from None
    return _build(job, _Builder("tensorrt-rtx", module, version, None, strongly_typed=True))


def emulate(bundle: Bundle, variant: Variant) -> Session:
    """Open the graph that an engine was built from, in the engine's precision, on ONNX Runtime.

    This checks the graph that TensorRT was given, not its kernels, which can only be tested on the device.

    Raises:
        IncompatibleError: no graph of the bundle is the one that the engine was built from.
        IntegrityError: the engine's record is missing.
    """
    record = read_record(bundle.model_files(variant))
    graphs = (v for v in bundle.manifest.variants if v.runtime == OnnxRuntime.name)
    source = next((v for v in graphs if bundle.manifest.files[v.path].sha256 == record.graph_sha256), None)
    if source is None:
        raise IncompatibleError(
            f"{variant.name} was built from a graph whose SHA-256 begins {record.graph_sha256[:12]};"
            f" {bundle.source} does not have this graph any more",
            hint=f"Build it again: {command_line('compile', bundle.source, '--target', variant.runtime)}",
        )
    model, runtime = bundle.model_files(source), OnnxRuntime()
    if variant.precision == "fp16":
        half = to_fp16(load_onnx(model.onnx_data, str(model.path))).SerializeToString()
        return runtime.open(source, replace(model, contents={model.name: half}), "cpu", SessionOptions())
    return runtime.open(source, model, "cpu", SessionOptions(fused=variant.precision != "int8"))


def _build(job: BuildJob, by: _Builder) -> Variant:
    shapes = input_shapes(job.options, job.bundle.manifest.tiling)
    if shapes.kind == "enumerated":
        raise UsageError(
            f"{by.target} has no enumerated shapes: expected one side or a range, got {shapes.sides_px}",
            hint="Give one side, such as --tile 512, or a range, such as --tile-range 128:512:1024.",
        )
    options = _options(job, by)
    sm = "any" if by.gpu is None else "sm" + by.gpu.compute_capability.replace(".", "")
    name = f"{by.target}-{job.precision}-{sm}-{re.sub(r'[^0-9A-Za-z.]', '.', by.version)}"
    variant = Variant(
        name,
        by.target,
        job.precision,
        f"{name}/engine.plan",
        job.source.encoding,
        job.source.fidelity_db,
        shapes,
        job.source.loss,
    )
    engine = job.new_folder(variant) / "engine.plan"
    with tempfile.TemporaryDirectory() as scratch:
        graph = _typed_graph(job, by, Path(scratch))
        spec = BuildSpec(
            module=by.module,
            graph=str(graph.resolve()),
            engine=str(engine.resolve()),
            result=str(Path(scratch) / "result.json"),
            strongly_typed=by.strongly_typed,
            flags=_precision_flags(job, by),
            full_float32=job.precision == "fp32",
            sides_px=shapes.sides_px,
            timing_cache=_timing_cache_file(by),
            workspace_mb=options.workspace_mb,
            optimization_level=options.optimization_level,
            version_compatible=options.version_compatible,
            hardware_compatible=options.hardware_compatible,
        )
        result = run_builder(spec, Path(scratch), engine.parent / "build.log", options.timeout_s, job.progress)
    write_record(
        engine,
        EngineRecord(
            module=by.module,
            version=by.version,  # as the loading module reports it
            gpu=None if by.gpu is None else by.gpu.name,
            compute_capability=None if by.gpu is None else by.gpu.compute_capability,
            driver=None if by.gpu is None else by.gpu.driver,
            platform=this_platform(),
            graph_sha256=sha256_of(job.graph),
            precision=job.precision,
            between=_between(job, by),
            flags=result.flags,
            shapes=shapes,
            build_s=round(result.build_s, 2),
            version_compatible=options.version_compatible,
            hardware_compatible=options.hardware_compatible,
            input_channels=job.bundle.manifest.input_channels,
            notes=["built from the float graph, converted to float16"] if graph != job.graph else [],
            host_code_mac=host_code_mac(engine.read_bytes()) if options.version_compatible else "",
        ),
    )
    return variant


def _options(job: BuildJob, by: _Builder) -> EngineOptions:
    options = backend_options(EngineOptions, job.options, by.target)
    for name in ("version_compatible", "hardware_compatible"):
        # RTX's builder ignores one of them with a warning, and needs a library for the other that it does not include.
        if by.module == TensorRTRTX.modules[0] and getattr(options, name):
            raise UsageError(
                f"{by.target} has no option {name}: its engines run on several kinds of GPU, and only with the version"
                " that built them"
            )
    return options


def _typed_graph(job: BuildJob, by: _Builder, scratch: Path) -> Path:
    """Return the graph for the builder: the bundle's own, or the float graph converted to float16.

    All values that may be computed in float16, between integers too, must fit.
    """
    if job.precision != "fp16" and "FP16" not in _precision_flags(job, by):
        return job.graph
    import onnx

    model = load_onnx(float_graph(job.bundle))
    check_fp16(job.bundle, model)
    if not by.strongly_typed:
        return job.graph  # a builder flag selects float16
    half = scratch / "fp16.onnx"
    onnx.save(to_fp16(model), half)
    return half


def _precision_flags(job: BuildJob, by: _Builder) -> list[str]:
    if by.strongly_typed or job.precision == "fp32":
        return []
    return ["FP16"] if job.precision == "fp16" else ["INT8", "FP16"]


def _between(job: BuildJob, by: _Builder) -> str:
    if job.precision == "int8":
        if by.strongly_typed:
            return "float32 (a strongly typed network computes in the types of its graph, and the QDQ graph is float32)"
        return "float16 or float32, whichever the builder timed as faster"
    return "float16" if job.precision == "fp16" else "float32"


def _timing_cache_file(by: _Builder) -> str | None:
    if by.gpu is None:
        return None  # kernels are timed on a GPU only
    name = re.sub(r"[^0-9A-Za-z.]+", "-", f"{by.module}-{by.version}-{by.gpu.name}")
    return str(_cache() / f"{name}.timing")


def run_builder(spec: BuildSpec, scratch: Path, log: Path, timeout_s: int, progress: Progress) -> BuildResult:
    """Run the builder's process, report its progress, and keep its log.

    Raises:
        ExportError: the builder refused the graph, crashed or took too long; the message has the end of its log.
    """
    spec_file = scratch / "spec.json"
    spec_file.write_bytes(msgspec.json.encode(spec))
    # Not in the user's folder: Python would import a folder called tensorrt or onnx in it as the package.
    command = [sys.executable, "-m", "edgedenoise.exporting.tensorrt.child", str(spec_file)]
    lines: list[str] = []
    timed_out = threading.Event()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", cwd=scratch
    ) as process:

        def end() -> None:
            timed_out.set()
            process.kill()

        timer = threading.Timer(timeout_s, end)
        timer.start()
        try:
            for line in process.stdout or ():
                if line.startswith(PROGRESS):
                    done, total, *within = line.split(maxsplit=3)[1:]
                    progress("engine", int(done), int(total), "".join(within).strip())
                else:
                    lines.append(line.rstrip())
        except BaseException:
            process.kill()
            raise
        finally:
            timer.cancel()
    text = "\n".join(lines) + "\n"
    if process.returncode == 0:
        log.write_text(text, encoding="utf-8")
        return msgspec.json.decode(Path(spec.result).read_bytes(), type=BuildResult)
    if timed_out.is_set():
        ended = f"took longer than {timeout_s} s and was ended (use --option timeout_s={2 * timeout_s} to allow more)"
    elif process.returncode < 0:
        ended = f"crashed with signal {-process.returncode}"
    elif process.returncode == REFUSED:
        ended = "refused the graph"
    else:
        ended = "could not be used"
    kept = _cache() / f"{log.parent.name}.log"  # the folder of a failed build is removed
    with suppress(OutputError):
        write_bytes(kept, text.encode())
    raise ExportError(f"{spec.module} {ended}; its log is {kept}, and ends:\n  {_tail(lines)}")


def _cache() -> Path:
    return platformdirs.user_cache_path("edgedenoise") / "tensorrt"


def _tail(lines: list[str]) -> str:
    """Return the end of a log, and the errors before it."""
    end = max(len(lines) - _LOG_TAIL_LINES, 0)
    errors = [line for line in lines[:end] if _ERROR.search(line)]
    return "\n  ".join([*errors[:_LOG_TAIL_LINES], *lines[end:]]) or "(nothing)"


def _on_the_device(job: BuildJob) -> str:
    """Return the commands that build the same engine on the device where it will run."""
    bundle = job.bundle.source.name
    options = ["--precision", job.precision]
    for key, value in job.options.more.items():
        options += ["--option", f"{key}={value}"]
    if job.options.tile_range is not None:
        options += ["--tile-range", ":".join(map(str, job.options.tile_range))]
    elif job.options.tile is not None:
        options += ["--tile", str(job.options.tile)]
    return "\n".join(
        (
            "Copy the bundle to the Jetson or the PC with the GPU, and build there (docs/guides/jetson.md):",
            f"  {quoted('scp', '-r', job.bundle.source, f'DEVICE:{bundle}')}",
            f"  {command_line('compile', bundle, '--target', TensorRT.name, *options)}",
            "For a PC with an RTX GPU, build on this machine:",
            f"  {command_line('compile', job.bundle.source, '--target', TensorRTRTX.name, *options)}",
        )
    )
