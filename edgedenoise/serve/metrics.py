"""Counters of a server, in the text format of Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable


class Metrics:
    """Counters of one server."""

    def __init__(self, taken: Callable[[], int]) -> None:
        """Create the counters.

        Args:
            taken: returns the number of requests that run or wait.
        """
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "edgedenoise_requests", "Requests for an image, by status.", ["status"], registry=self._registry
        )
        self.seconds = Histogram(
            "edgedenoise_denoise_seconds", "Time to denoise an image, without its file.", registry=self._registry
        )
        self.megapixels = Counter("edgedenoise_megapixels", "Megapixels that were denoised.", registry=self._registry)
        self.results = Counter(
            "edgedenoise_lab_results", "Results of devices, by outcome.", ["outcome"], registry=self._registry
        )
        queue = Gauge("edgedenoise_queue", "Images that run or wait.", registry=self._registry)
        queue.set_function(taken)

    def text(self) -> bytes:
        """Return all counters."""
        return generate_latest(self._registry)
