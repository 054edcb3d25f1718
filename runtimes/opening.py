"""Open models: a bundle or a lone model file, a variant on its backend, an emulation where nothing runs it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.model_files import ModelFiles
from edgedenoise.errors import RuntimeUnavailableError
from edgedenoise.runtimes.base import DEFAULT_OPTIONS, SessionOptions
from edgedenoise.runtimes.checked import CheckedSession
from edgedenoise.runtimes.device_names import AUTO
from edgedenoise.runtimes.registry import registry
from edgedenoise.runtimes.selftest import selftest_on_first_use
from edgedenoise.system_errors import is_dir, is_file

if TYPE_CHECKING:
    from pathlib import Path

    from edgedenoise.bundles.manifest import Variant
    from edgedenoise.runtimes.base import Backend

_log = logging.getLogger(__name__)
_BUNDLE = ".edge"
"""Suffix of bundles, which no backend has: to know that, they need not be imported."""


def open_model(path: Path) -> Bundle:
    """Open a bundle, or a lone model file through the metadata embedded in it.

    Args:
        path: folder, archive or model file, or the name of a shipped bundle.

    Raises:
        BundleError: there is nothing readable at `path`.
        RuntimeUnavailableError: the backend of a lone file is missing.
    """
    backend = _backend_of_lone_file(path)
    if backend is None:
        return Bundle.open(path)
    with backend.naming_packages():
        return Bundle.from_metadata(path, backend.metadata(ModelFiles.read(path)))


def open_variant(
    bundle: Bundle,
    variant: Variant,
    *,
    device: str = AUTO,
    options: SessionOptions = DEFAULT_OPTIONS,
    selftest: bool = True,
) -> CheckedSession:
    """Open a variant of a bundle after checking its files, and run its self-test on first use.

    Args:
        bundle: an opened bundle.
        variant: one of its variants.
        device: `auto`, or a device of the backend; a named device never falls back to another.
        options: threads, fusion, saturation.
        selftest: whether to run the self-test unless this machine has run it before.

    Raises:
        BundleError: a file is damaged, or this machine cannot run the variant correctly.
        RuntimeUnavailableError: the backend is missing; the hint is the command that installs it.
        DeviceError: the device is missing or would not be used.
        ParityError: the self-test fails.
    """
    backend = backend_of(variant)
    session = CheckedSession(
        backend.open(variant, bundle.model_files(variant), device, options),
        variant.shapes,
        channels=bundle.manifest.input_channels,
        source=bundle.source,
    )
    _log.info("opened %s: %s", variant.name, session.effective)
    try:
        if selftest:
            selftest_on_first_use(bundle, variant, session)
    except BaseException:
        session.close()
        raise
    return session


def open_emulation(bundle: Bundle, variant: Variant) -> CheckedSession | None:
    """Open what computes a variant's numbers on a machine that cannot run it; None where nothing does.

    Raises:
        EdgeDenoiseError: the emulation's package is missing, or the bundle lacks what it needs.
    """
    session = backend_of(variant).emulate(bundle, variant)
    if session is None:
        return None
    return CheckedSession(session, variant.shapes, channels=bundle.manifest.input_channels, source=bundle.source)


def backend_of(variant: Variant) -> Backend:
    """Return the backend that a variant is for.

    Raises:
        RuntimeUnavailableError: this installation has no such backend.
    """
    backend = registry.get(variant.runtime)
    if backend is None:
        raise RuntimeUnavailableError(
            f"{variant.name} is for the backend {variant.runtime!r}, which is not installed; installed are"
            f" {', '.join(registry)}",
            hint="Install the package that adds this backend, or upgrade with: pip install -U edgedenoise",
        )
    return backend


def _backend_of_lone_file(path: Path) -> Backend | None:
    suffix = path.suffix.lower()
    if suffix in ("", _BUNDLE) or not (is_file(path) or is_dir(path)):  # the latter: the name of a shipped bundle
        return None
    return next((backend for backend in registry.values() if suffix in backend.suffixes), None)  # a package is a folder
