"""What a backend is: one `Backend` class with everything known about it, and the `Session` that it opens.

A backend file holds only what is peculiar to that backend. The base class checks that the package is installed, that
the device exists and that the variant is supported, once for all backends; `checked.CheckedSession` checks every tile.
How to add a backend: docs/guides/add-a-backend.md.
"""

from __future__ import annotations

import importlib
import time
from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgedenoise.errors import (
    DeviceNotFoundError,
    ExportError,
    IncompatibleError,
    RuntimeUnavailableError,
    UsageError,
)
from edgedenoise.extras import is_installed, missing_package
from edgedenoise.runtimes.device_names import AUTO, matching_device
from edgedenoise.runtimes.machine import saturates_u8s8

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.bundles.manifest import Precision, Variant
    from edgedenoise.bundles.model_files import ModelFiles
    from edgedenoise.runtimes.bounds import SchemeBounds
    from edgedenoise.runtimes.fusion import Fusion
    from edgedenoise.runtimes.job import BuildJob

MAX_THREADS = 1024
"""Most threads that a session may be given; each takes memory, and backends start them all."""
INPUT_NAME = "image"
OUTPUT_NAME = "denoised"
CHANNELS = 3
"""Channels of the output. The input has as many, or one more: see `Manifest.input_channels`."""


@dataclass(frozen=True)
class Availability:
    """Whether a backend can be used on this machine, and if not, how to make it available."""

    available: bool
    version: str | None = None
    devices: tuple[str, ...] = ()
    """Names that `device=` accepts, the default first."""
    reason: str | None = None
    """Why the backend cannot be used, in one clause; None when it is available."""
    command: str | None = None
    """Command that installs what is missing; None when there is nothing to install."""


@dataclass(frozen=True)
class EffectiveDevice:
    """What really runs, as the backend reports it after a file was opened."""

    runtime: str
    version: str
    device: str
    detail: str = ""
    """What else decides the result or the speed: provider, kernels protected from saturation, precision."""

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.runtime} {self.version}, {self.device}{detail}"


@dataclass(frozen=True)
class TensorInfo:
    """One input or output of an opened model."""

    name: str
    dtype: str
    """NumPy name of the element type."""
    shape: tuple[int | None, ...]
    """Size of each dimension; None where any size is accepted."""


@dataclass(frozen=True)
class SessionOptions:
    """How a session is opened."""

    threads: int | None = None
    """Threads within one inference; None for the backend's own choice."""
    fused: bool = True
    """False runs the graph node by node in float: for QDQ graphs the *reference execution* (unfused W8A8)."""
    protect_saturation: bool = True
    """Refuse, or run by slower exact kernels, what would saturate on x86 CPUs without VNNI."""
    trust_engine: bool = False
    """Load files whose code runs on the host although another machine built them; see `Backend.untrusted_reason`."""

    def __post_init__(self) -> None:
        # Not a number is refused as well: it would fail deep in a backend.
        if self.threads is not None and (type(self.threads) is not int or not 1 <= self.threads <= MAX_THREADS):
            raise UsageError(
                f"threads is {self.threads!r}; expected 1 to {MAX_THREADS}, or None for the backend's own choice"
            )


DEFAULT_OPTIONS = SessionOptions()
TRUST_HINT = "If you trust whoever built it: --trust-engine (in Python trust_engine=True)."


