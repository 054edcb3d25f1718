"""Choose the variant of a bundle that fits this machine best, from what is known: nothing is timed."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from edgedenoise.bundles.manifest import Precision
from edgedenoise.errors import DeviceNotFoundError, IncompatibleError, UsageError
from edgedenoise.runtimes.device_names import AUTO, matching_device
from edgedenoise.runtimes.registry import registry
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.bundles.manifest import Variant

_log = logging.getLogger(__name__)

AUTO_INT8_FIDELITY_DB = 40.0
"""Least PSNR to float on the self-test of an INT8 variant that `precision="auto"` takes where no loss was measured.

Below, the difference shows. A network trained with quantization is exempt: its INT8 output is no rounded float output,
and no worse."""

_CPU_ORDER: tuple[Precision, ...] = ("int8", "fp32", "fp16", "w8a16")
"""Preference on a CPU: half precision is computed as float32 there, or slower, and only saves size."""
_ACCELERATOR_ORDER: tuple[Precision, ...] = ("int8", "fp16", "w8a16", "fp32")


@dataclass(frozen=True)
class PassedOver:
    """A variant that was not chosen."""

    variant: str
    precision: str
    reason: str


@dataclass(frozen=True)
class Choice:
    """The variant that fits a request best, and the others that the request allows."""

    variant: Variant
    passed_over: tuple[PassedOver, ...] = ()
    """In the order of the bundle. Variants of a precision that was not asked for are not among them."""

    def __str__(self) -> str:
        others = "; ".join(f"{one.variant}: {one.reason}" for one in self.passed_over)
        return f"chose {self.variant.name}" + (f"; passed over {others}" if others else "")

    @property
    def int8_passed_over(self) -> tuple[PassedOver, ...]:
        """INT8 variants that a float variant was preferred to; empty where INT8 was chosen."""
        if self.variant.precision == "int8":
            return ()
        return tuple(one for one in self.passed_over if one.precision == "int8")


class _Candidates:
    """The variants that are left, and why the others were passed over."""

    def __init__(self, bundle: Bundle, variants: list[Variant]) -> None:
        self.left = variants
        self._order = [variant.name for variant in bundle.manifest.variants]
        self._passed: dict[str, PassedOver] = {}

    def drop(self, reason_of: Callable[[Variant], str | None], *, keep_last: bool) -> None:
        """Pass over the variants that have a reason; with `keep_last`, none where all of them have one."""
        reasons = {variant.name: reason_of(variant) for variant in self.left}
        kept = [variant for variant in self.left if not reasons[variant.name]]
        if keep_last and not kept:
            return
        for variant in self.left:
            reason = reasons[variant.name]
            if reason:
                self._passed[variant.name] = PassedOver(variant.name, variant.precision, reason)
        self.left = kept

    def best(self, key: Callable[[Variant], Any]) -> Choice:
        """Return the first of the variants that are left; the others rank behind it."""
        chosen = min(self.left, key=key)
        reason = f"{chosen.name} is preferred on this device"
        for variant in self.left:
            if variant.name != chosen.name:
                self._passed[variant.name] = PassedOver(variant.name, variant.precision, reason)
        return Choice(chosen, tuple(self._passed[name] for name in self._order if name in self._passed))


def choose(
    bundle: Bundle,
    runtime: str = AUTO,
    precision: Precision | Literal["auto"] = "auto",
    device: str = AUTO,
    *,
    trust_engine: bool = False,
) -> Choice:
    """Return the variant that fits a request best, and why the others were passed over.

    Args:
        bundle: an opened bundle.
        runtime: `auto`, or the name of a backend.
        precision: `auto`, or a precision; `auto` takes INT8 where it loses little against float and is known to be
            faster.
        device: `auto`, or a device of a backend.
        trust_engine: whether to take files whose code runs on the host although another machine built them.

    Raises:
        UsageError: there is no such backend or precision.
        DeviceNotFoundError: no backend of the bundle has the device.
        IncompatibleError: the bundle has no variant that fits; the message lists its variants.
    """
    if precision not in ("auto", *get_args(Precision)):
        raise UsageError(
            f"there is no precision {precision!r}; expected auto, {', '.join(get_args(Precision))}",
            hint=f"To see the precisions of the bundle: {command_line('inspect', bundle.source)}",
        )
    if runtime != AUTO:
        registry[runtime]  # an unknown name is reported as such
    variants = bundle.manifest.variants
    fitting = _Candidates(bundle, [v for v in variants if precision in ("auto", v.precision)])
    fitting.drop(lambda variant: _of_another_runtime(bundle, variant, runtime), keep_last=False)
    if runtime == AUTO:
        _check_device(bundle, fitting.left, device)
        fitting.drop(lambda variant: _unavailable(variant, device), keep_last=False)
    # A backend that was named is opened even so, which reports why it cannot run the variant.
    fitting.drop(
        lambda variant: _unsupported(bundle, variant, device, trust_engine=trust_engine), keep_last=runtime != AUTO
    )
    if precision == "auto":
        fitting.drop(lambda variant: _loss(bundle, variant), keep_last=True)
        fitting.drop(lambda variant: _slow(variant, device), keep_last=True)
    if not fitting.left:
        have = (
            ", ".join(f"{v.name} ({v.runtime}, {v.precision})" for v in variants) or "none that this version can read"
        )
        raise IncompatibleError(
            f"{bundle.source} has no variant for runtime {runtime}, precision {precision} and device {device} that can"
            f" run here; it has {have}",
            hint=_hint(bundle, runtime, precision),
        )
    choice = fitting.best(lambda variant: _order(variant, device))
    _log.info("%s", choice)
    return choice


def _hint(bundle: Bundle, runtime: str, precision: str) -> str:
    """Return the command that adds a fitting variant, on a copy where the bundle cannot be changed."""
    from edgedenoise.bundles.writer import editable_copy, lone_file_hint  # needed after an error only

    if bundle.is_lone_file:
        return lone_file_hint(bundle)
    if runtime != AUTO and registry[runtime].precisions:
        step = ["compile", "--target", runtime]
    elif precision == "int8":
        step = ["quantize"]
    else:
        return "List what this machine can run with: edgedenoise doctor"
    command, *options = step
    copying, folder = editable_copy(bundle)
    steps = [copying] if copying else []
    steps.append([command, str(folder), *options])
    return f"Add one with: {' && '.join(command_line(*step) for step in steps)}"


def _of_another_runtime(bundle: Bundle, variant: Variant, runtime: str) -> str | None:
    """Return why a variant is not of the runtime that was named, with the command that builds its like; or None."""
    if runtime in (AUTO, variant.runtime):
        return None
    backend, encoding = registry[runtime], variant.encoding
    has_one = any(v.runtime == runtime and v.precision == variant.precision for v in bundle.manifest.variants)
    if has_one or encoding is None or encoding.scheme not in backend.schemes or "int8" not in backend.precisions:
        return f"it is for {variant.runtime}"
    build = command_line("compile", bundle.source, "--target", runtime, "--precision", "int8")
    return f"it is for {variant.runtime}; to build one for {runtime}: {build}"


def _check_device(bundle: Bundle, variants: list[Variant], device: str) -> None:
    """Check that a backend of some variants has a device here.

    Raises:
        DeviceNotFoundError: none has it.
    """
    devices = {variant.runtime: _devices(variant.runtime) for variant in variants}
    if device.lower() == AUTO or not variants or any(matching_device(device, names) for names in devices.values()):
        return
    known = "; ".join(f"{name}: {', '.join(names) or 'none'}" for name, names in devices.items())
    raise DeviceNotFoundError(
        f"no backend that {bundle.source} has variants for has the device {device!r} here; they have {known}",
        hint="List the devices of this machine with: edgedenoise doctor",
    )


def _unavailable(variant: Variant, device: str) -> str | None:
    """Return why a variant's backend cannot be used here, or None."""
    devices = _devices(variant.runtime)
    if not devices:
        backend = registry.get(variant.runtime)
        found = None if backend is None else backend.probe().reason
        return found or f"there is no backend {variant.runtime} here"
    if device.lower() != AUTO and not matching_device(device, devices):
        return f"{variant.runtime} has no device {device} here"
    return None


