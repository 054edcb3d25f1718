"""A bounded queue in front of the network: as many images at a time as it has workers, and a few that wait."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from edgedenoise.serve.access import RequestRefusedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

RETRY_AFTER_S = 2
"""After how many seconds a refused client may ask again."""


def busy(message: str) -> RequestRefusedError:
    """Return what is raised when a limit of the server is reached."""
    hint = f"Try again in {RETRY_AFTER_S} seconds."
    return RequestRefusedError(503, "Busy", message, hint, **{"retry-after": str(RETRY_AFTER_S)})


class RequestSlots:
    """RequestSlots for running and waiting requests. Belongs to one event loop."""

    def __init__(self, running: int, waiting: int) -> None:
        """Create the places.

        Args:
            running: requests that run at a time.
            waiting: requests that may wait.
        """
        self._most = running + waiting
        self.running = anyio.Semaphore(running)
        """Held by the requests that run."""
        self.taken = 0
        """Requests that run or wait."""

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Take a place, for a request that then arrives, waits and runs.

        Raises:
            RequestRefusedError: there is no place left.
        """
        if self.taken >= self._most:
            raise busy(f"the server is busy: expected at most {self._most} images at a time")
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
