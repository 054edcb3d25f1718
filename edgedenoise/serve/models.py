"""The bundles of a server: their archives for browsers, and denoisers for the API."""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.pretrained import resolve
from edgedenoise.denoiser import load
from edgedenoise.errors import BundleError, UsageError
from edgedenoise.exporting.web.site import FILE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgedenoise.denoiser import Denoiser
    from edgedenoise.serve.options import ServeOptions

MAX_OPEN = 4
"""Denoisers that are kept open: one per model, strength and precision that were asked for last."""


@dataclass(frozen=True)
class Model:
    """A bundle that is served."""

    name: str
    """Name in addresses and in the API."""
    bundle: Bundle

    @property
    def description(self) -> dict[str, Any]:
        """What the list of models says about it."""
        manifest = self.bundle.manifest
        return {
            "name": self.name,
            "url": f"bundles/{self.name}.edge",
            "digest": manifest.digest,
            "network": manifest.network.name,
            "size_bytes": sum(record.size_bytes for record in manifest.files.values()),
            "takes_noise_level": manifest.noise_level is not None,
            "variants": [
                {"name": one.name, "runtime": one.runtime, "precision": one.precision} for one in manifest.variants
            ],
        }


class Wanted(NamedTuple):
    """What a client of the API asks for."""

    model: str
    precision: str
    strength: float


class Models:
    """The bundles of a server. Close it at the end; usable as a context manager."""

    def __init__(self, options: ServeOptions) -> None:
        """Open and check the bundles.

        Raises:
            BundleError: a bundle cannot be opened or is damaged.
            UsageError: two bundles have the same name, or one is a lone model file.
        """
        self._options = options
        self._lock = threading.Lock()
        self._opened: OrderedDict[Wanted, _Shared] = OrderedDict()
        self.all: dict[str, Model] = {}
        for given in options.models:
            self._add(given)

    @property
    def default(self) -> str:
        """Name of the first model."""
        return next(iter(self.all))

    def __enter__(self) -> Models:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the denoisers, once their calls have ended."""
        with self._lock:
            kept = list(self._opened.values())
            self._opened.clear()
        for one in kept:
            one.release()

    def get(self, name: str) -> Model:
        """Return a model by name.

        Raises:
            BundleError: it is not served.
        """
        if name not in self.all:
            raise BundleError(f"there is no model {name!r} here: expected one of {', '.join(self.all)}")
        return self.all[name]

    @contextmanager
    def denoiser(self, wanted: Wanted) -> Iterator[Denoiser]:
        """Open a denoiser, or take the one that is open already, for the time of one image.

        Raises:
            EdgeDenoiseError: as `edgedenoise.load`.
        """
        shared = self._shared(wanted)
        try:
            yield self._opened_or_dropped(wanted, shared)
        finally:
            shared.release()

    def _opened_or_dropped(self, wanted: Wanted, shared: _Shared) -> Denoiser:
        """Return the denoiser; one that cannot be opened keeps no place."""
        try:
            return shared.denoiser()
        except BaseException:
            with self._lock:
                mine = self._opened.get(wanted) is shared
                if mine:
                    del self._opened[wanted]
            if mine:
                shared.release()
            raise

    def _shared(self, wanted: Wanted) -> _Shared:
        """Return what opens the denoiser for a request, with one more user, and close those not used for long."""
        dropped: list[_Shared] = []
        with self._lock:
            shared = self._opened.get(wanted)
            if shared is None:
                shared = self._opened[wanted] = _Shared(self.get(wanted.model), wanted, self._options)
            self._opened.move_to_end(wanted)
            shared.take()
            while len(self._opened) > MAX_OPEN:
                dropped.append(self._opened.popitem(last=False)[1])
        for one in dropped:
            one.release()
        return shared

    def _add(self, given: Path | str) -> None:
        bundle = Bundle.open(resolve(given))
        if bundle.is_lone_file:
            raise UsageError(
                f"{given} cannot be served: expected a bundle, got a lone model file",
                hint="Name the folder or archive that `edgedenoise build` wrote.",
            )
        bundle.check()
        name = Path(given).stem
        if not FILE_NAME.fullmatch(name):
            raise UsageError(f"{given} cannot be served: expected a name of letters, digits, -, _ and ., got {name!r}")
        if name in self.all:
            raise UsageError(f"two bundles have the name {name!r}: expected a name for each")
        self.all[name] = Model(name, bundle)


class _Shared:
    """A denoiser with a count of its users: the pool is one, and every running request is another."""

    def __init__(self, model: Model, wanted: Wanted, options: ServeOptions) -> None:
        self.users = 1
        self._model, self._wanted, self._options = model, wanted, options
        self._lock = threading.Lock()
        self._denoiser: Denoiser | None = None

    def denoiser(self) -> Denoiser:
        """Return the denoiser, which the first request opens."""
        with self._lock:
            if self._denoiser is None:
                self._denoiser = load(
                    self._model.bundle.source,
                    precision=self._wanted.precision,  # type: ignore[arg-type]  # `load` checks it
                    strength=self._wanted.strength,
                    device=self._options.device,
                    threads=self._options.threads,
                )
            return self._denoiser

    def take(self) -> None:
        """Count one user more."""
        with self._lock:
            self.users += 1

    def release(self) -> None:
        """Count one user less; the last one closes it."""
        with self._lock:
            self.users -= 1
            if self.users == 0 and self._denoiser is not None:
                self._denoiser.close()
                self._denoiser = None
