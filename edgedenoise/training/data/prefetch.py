"""Prepare the batches of coming steps in worker threads while the network computes.

A batch is a function of its step (`draws.py`), so threads change the waiting time, never the batch. Decoding and
copying release Python's lock.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

T = TypeVar("T")


def prefetched(batch: Callable[[int], T], start: int, stop: int, *, workers: int) -> Generator[T, None, None]:
    """Yield `batch(start)` ... `batch(stop - 1)` in order, with some of them prepared ahead.

    Args:
        batch: called from several threads when `workers` is above 1; its errors are raised when its batch is due.
        start: first step.
        stop: one after the last step.
        workers: number of threads; 0 prepares every batch when it is due.
    """
    if workers == 0:
        yield from map(batch, range(start, stop))
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="edgedenoise-batch")
    try:
        waiting: deque[Future[T]] = deque()
        for step in range(start, stop):
            while len(waiting) <= workers and step + len(waiting) < stop:
                waiting.append(pool.submit(batch, step + len(waiting)))
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
