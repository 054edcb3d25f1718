"""Frames of a live source: read by a thread of their own, processed one at a time, with the delay of each.

A source that is faster than the network needs a policy. A queue without a bound grows, and the delay with it. `latest`
keeps the newest frames only and drops the rest, so that the delay stays near the time of one frame. `block` makes the
source wait, so that no frame is lost: the right policy for files.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, Literal, TypeVar, cast

from edgedenoise.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

T = TypeVar("T")

Policy = Literal["latest", "block"]
"""What to do with a frame while others wait: drop the oldest (`latest`), or make the source wait (`block`)."""

_STEP: Final = math.log(1.01)
_LEAST_S: Final = 1e-6
_PATIENCE_S: Final = 1.0
"""Time after which `close` no longer waits for a live source: cameras give a frame sooner, unless they hang."""


class Delays:
    """Percentiles of delays, exact to one percent, in memory that does not grow with their number.

    Example:
        >>> delays = Delays()
        >>> for milliseconds in range(1, 101):
        ...     delays.add(milliseconds / 1000)
        >>> [round(delays.percentile_ms(share)) for share in (50, 90)]
        [50, 90]
    """

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Count one delay."""
        self._counts[round(math.log(max(seconds, _LEAST_S)) / _STEP)] += 1

    def percentile_ms(self, share: float) -> float | None:
        """Return the delay that a share of them, 0 to 100, does not exceed, in milliseconds; None without any."""
        rank = self._counts.total() * share / 100
        seen = 0
        for step in sorted(self._counts):
            seen += self._counts[step]
            if seen >= rank:
                return math.exp(step * _STEP) * 1000
        return None


@dataclass(frozen=True)
class Percentiles:
    """Delays of the frames of a stream in milliseconds; None before the first frame."""

    p50: float | None
    p90: float | None
    p99: float | None

    @classmethod
    def of(cls, delays: Delays) -> Percentiles:
        """Return the percentiles of delays."""
        return cls(*(None if (ms := delays.percentile_ms(share)) is None else round(ms, 2) for share in (50, 90, 99)))


@dataclass(frozen=True)
class StreamReport:
    """What became of the frames of a stream so far."""

    captured: int
    """Frames that the source gave."""
    processed: int
    """Frames that were denoised."""
    repeated: int
    """Frames that the similarity filter answered with the result before."""
    dropped: int
    """Frames that a newer one replaced while they waited."""
    seconds: float
    """Time since the first frame was captured."""
    frames_per_second: float
    """Results per second; 0 before the first result."""
    latency_ms: Percentiles
    """From the capture of a frame to its result."""
    age_ms: Percentiles
    """From the capture of a frame to the moment when the network took it."""


@dataclass(frozen=True, eq=False)
class StreamResult(Generic[T]):
    """The result of one frame."""

    image: T
    """Denoised frame, of the type of the frames."""
    index: int
    """Number of the frame in the source, from 0; numbers are missing where frames were dropped."""
    captured_at: float
    """Time of the capture in seconds, on the clock of `time.perf_counter`."""
    age_ms: float
    """Time that the frame waited."""
    latency_ms: float
    """Time from the capture to the result."""
    is_repeated: bool
    """Whether the frame was so similar to the one before that it was not denoised."""


@dataclass(frozen=True)
class _Captured(Generic[T]):
    frame: T
    index: int
    captured_at: float


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