def _devices(name: str) -> tuple[str, ...]:
    """Return the devices that a backend has here; none when it is not installed."""
    backend = registry.get(name)
    return () if backend is None else backend.probe().devices


def _unsupported(bundle: Bundle, variant: Variant, device: str, *, trust_engine: bool) -> str | None:
    """Return why this machine cannot run a variant, or None; for files built for one machine it is logged."""
    backend = registry.get(variant.runtime)
    if backend is None:
        return f"there is no backend {variant.runtime} here"
    model = None if backend.is_cpu else bundle.model_files(variant)
    reason = backend.unsupported_reason(variant, device=device, model=model)
    if reason is None and model is not None and not trust_engine:
        reason = backend.untrusted_reason(variant, model)
    if reason is not None and model is not None:
        _log.warning("%s is not used: %s", variant.name, reason)
    return reason


def _loss(bundle: Bundle, variant: Variant) -> str | None:
    """Return why a variant loses too much against float to be chosen unasked, with the numbers, or None."""
    if variant.loss is not None:
        return variant.not_recommended or None
    if variant.fidelity_db is None or _is_quantization_aware(bundle) or variant.fidelity_db >= AUTO_INT8_FIDELITY_DB:
        return None
    return f"{variant.fidelity_db:.1f} dB to the float output on the self-test, below {AUTO_INT8_FIDELITY_DB:g} dB"


def _slow(variant: Variant, device: str) -> str | None:
    """Return why an INT8 variant would not be faster than float, or None."""
    if variant.precision != "int8" or _int8_is_faster(variant, device):
        return None
    return f"{variant.runtime} has no fast kernels for its encoding on this device"


def _is_quantization_aware(bundle: Bundle) -> bool:
    return bundle.manifest.training is not None and bundle.manifest.training.objective == "qat"


def _int8_is_faster(variant: Variant, device: str) -> bool:
    backend = registry.get(variant.runtime)
    return backend is not None and backend.int8_is_faster(variant, device)


def _order(variant: Variant, device: str) -> tuple[bool, bool, int, int, bool, bool, float, str]:
    """Order what was built for an accelerator before what any CPU runs, and INT8 before float.

    Among INT8 variants of one backend, those of its own schemes come first, of these the ones that run at full speed,
    and of these the closest to float.
    """
    backend = registry[variant.runtime]
    order = _CPU_ORDER if backend.is_cpu else _ACCELERATOR_ORDER
    return (
        backend.is_cpu,
        variant.precision != "int8",
        backend.rank,
        order.index(variant.precision),
        variant.encoding is not None and variant.encoding.scheme not in backend.schemes,
        not _int8_is_faster(variant, device),
        -(variant.fidelity_db or 0.0),
        variant.name,
    )
