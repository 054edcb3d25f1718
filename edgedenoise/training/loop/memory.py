"""Recognise out-of-memory errors, and find a batch that fits."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of torch means that memory is exhausted, on a GPU or on the CPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # The CPU allocator and MPS have no error class for it.
    message = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        words in message for words in ("not enough memory", "can't allocate memory", "out of memory")
    )


def largest_that_fits(attempt: Callable[[int], object], batch: int) -> int | None:
    """Return the largest of batch / 2, batch / 4 ... 1 for which `attempt` does not run out of memory, or None."""
    while batch > 1:
        batch //= 2
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            attempt(batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            return batch
    return None