class FrameQueue(Generic[T]):
    """Frames that a thread reads from a source, in order. Iterate once, and close at the end.

    Args:
        frames: the source; its thread is the only one that touches it, and closes it where it can be closed.
        policy: what happens to a frame when `max_queue` frames wait.
        max_queue: number of frames that may wait, at least 1.
        patience_s: longest time that `close` waits for a source that does not return a frame; None for no limit,
            where the caller closes what the source reads.

    Raises:
        UsageError: the policy or the number is not accepted.
    """

    def __init__(
        self,
        frames: Iterable[T],
        policy: Policy = "latest",
        max_queue: int = 1,
        patience_s: float | None = _PATIENCE_S,
    ) -> None:
        if policy not in ("latest", "block"):
            raise UsageError(f"policy is {policy!r}; expected 'latest' or 'block'")
        if not _is_count(max_queue):
            raise UsageError(f"max_queue is {max_queue!r}; expected a number of frames from 1")
        self.captured = 0
        """Frames that the source gave so far."""
        self.dropped = 0
        """Frames that a newer one replaced so far."""
        self._frames = frames
        self._policy = policy
        self._most = max_queue
        self._patience_s = patience_s
        self._waiting: deque[_Captured[T]] = deque()
        self._changed = threading.Condition()
        self._is_closed = self._is_finished = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="edgedenoise-frames", daemon=True)

    def __iter__(self) -> Iterator[_Captured[T]]:
        self._thread.start()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_finished)
                if not self._waiting:
                    if self._error is not None:
                        raise self._error
                    return
                captured = self._waiting.popleft()
                self._changed.notify_all()
            yield captured

    def close(self) -> None:
        """Stop reading and wait for the thread; closing twice is allowed.

        A source that hangs is left to its thread, which closes it when it returns.
        """
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(self._patience_s)

    def _read(self) -> None:
        try:
            self._read_frames()
        except BaseException as error:  # raised again where the frames are taken
            self._error = error
        finally:
            with self._changed:
                self._is_finished = True
                self._changed.notify_all()

    def _read_frames(self) -> None:
        try:
            for frame in self._frames:
                self._put(frame, time.perf_counter())
                if self._is_closed:
                    break
        finally:
            close = getattr(self._frames, "close", None)
            if callable(close):
                close()

    def _put(self, frame: T, captured_at: float) -> None:
        with self._changed:
            if self._policy == "block":
                self._changed.wait_for(lambda: self._is_closed or len(self._waiting) < self._most)
            elif len(self._waiting) == self._most:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(_Captured(frame, self.captured, captured_at))
            self.captured += 1
            self._changed.notify_all()


class FrameStream(Generic[T]):
    """The results of a stream of frames, in order. Made by `Denoiser.stream`; iterate once, as a context manager.

    Leaving the loop early is allowed: the end of the `with` block stops the source.
    """

    def __init__(
        self,
        frames: Iterable[T],
        denoise: Callable[[T], T],
        *,
        policy: Policy = "latest",
        max_queue: int = 1,
        is_skippable: Callable[[T], bool] | None = None,
        patience_s: float | None = _PATIENCE_S,
    ) -> None:
        self._queue = FrameQueue(frames, policy, max_queue, patience_s)
        self._denoise = denoise
        self._is_skippable = is_skippable
        self._latency, self._age = Delays(), Delays()
        self._processed = self._repeated = 0
        self._begin: float | None = None
        self._end = 0.0

    def __iter__(self) -> Iterator[StreamResult[T]]:
        image: T | None = None
        for captured in self._queue:
            start = time.perf_counter()
            self._begin = captured.captured_at if self._begin is None else self._begin
            # The filter sees every frame, because it compares with the last one that was denoised.
            repeated = self._is_skippable is not None and self._is_skippable(captured.frame)
            if repeated:
                self._repeated += 1
            else:
                image = self._denoise(captured.frame)
                self._processed += 1
            self._end = time.perf_counter()
            age, latency = start - captured.captured_at, self._end - captured.captured_at
            self._age.add(age)
            self._latency.add(latency)
            yield StreamResult(
                cast("T", image), captured.index, captured.captured_at, age * 1000, latency * 1000, repeated
            )

    @property
    def report(self) -> StreamReport:
        """Return the counts and delays so far."""
        seconds = 0.0 if self._begin is None else self._end - self._begin
        return StreamReport(
            captured=self._queue.captured,
            processed=self._processed,
            repeated=self._repeated,
            dropped=self._queue.dropped,
            seconds=seconds,
            frames_per_second=(self._processed + self._repeated) / seconds if seconds > 0 else 0.0,
            latency_ms=Percentiles.of(self._latency),
            age_ms=Percentiles.of(self._age),
        )

    def close(self) -> None:
        """Stop the source; closing twice is allowed."""
        self._queue.close()

    def __enter__(self) -> FrameStream[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
