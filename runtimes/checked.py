"""The session that everything else uses: it checks each tile, measures time, and makes threads wait where they must."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from edgedenoise.errors import InferenceError, NotFiniteError, UsageError
from edgedenoise.runtimes.base import CHANNELS
from edgedenoise.runtimes.shapes import FittedSession
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from edgedenoise.bundles.manifest import InputShapes
    from edgedenoise.runtimes.base import Session


OWN_PROCESS = "Open one in each process, with edgedenoise.load after the process has started."


@dataclass
class Timing:
    """Time spent inside a backend since the session was opened."""

    calls: int = 0
    pixels: int = 0
    """Number of input pixels, halos included."""
    seconds: float = 0.0


class CheckedSession:
    """A session that refuses bad input, never returns bad output, and measures the time.

    It may be used from several threads. Where the backend is not thread-safe, a stream waits until the streams of
    other threads are finished. It cannot be used in another process: neither forked nor pickled.
    """

    def __init__(
        self,
        inner: Session,
        shapes: InputShapes | None = None,
        *,
        channels: int | None = None,
        source: Path | None = None,
    ) -> None:
        """Wrap a backend's session.

        Args:
            inner: the backend's session.
            shapes: sizes of tiles that its file accepts; None for all.
            channels: number of input channels, see `Manifest.input_channels`; None for what the session states.
            source: the bundle that is opened, for hints.
        """
        self._inner: Session | None = inner if shapes is None else FittedSession(inner, shapes)
        self._hint = None if source is None else f"Check the bundle with: {command_line('verify', source)}"
        self._turns = _Turns(shared=inner.thread_safe)
        self._process = os.getpid()
        self.effective = inner.effective
        self.inputs = inner.inputs
        """Inputs of the opened model."""
        self.outputs = inner.outputs
        """Outputs of the opened model."""
        self.channels = channels or _stated_channels(inner)
        """Number of input channels."""
        self.shapes = shapes
        """Sizes of tiles that the file accepts, margins included; None when it accepts any."""
        self.timing = Timing()

    @property
    def largest_px(self) -> int | None:
        """Largest side of a tile, margins included; None for no limit."""
        return None if self.shapes is None else self.shapes.sides_px[-1]

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one array.

        Args:
            x: (1, `channels`, h, w) float32, finite.

        Returns:
            (1, 3, h, w) float32, finite.

        Raises:
            InferenceError: the session is closed, the input is not as stated, or the backend's answer is not.
        """
        return next(iter(self.stream([x])))

    def time_run(self, x: NDArray[np.float32]) -> float:
        """Run one array as `run` does, and return the seconds of the backend alone; checks are outside the clock.

        Raises:
            InferenceError: as `run`.
        """
        self._check_process()
        with self._turns.one():
            inner = self._opened()
            _check_input(x, self.channels)
            seconds, answer = inner.timed_run(x)
            self._check_output(answer, (1, CHANNELS, *x.shape[2:]))
        return seconds

    def stream(self, tiles: Iterable[NDArray[np.float32]]) -> Generator[NDArray[np.float32], None, None]:
        """Run arrays of one shape in order; each is checked as by `run`.

        Raises:
            InferenceError: as `run`; or this thread has a stream of the session that is neither finished nor closed,
                and the backend is not thread-safe.
        """
        self._check_process()  # first: in a forked process, a lock may stay locked for ever
        with self._turns.one():
            inner = self._opened()
            shapes: list[tuple[int, ...]] = []

            def checked() -> Iterator[NDArray[np.float32]]:
                for tile in tiles:
                    _check_input(tile, self.channels)
                    shapes.append(tile.shape)
                    yield tile

            answers = iter(inner.stream(checked()))
            try:
                yield from self._checked_answers(answers, shapes)
            finally:
                close = getattr(answers, "close", None)
                if close is not None:  # work in progress on a device is waited for now, not at garbage collection
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
            seconds = time.perf_counter() - start
            if done == len(shapes):
                raise InferenceError(f"{self.effective.runtime} returned more than {done} answers to {done} tiles")
            self._check_output(answer, (1, CHANNELS, *shapes[done][2:]))
            with self._turns.exclusive():
                self.timing.seconds += seconds
                self.timing.calls += 1
                self.timing.pixels += shapes[done][2] * shapes[done][3]
            done += 1
            yield answer
        if done != len(shapes):
            raise InferenceError(f"{self.effective.runtime} returned {done} answers to {len(shapes)} tiles")

    def close(self) -> None:
        """Close the session when the streams of other threads are finished; closing twice is allowed.

        In a forked process nothing is released: the session belongs to the process that opened it.
        """
        if self._process != os.getpid():
            return
        with self._turns.alone():
            inner, self._inner = self._inner, None
        if inner is not None:
            inner.close()

    def __enter__(self) -> CheckedSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise UsageError("a session cannot be pickled or copied: it belongs to its process", hint=OWN_PROCESS)

    def _check_process(self) -> None:
        if self._process != os.getpid():
            raise InferenceError(
                f"this {self.effective.runtime} session was opened by the process {self._process}, and this is its fork"
                f" {os.getpid()}, which has none of its threads",
                hint=OWN_PROCESS,
            )

    def _opened(self) -> Session:
        if self._inner is None:
            raise InferenceError(
                f"this {self.effective.runtime} session is closed", hint="Open a new one with edgedenoise.load"
            )
        return self._inner

    def _check_output(self, y: NDArray[np.float32], expected: tuple[int, ...]) -> None:
        if y.shape != expected or y.dtype != np.float32:
            raise InferenceError(
                f"{self.effective.runtime} returned {y.dtype} {y.shape}; expected float32 {expected}", hint=self._hint
            )
        if not _is_finite(y):
            bad = int(np.count_nonzero(~np.isfinite(y)))
            raise NotFiniteError(
                f"{self.effective.runtime} on {self.effective.device} returned {bad} values that are not finite",
                hint=self._hint,
            )


