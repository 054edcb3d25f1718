"""Notice Ctrl-C where a library hides it: in the middle of an import it may become an ImportError or a SystemError."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Interruption:
    """Whether Ctrl-C was pressed."""

    arrived: bool = False


@contextmanager
def noted_interrupts(interruption: Interruption) -> Iterator[None]:
    """Note Ctrl-C in the block; it raises KeyboardInterrupt as ever."""
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not is_default or threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, frame: object) -> None:  # noqa: ARG001
        interruption.arrived = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
