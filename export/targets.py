"""Every target in one table: what runs it, what builds for it, and which device class of integers it belongs to.

Third parties add targets through the entry-point group `edgedenoise.runtimes`: each entry point names a `Target`.
"""

from __future__ import annotations

import importlib
import logging
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, cast

from edgedenoise.calibration.schemes import ANY_CPU, schemes_for
from edgedenoise.errors import RuntimeUnavailableError, UsageError
from edgedenoise.extras import missing_package
from edgedenoise.runtimes.base import CheckedSession, SessionOptions
from edgedenoise.runtimes.selftest import prove_on_first_use

if TYPE_CHECKING:
    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.bundles.manifest import Precision, Variant
    from edgedenoise.runtimes.base import Runtime


@dataclass(frozen=True)
class Target:
    """One place where a network can run."""

    name: str
    """What `--target` and `--runtime` accept."""
    extra: str | None
    """Extra of the package that installs what the target needs; None when the base install has it."""
    runtime: str | None
    """`module:Class` of the `Runtime`; None when this version cannot run it."""
    builder: str | None
    """`module:function` of the builder; None when the target opens the ONNX graphs as they are."""
    device_class: str
    """Which integers it is given: a name of `edgedenoise.calibration.schemes.DEVICE_CLASSES`."""
    runs_on: str
    """For people: which devices this is for."""
    precisions: tuple[Precision, ...] = ()
    """What the builder can make."""
    default_precisions: tuple[Precision, ...] = ()
    """What it makes when nothing is asked for."""
    built_where_it_runs: bool = False
    """Whether files are bound to the machine that builds them, so that one which is refused there is a failure."""
    emulator: str | None = None
    """`module:function`, (bundle, variant) -> `Session`: computes a variant's numbers where nothing runs it."""
    emulation: str = ""
    """For people: what those numbers are of."""

    @property
    def scheme(self) -> str:
        """Name of the integer encoding that it is given by default."""
        return schemes_for(self.device_class)[0].name


_ENGINE_NOT_READ = "of the graph that the engine was built from; the engine itself was not read"

TARGETS = (
    Target(
        "onnxruntime",
        None,
        "edgedenoise.runtimes.onnxruntime.backend:OnnxRuntime",
        None,
        ANY_CPU,
        "any CPU; NVIDIA GPUs",
    ),
    Target(
        "openvino",
        "openvino",
        "edgedenoise.runtimes.openvino.backend:OpenVino",
        "edgedenoise.exporting.openvino.builder:build",
        "openvino",
        "x86 and ARM CPUs; Intel GPUs and NPUs",
        ("fp32", "fp16", "int8"),
        ("fp32", "int8"),
    ),
    Target(
        "tensorrt",
        "tensorrt",
        "edgedenoise.runtimes.tensorrt.backend:TensorRT",
        "edgedenoise.exporting.tensorrt.builder:build",
        "tensorrt",
        "NVIDIA Jetson and GPUs",
        ("fp32", "fp16", "int8"),
        ("fp16", "int8"),
        built_where_it_runs=True,
        emulator="edgedenoise.exporting.tensorrt.builder:emulate",
        emulation=_ENGINE_NOT_READ,
    ),
    Target(
        "tensorrt-rtx",
        "tensorrt-rtx",
        "edgedenoise.runtimes.tensorrt.backend:TensorRTRTX",
        "edgedenoise.exporting.tensorrt.builder:build_rtx",
        "tensorrt",
        "NVIDIA RTX GPUs",
        ("fp32", "fp16", "int8"),
        ("fp16", "int8"),
        emulator="edgedenoise.exporting.tensorrt.builder:emulate",
        emulation=_ENGINE_NOT_READ,
    ),
    Target(
        "coreml",
        "coreml",
        "edgedenoise.runtimes.coreml.backend:CoreML",
        "edgedenoise.exporting.coreml.builder:build",
        "coreml",
        "iPhone, iPad and Mac",
        ("fp32", "fp16", "w8a16", "int8"),
        ("fp16", "int8"),
        emulator="edgedenoise.exporting.coreml.emulation:emulate",
        emulation="of the saved program, interpreted",
    ),
)

_log = logging.getLogger(__name__)
_ENTRY_POINTS = "edgedenoise.runtimes"


def all_targets() -> tuple[Target, ...]:
    """Return the built-in targets and those of installed third parties.

    Raises:
        UsageError: an entry point does not name a `Target`, or takes a name that is taken.
    """
    found = list(TARGETS)
    for entry in entry_points(group=_ENTRY_POINTS):
        target = entry.load()
        if not isinstance(target, Target) or target.name in {t.name for t in found}:
            raise UsageError(
                f"the entry point {entry.name} ({entry.value}) in {_ENTRY_POINTS} must name an"
                " edgedenoise.exporting.targets.Target whose name is not taken"
            )
        found.append(target)
    return tuple(found)


def target_named(name: str) -> Target:
    """Return a target by name.

    Raises:
        UsageError: there is none of that name.
    """
    targets = all_targets()
    for target in targets:
        if target.name == name:
            return target
    raise UsageError(f"there is no target {name!r}; accepted are {', '.join(t.name for t in targets)}")


def runtime_of(target: Target) -> Runtime:
    """Return the runtime of a target.

    Raises:
        RuntimeUnavailableError: this version of edgedenoise cannot run the target.
    """
    if target.runtime is None:
        usable = ", ".join(t.name for t in all_targets() if t.runtime is not None)
        raise RuntimeUnavailableError(
            f"{target.name} is not yet built into this version of edgedenoise; it runs {usable}"
        )
    return cast("Runtime", named(target.runtime)())


def named(where: str) -> Any:
    """Return what `module:name` names."""
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(module), name)


def emulated(bundle: Bundle, variant: Variant) -> CheckedSession | None:
    """Open what computes a variant's numbers on a machine that cannot run it; None where there is no such thing.

    Raises:
        EdgeDenoiseError: the emulator's package is missing, or the bundle has not what it needs.
    """
    emulator = target_named(variant.runtime).emulator
    if emulator is None:
        return None
    try:
        return CheckedSession(named(emulator)(bundle, variant), variant.shapes)
    except ModuleNotFoundError as error:
        raise (missing_package(error) or error) from None


def open_variant(
    bundle: Bundle,
    variant: Variant,
    *,
    device: str = "auto",
    options: SessionOptions | None = None,
    prove: bool = True,
) -> CheckedSession:
    """Open a variant of a bundle: files checked, session checked, and proved on first use.

    Args:
        bundle: an opened bundle.
        variant: one of its variants.
        device: `auto`, or a device of the runtime; an explicit device never falls back to another.
        options: threads, oracle, saturation.
        prove: whether to run the self-test where it has not been passed on this machine.

    Raises:
        BundleError: a file is damaged.
        RuntimeUnavailableError: the runtime is missing; the hint is the command that installs it.
        DeviceError: the device is missing or would not be used.
        ParityError: the self-test fails.
    """
    runtime = runtime_of(target_named(variant.runtime))
    path = bundle.variant_file(variant)
    session = CheckedSession(runtime.open(variant, path, device, options or SessionOptions()), variant.shapes)
    _log.info("opened %s: %s", variant.name, session.effective)
    try:
        if prove:
            prove_on_first_use(bundle, variant, session)
    except BaseException:
        session.close()
        raise
    return session