class _Turns:
    """Which threads may run a session: one stream at a time, or any number where the backend is thread-safe."""

    def __init__(self, *, shared: bool) -> None:
        self._shared = shared
        self._changed = threading.Condition()
        self._running: Counter[int] = Counter()
        """Thread -> number of its unfinished streams."""

    @contextmanager
    def one(self) -> Iterator[None]:
        """Hold the right to run one stream."""
        thread = threading.get_ident()
        with self._changed:
            if not self._shared:
                if thread in self._running:
                    raise InferenceError(
                        "a stream of this session is not finished, and its backend runs one at a time",
                        hint="Use up the first stream or close() it before the next one is started",
                    )
                self._changed.wait_for(lambda: not self._running)
            self._running[thread] += 1
        try:
            yield
        finally:
            with self._changed:
                self._running[thread] -= 1
                self._running = +self._running  # without zeros
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait for the streams of other threads, and let none start in the block."""
        thread = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: not self._running.keys() - {thread})
            yield

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other threads from changing what the block changes."""
        with self._changed:
            yield


def _stated_channels(session: Session) -> int:
    """Return the number of input channels that a session states; that of a colour image where it states none."""
    shape = session.inputs[0].shape if session.inputs else ()
    return (shape[1] if len(shape) == 4 else None) or CHANNELS


def _check_input(x: NDArray[np.float32], channels: int) -> None:
    if x.ndim != 4 or x.shape[:2] != (1, channels) or 0 in x.shape or x.dtype != np.float32:
        raise InferenceError(f"a session was given {x.dtype} {x.shape}; expected float32 (1, {channels}, h, w)")
    if not _is_finite(x):
        raise InferenceError("a session was given values that are not finite (NaN or infinity)")


def _is_finite(x: NDArray[np.float32]) -> bool:
    # A sum is finite only if every term is, and costs a tenth of np.isfinite(x).all().
    with np.errstate(invalid="ignore"):  # infinities of both signs
        return bool(np.isfinite(x.sum(dtype=np.float64)))
