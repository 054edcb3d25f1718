"""What a backend must offer, and the one wrapper that checks all of them.

A backend file holds only what is peculiar to it: how to probe for it, how to open a file, how to run one array.
Shapes, types, finite values, use after close and timing are checked by `CheckedSession`, once for everybody.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from edgedenoise.errors import InferenceError, NotFiniteError, UsageError
from edgedenoise.runtimes.machine import saturates_u8s8
from edgedenoise.runtimes.shapes import FittedSession

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from edgedenoise.bundles.manifest import InputShapes, Variant

INPUT_NAME = "image"
OUTPUT_NAME = "denoised"
CHANNELS = 3


@dataclass(frozen=True)
class Availability:
    """Whether a runtime can be used here, and if not, what would fix it."""

    available: bool
    version: str | None = None
    devices: tuple[str, ...] = ()
    """Names that `device=` accepts."""
    reason: str | None = None
    """Why not, in one sentence; None when available."""
    command: str | None = None
    """The exact command that would make it available; None when there is nothing to do or nothing that helps."""


@dataclass(frozen=True)
class EffectiveDevice:
    """What really runs, as the backend itself reports it after opening."""

    runtime: str
    version: str
    device: str
    detail: str = ""
    """What else decided the result or the speed: provider, kernels protected from saturation, threads."""


@dataclass(frozen=True)
class SessionOptions:
    """How a session is opened."""

    threads: int | None = None
    """Threads within one inference; None leaves it to the backend."""
    fused: bool = True
    """False runs the graph node by node in float: for QDQ graphs that is exact W8A8 arithmetic, the *oracle*."""
    protect_saturation: bool = True
    """Keep 8-bit products from saturating 16-bit accumulators on x86 CPUs without VNNI."""

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"threads is {self.threads}; accepted are 1 or more, or None for the runtime's own choice")


class Session(Protocol):
    """An opened model, as a backend implements it."""

    @property
    def effective(self) -> EffectiveDevice:
        """What really runs."""
        ...

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run (1, 3, h, w) float32 and return (1, 3, h, w) float32."""
        ...

    def stream(self, tiles: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Run many arrays of one shape and yield the answers in order."""
        ...

    def close(self) -> None:
        """Give memory and devices back; called once."""
        ...


class Runtime(Protocol):
    """A backend."""

    name: ClassVar[str]

    def probe(self) -> Availability:
        """Tell whether the backend works here. Cheap, never raises."""
        ...

    def refuses(self, variant: Variant, path: Path | None = None) -> str | None:
        """Tell why a variant would compute something wrong, or nothing, on this machine; None when it is for it.

        `path` is the variant's file, for backends whose files are bound to the machine that built them.
        """
        ...

    def open(self, variant: Variant, path: Path, device: str, options: SessionOptions) -> Session:
        """Open a model file on a device; `device` is `auto` or one of the probed names.

        Raises:
            RuntimeUnavailableError: the backend's package is missing.
            DeviceNotFoundError: the device is not here.
            DeviceFallbackError: the backend would have used another device.
        """
        ...

    def metadata(self, path: Path) -> str | None:
        """Return the essentials embedded in a lone model file, as JSON text, or None."""
        ...


@dataclass
class Timing:
    """Time spent inside a backend since the session was opened."""

    calls: int = 0
    pixels: int = 0
    """Input pixels, halos included."""
    seconds: float = 0.0


class CheckedSession:
    """A session that refuses bad input, never returns bad output, and keeps the time."""

    def __init__(self, inner: Session, shapes: InputShapes | None = None) -> None:
        """Wrap a backend's session; `shapes` are those that its file accepts, None for all."""
        self._inner: Session | None = inner if shapes is None else FittedSession(inner, shapes)
        self.effective = inner.effective
        self.largest_px = None if shapes is None else shapes.sides_px[-1]
        """Largest side of a tile, margins included; None for no limit."""
        self.timing = Timing()

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one array.

        Args:
            x: (1, 3, h, w) float32, finite.

        Returns:
            (1, 3, h, w) float32, finite.

        Raises:
            InferenceError: the session is closed, the input is not as stated, or the backend's answer is not.
        """
        return next(iter(self.stream([x])))

    def stream(self, tiles: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Run many arrays of one shape in order; the checks are those of `run`."""
        inner = self._opened()
        shapes: list[tuple[int, ...]] = []

        def checked() -> Iterator[NDArray[np.float32]]:
            for tile in tiles:
                _check_input(tile)
                shapes.append(tile.shape)
                yield tile

        answers = iter(inner.stream(checked()))
        try:
            yield from self._checked_answers(answers, shapes)
        finally:
            close = getattr(answers, "close", None)
            if close is not None:  # whatever is on its way on a device is waited for now, not when it is collected
                close()

    def _checked_answers(
        self, answers: Iterator[NDArray[np.float32]], shapes: list[tuple[int, ...]]
    ) -> Iterator[NDArray[np.float32]]:
        done = 0
        while True:
            start = time.perf_counter()
            # The clock also sees the preparation of the next tile, which a backend may overlap with its own work.
            answer = next(answers, None)
            if answer is None:
                break
            self.timing.seconds += time.perf_counter() - start
            if done == len(shapes):
                raise InferenceError(f"{self.effective.runtime} answered more than the {done} tiles it was given")
            self._check_output(answer, shapes[done])
            self.timing.calls += 1
            self.timing.pixels += shapes[done][2] * shapes[done][3]
            done += 1
            yield answer
        if done != len(shapes):
            raise InferenceError(f"{self.effective.runtime} answered {done} of {len(shapes)} tiles")

    def close(self) -> None:
        """Close the session; closing twice is allowed."""
        if self._inner is not None:
            self._inner.close()
            self._inner = None

    def __enter__(self) -> CheckedSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _opened(self) -> Session:
        if self._inner is None:
            raise InferenceError(
                f"this {self.effective.runtime} session is closed",
                hint="open a new one with edgedenoise.load",
            )
        return self._inner

    def _check_output(self, y: NDArray[np.float32], expected: tuple[int, ...]) -> None:
        if y.shape != expected or y.dtype != np.float32:
            raise InferenceError(
                f"{self.effective.runtime} answered {y.dtype} {y.shape}; expected float32 {expected}",
                hint="check the bundle with: edgedenoise verify B.edge",
            )
        if not _is_finite(y):
            bad = int(np.count_nonzero(~np.isfinite(y)))
            raise NotFiniteError(
                f"{self.effective.runtime} on {self.effective.device} answered {bad} values that are not finite",
                hint="check the bundle with: edgedenoise verify B.edge",
            )


def needs_protection(variant: Variant) -> bool:
    """Tell whether a variant's full 8-bit weights would saturate on this CPU."""
    encoding = variant.encoding
    return encoding is not None and encoding.weight_bits == 8 and encoding.activations == "u8" and saturates_u8s8()


def _check_input(x: NDArray[np.float32]) -> None:
    if x.ndim != 4 or x.shape[:2] != (1, CHANNELS) or 0 in x.shape or x.dtype != np.float32:
        raise InferenceError(f"a session was given {x.dtype} {x.shape}; accepted is float32 (1, {CHANNELS}, h, w)")
    if not _is_finite(x):
        raise InferenceError("a session was given values that are not finite (NaN or infinity)")


def _is_finite(x: NDArray[np.float32]) -> bool:
    # A sum is finite only if every term is, and costs a tenth of np.isfinite(x).all().
    with np.errstate(invalid="ignore"):  # infinities of both signs
        return bool(np.isfinite(x.sum(dtype=np.float64)))
