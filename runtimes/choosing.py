"""Choose the variant of a bundle that fits this machine best, from what is known: nothing is timed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal, get_args

from edgedenoise.bundles.manifest import Precision
from edgedenoise.bundles.writer import editable_copy, lone_file_hint
from edgedenoise.errors import DeviceNotFoundError, IncompatibleError, UsageError
from edgedenoise.runtimes.device_names import AUTO, matching_device
from edgedenoise.runtimes.registry import registry
from edgedenoise.shell import command_line

if TYPE_CHECKING:
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


def choose_variant(
    bundle: Bundle,
    runtime: str = AUTO,
    precision: Precision | Literal["auto"] = "auto",
    device: str = AUTO,
    *,
    trust_engine: bool = False,
) -> Variant:
    """Return the variant that fits a request best.

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
    fitting = [v for v in variants if runtime in (AUTO, v.runtime) and precision in ("auto", v.precision)]
    if runtime == AUTO:
        fitting = _available(bundle, fitting, device)
    supported = [v for v in fitting if _is_supported(bundle, v, device, trust_engine=trust_engine)]
    # A backend that was named is opened even so, which reports why it cannot run the variant.
    fitting = supported if runtime == AUTO else supported or fitting
    if precision == "auto":
        fitting = [v for v in fitting if not _loses_too_much(bundle, v)] or fitting
        fitting = [v for v in fitting if v.precision != "int8" or _int8_is_faster(v, device)] or fitting
    if not fitting:
        have = ", ".join(f"{v.name} ({v.runtime}, {v.precision})" for v in variants)
        raise IncompatibleError(
            f"{bundle.source} has no variant for runtime {runtime}, precision {precision} and device {device} that can"
            f" run here; it has {have}",
            hint=_hint(bundle, runtime, precision),
        )
    return min(fitting, key=lambda variant: _order(variant, device))


def _hint(bundle: Bundle, runtime: str, precision: str) -> str:
    """Return the command that adds a fitting variant, on a copy where the bundle cannot be changed."""
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


def _available(bundle: Bundle, variants: list[Variant], device: str) -> list[Variant]:
    """Return the variants whose backend is available here and has the device.

    Raises:
        DeviceNotFoundError: no backend has it.
    """
    devices = {variant.runtime: _devices(variant.runtime) for variant in variants}
    if device.lower() == AUTO:
        return [variant for variant in variants if devices[variant.runtime]]
    found = [variant for variant in variants if matching_device(device, devices[variant.runtime])]
    if variants and not found:
        known = "; ".join(f"{name}: {', '.join(names) or 'none'}" for name, names in devices.items())
        raise DeviceNotFoundError(
            f"no backend that {bundle.source} has variants for has the device {device!r} here; they have {known}",
            hint="List the devices of this machine with: edgedenoise doctor",
        )
    return found


def _devices(name: str) -> tuple[str, ...]:
    """Return the devices that a backend has here; none when it is not installed."""
    backend = registry.get(name)
    return () if backend is None else backend.probe().devices


def _is_supported(bundle: Bundle, variant: Variant, device: str, *, trust_engine: bool) -> bool:
    """Return whether this machine can run a variant; files built for one machine are logged when it cannot."""
    backend = registry.get(variant.runtime)
    if backend is None:
        return False
    model = None if backend.is_cpu else bundle.model_files(variant)
    reason = backend.unsupported_reason(variant, device=device, model=model)
    if reason is None and model is not None and not trust_engine:
        reason = backend.untrusted_reason(variant, model)
    if reason is not None and model is not None:
        _log.warning("%s is not used: %s", variant.name, reason)
    return reason is None


def _loses_too_much(bundle: Bundle, variant: Variant) -> bool:
    """Return whether a variant loses too much against float to be chosen unasked, and log its numbers if it does."""
    if variant.loss is not None:
        reason = variant.not_recommended
    elif variant.fidelity_db is None or _is_quantization_aware(bundle) or variant.fidelity_db >= AUTO_INT8_FIDELITY_DB:
        reason = ""
    else:
        reason = (
            f"{variant.fidelity_db:.1f} dB to the float output on the self-test, below {AUTO_INT8_FIDELITY_DB:g} dB"
        )
    if reason:
        _log.info("%s is not used: %s; to use it: --precision %s", variant.name, reason, variant.precision)
    return bool(reason)


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
