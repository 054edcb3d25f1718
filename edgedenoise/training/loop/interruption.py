"""Stop a training between two steps when the user or the system asks for it, and keep what was learned."""

from __future__ import annotations

import logging
import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgedenoise.errors import TrainingInterrupted
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_log = logging.getLogger(__name__)


@dataclass
class StopRequest:
    """Whether a signal has asked the training to stop."""

    signal_number: int = 0
    """The signal: SIGINT (Ctrl-C) or SIGTERM; 0 while none has arrived."""


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Collect SIGINT and SIGTERM in the block, instead of stopping in the middle of a step.

    A second signal is handled as it was before the block: it stops at once. Outside the main thread, where Python
    handles no signals, nothing changes.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before: dict[int, Any] = {}

    def collect(number: int, frame: object) -> None:  # noqa: ARG001
        request.signal_number = number
        for known, handler in before.items():
            signal.signal(known, handler)
        _log.warning("stopping after this step; press Ctrl-C again to stop at once, without a checkpoint")

    for number in (int(signal.SIGINT), int(signal.SIGTERM)):
        # A handler that was not installed by Python cannot be put back, and a shell that starts a job in the background
        # lets it ignore Ctrl-C: such signals are left alone.
        if signal.getsignal(number) not in (None, signal.SIG_IGN):
            before[number] = signal.signal(number, collect)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interruption_error(request: StopRequest, run: Path, done: int) -> TrainingInterrupted:
    """Return the error that reports a stopped training, with the command that continues it."""
    return TrainingInterrupted(
        f"the training was interrupted after {done} steps; its state is in {run}",
        hint=f"Continue it with: {command_line('train', '--resume', '--out', run)}",
        signal_number=request.signal_number,
    )