class Session:
    """An opened model. A backend implements one of `run` and `stream`; the other follows from it."""

    effective: EffectiveDevice
    """What really runs."""
    inputs: tuple[TensorInfo, ...] = (TensorInfo(INPUT_NAME, "float32", (1, CHANNELS, None, None)),)
    """Inputs of the opened model."""
    outputs: tuple[TensorInfo, ...] = (TensorInfo(OUTPUT_NAME, "float32", (1, CHANNELS, None, None)),)
    """Outputs of the opened model."""
    thread_safe: ClassVar[bool] = False
    """Whether several threads may run this session at once; if not, `CheckedSession` makes them wait."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.run is Session.run and cls.stream is Session.stream:
            raise TypeError(f"{cls.__name__} implements neither run nor stream; a Session must implement one of them")

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one array.

        Args:
            x: (1, 3, h, w) float32; (1, 4, h, w) for a network that takes the noise level.

        Returns:
            (1, 3, h, w) float32, not shared with the session.
        """
        return next(iter(self.stream([x])))

    def stream(self, tiles: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Run arrays in order and yield the answers in the same order.

        A backend that overlaps copies and computation implements this method.
        """
        return map(self.run, tiles)

    def timed_run(self, x: NDArray[np.float32]) -> tuple[float, NDArray[np.float32]]:
        """Run one array; return the seconds of the inference and the answer.

        A backend that copies the answer out of a buffer of its own leaves this copy out of the time.
        """
        start = time.perf_counter()
        answer = self.run(x)
        return time.perf_counter() - start, answer

    def close(self) -> None:
        """Release memory and devices; called once."""


class Backend(ABC):
    """Everything known about one backend. Stateless: the registry keeps one instance of each class."""

    name: ClassVar[str]
    """What `--runtime` and `--target` accept; also the name of the entry point of a third-party backend."""
    label: ClassVar[str]
    """Product name, for messages."""
    runs_on: ClassVar[str]
    """Devices that the backend is for, in words."""
    extra: ClassVar[str | None] = None
    """Extra of edgedenoise that installs what the backend needs; None when the base install has it."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Import names of the packages that the extra installs for this backend."""
    install_note: ClassVar[str | None] = None
    """Remark that follows the install command, as a comment of the shell."""
    guide: ClassVar[str | None] = None
    """Page of the documentation to read when the backend cannot run here and nothing can be installed."""
    suffixes: ClassVar[tuple[str, ...]] = ()
    """Suffixes, in lower case, of model files that can be loaded without their bundle."""
    is_cpu: ClassVar[bool] = False
    """Whether it runs on any CPU; `auto` prefers backends that were built for an accelerator."""
    rank: ClassVar[int] = 0
    """Order among backends of one kind: `auto` prefers the lower one."""
    precisions: ClassVar[tuple[Precision, ...]] = ()
    """Precisions that `build` can make; empty for a backend that opens the ONNX graphs as they are."""
    default_precisions: ClassVar[tuple[Precision, ...]] = ()
    """Precisions that are built unless one is named."""
    schemes: ClassVar[tuple[str, ...]] = ()
    """Names of the integer encodings that it runs (see `edgedenoise.calibration.schemes`), the default first."""
    built_where_it_runs: ClassVar[bool] = False
    """Whether files are bound to the machine that builds them: a file that is refused there is a failed build."""
    opens_onnx: ClassVar[bool] = False
    """Whether `open` also opens plain ONNX files, so that a graph can be searched layer by layer."""
    runs_unfused: ClassVar[bool] = False
    """Whether `SessionOptions.fused=False` is supported."""
    builder: ClassVar[str | None] = None
    """`module:function` that `build` calls, (BuildJob) -> Variant; imported only then."""
    emulator: ClassVar[str | None] = None
    """`module:function` that `emulate` calls, (Bundle, Variant) -> Session; imported only then."""
    emulation: ClassVar[str] = ""
    """What the emulator's numbers are those of, in words."""
    error_bounds: ClassVar[Mapping[str, SchemeBounds]] = {}
    """Scheme -> accepted distance to the reference execution; schemes that are not named are not judged."""

    @abstractmethod
    def probe(self) -> Availability:
        """Check whether the backend can be used on this machine. Cheap, never raises."""

    @abstractmethod
    def open_session(self, variant: Variant, model: ModelFiles, device: str, options: SessionOptions) -> Session:
        """Open a model; called by `open`, which has checked everything that can be checked without the file.

        Args:
            variant: what the file is.
            model: its checked files. Read nothing else: a file on disk may have been replaced after the check.
            device: one of the probed names.
            options: threads, fusion, saturation.

        Raises:
            DeviceFallbackError: the backend would use another device.
            DeviceMemoryError: the model does not fit into memory.
            InferenceError: the file cannot be opened.
        """

    @property
    def install_command(self) -> str | None:
        """Command that installs what the backend needs."""
        if self.extra is None:
            return None
        command = f'pip install "edgedenoise[{self.extra}]"'
        return command if self.install_note is None else f"{command}  # {self.install_note}"

    def saturates(self, variant: Variant) -> bool:
        """Return whether products of a variant's 8-bit pairs would saturate in this backend's kernels for the CPU."""
        return has_8_bit_pairs(variant) and saturates_u8s8()

    def unsupported_reason(
        self,
        variant: Variant,  # noqa: ARG002
        *,
        device: str = AUTO,  # noqa: ARG002
        model: ModelFiles | None = None,  # noqa: ARG002
    ) -> str | None:
        """Return the reason why this machine cannot run a variant correctly, or None.

        Args:
            variant: what would be run.
            device: where; `auto` for the device that `open` would choose.
            model: the variant's files, for backends whose files are bound to the machine that built them.
        """
        return None

    def untrusted_reason(self, variant: Variant, model: ModelFiles) -> str | None:  # noqa: ARG002
        """Return why opening a variant's files would run code of a stranger on this machine, or None.

        The files alone decide: what a bundle says about itself is not evidence.
        """
        return None

    def unsupported_hint(self, variant: Variant, model: ModelFiles) -> str | None:  # noqa: ARG002
        """Return what to do about an unsupported variant, with the exact command, or None."""
        return None

    def int8_is_faster(self, variant: Variant, device: str = AUTO) -> bool:  # noqa: ARG002
        """Return whether an INT8 variant is known to be faster than float on this machine; nothing is timed."""
        return True

    def auto_device(self, variant: Variant, model: ModelFiles, devices: tuple[str, ...]) -> str:  # noqa: ARG002
        """Return the device that `auto` stands for; `devices` are the probed ones."""
        return devices[0]

    def metadata(self, model: ModelFiles) -> str | None:  # noqa: ARG002
        """Return the JSON text embedded in a lone model file, or None; see `BuildJob.metadata`."""
        return None

    def fusion(self, variant: Variant, model: ModelFiles) -> Fusion | None:  # noqa: ARG002
        """Return counts over the graph as the backend runs it, or None where they are unknown.

        Raises:
            InferenceError: the file cannot be opened.
        """
        return None

    def can_build(self) -> bool:
        """Return whether `build` can be used in this installation. Cheap, never raises."""
        if not self.precisions or (self.built_where_it_runs and not self.probe().available):
            return False
        return all(is_installed(package) for package in self.packages)

    def build(self, job: BuildJob) -> Variant:
        """Build a variant from an ONNX graph.

        Args:
            job: what is built, from what, and where its files go.

        Returns:
            The new variant; its files are in `job.root`.

        Raises:
            RuntimeUnavailableError: a package is missing, or this version cannot build for the backend.
            ExportError: the backend does not accept the graph.
            UsageError: an option or a shape is not accepted.
        """
        if self.builder is None:
            raise ExportError(f"edgedenoise cannot build for {self.name}: the backend has no builder")
        with self.naming_packages():
            variant: Variant = _resolved(self.builder)(job)
        return variant

    def emulate(self, bundle: Bundle, variant: Variant) -> Session | None:
        """Open what computes a variant's numbers on a machine that cannot run it; None where nothing does.

        Raises:
            RuntimeUnavailableError: a package is missing.
            IncompatibleError: the bundle lacks what the emulation needs.
        """
        if self.emulator is None:
            return None
        with self.naming_packages():
            session: Session = _resolved(self.emulator)(bundle, variant)
        return session

    def open(
        self, variant: Variant, model: ModelFiles, device: str = AUTO, options: SessionOptions = DEFAULT_OPTIONS
    ) -> Session:
        """Open a model on a device.

        Args:
            variant: what the file is.
            model: its checked files.
            device: `auto` or one of the probed names, in upper or lower case; a named device never falls back.
            options: threads, fusion, saturation.

        Raises:
            RuntimeUnavailableError: the backend's package is missing.
            DeviceNotFoundError: this machine does not have the device.
            IncompatibleError: this machine cannot run the variant correctly, or the file is not trusted.
            UsageError: the backend cannot run unfused.
            DeviceFallbackError, DeviceMemoryError, InferenceError: see `open_session`.
        """
        found = self.require()
        if not options.fused and not self.runs_unfused:
            raise UsageError(
                f"{self.label} always fuses; the reference execution (unfused W8A8) runs on ONNX Runtime only",
                hint="Use --runtime onnxruntime",
            )
        is_auto = device.strip().lower() == AUTO
        name = self.auto_device(variant, model, found.devices) if is_auto else self.device_named(device, found)
        saturation_accepted = not options.protect_saturation and self.saturates(variant)
        reason = None if saturation_accepted else self.unsupported_reason(variant, device=name, model=model)
        if reason is not None:
            raise IncompatibleError(reason, hint=self.unsupported_hint(variant, model))
        untrusted = None if options.trust_engine else self.untrusted_reason(variant, model)
        if untrusted is not None:
            raise IncompatibleError(
                untrusted, hint=f"{TRUST_HINT} {self.unsupported_hint(variant, model) or ''}".rstrip()
            )
        with self.naming_packages():
            return self.open_session(variant, model, name, options)

    def require(self) -> Availability:
        """Check that the backend can be used here, and return what the probe found.

        Raises:
            RuntimeUnavailableError: it cannot; the hint is the command that installs what is missing.
        """
        found = self.probe()
        if found.available:
            return found
        hint = None if self.guide is None else f"See {self.guide} for what it needs"
        if found.command is not None:
            hint = f"Install it with: {found.command}"
        raise RuntimeUnavailableError(f"{self.label} cannot run here: {found.reason}", hint=hint)

    def device_named(self, device: str, found: Availability) -> str:
        """Return the probed name of a device; see `matching_device`.

        Raises:
            DeviceNotFoundError: this machine does not have it.
        """
        name = matching_device(device, found.devices)
        if name is None:
            raise DeviceNotFoundError(
                f"{self.label} {found.version} has no device {device!r} here; it has {', '.join(found.devices)}",
                hint=self.device_hint(device),
            )
        return name

    def device_hint(self, device: str) -> str | None:  # noqa: ARG002
        """Return what to do about a device that this machine does not have."""
        return "List the devices of this machine with: edgedenoise doctor"

    @contextmanager
    def naming_packages(self) -> Iterator[None]:
        """Translate a failed import of an optional package into the command that installs it.

        Raises:
            RuntimeUnavailableError: a package of this backend, or another optional one, is not installed.
        """
        try:
            yield
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in self.packages:
                raise (missing_package(error) or error) from None
            raise RuntimeUnavailableError(
                f"{self.label} needs the package {package}, which is not installed",
                hint=f"Install it with: {self.install_command}",
            ) from None


def has_8_bit_pairs(variant: Variant) -> bool:
    """Return whether a variant multiplies unsigned by signed integers of 8 bits, which saturates without VNNI."""
    encoding = variant.encoding
    return encoding is not None and encoding.weight_bits == 8 and encoding.activations == "u8"


def _resolved(where: str) -> Any:
    """Return what `module:name` names."""
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(module), name)
