"""Memory of a run: which images are denoised by rows, from file to file, and which do not fit.

An image in memory takes its stored input and output, and what its decoder and encoder hold beside them. By rows, it
takes a few bands, whatever its size.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edgedenoise.errors import DeviceMemoryError
from edgedenoise.extras import is_installed
from edgedenoise.imaging.files import EXTENSIONS, check_rows_fit, open_rows, write_rows
from edgedenoise.imaging.row_writers import WRITTEN_BY_ROWS
from edgedenoise.runtimes.machine import used_memory_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgedenoise.batch.plan import FileJob
    from edgedenoise.denoiser import Denoiser
    from edgedenoise.imaging.layout import Layout
    from edgedenoise.imaging.row_files import ImageRows
    from edgedenoise.imaging.saving import SaveOptions

_log = logging.getLogger(__name__)
BY_ROWS_PIXELS: Final = 64_000_000
"""Larger images are denoised by rows wherever they can be."""
_PILLOW_PX_BYTES: Final = 4
_WAITING_BYTES: Final = 256 << 20
_MB: Final = 1e6


@dataclass(frozen=True)
class MemoryBudget:
    """What the images of a run may take."""

    left: int | None
    """Bytes, beside the opened model; None for no limit."""

    @classmethod
    def of(cls, max_memory: int | None) -> MemoryBudget:
        """Return what is left of the memory that this process may take."""
        return cls(None if max_memory is None else max(0, max_memory - used_memory_bytes()))

    @property
    def waiting_bytes(self) -> int:
        """Bytes of pixels that may wait beside the image that is denoised."""
        return _WAITING_BYTES if self.left is None else min(_WAITING_BYTES, self.left // 8)

    def wants_rows(self, job: FileJob) -> bool:
        """Return whether an image is to be denoised by rows, as far as its header and output show that it can be."""
        layout = job.layout
        if layout is None or layout.alpha or layout.bits > 16:
            return False
        if EXTENSIONS.get(job.output.suffix.lower()) not in WRITTEN_BY_ROWS or not is_installed("pyvips"):
            return False
        return layout.pixels > BY_ROWS_PIXELS or not self._holds(layout)

    def check(self, job: FileJob) -> None:
        """Check that an image in memory fits.

        Raises:
            DeviceMemoryError: it does not.
        """
        if job.layout is None or self._holds(job.layout):
            return
        needed, left = needed_bytes(job.layout), self.left or 0
        raise DeviceMemoryError(
            f"{job.source} does not fit into the memory that it may take: expected at most {left / _MB:.0f} MB,"
            f" got about {needed / _MB:.0f} MB for {job.layout.width} x {job.layout.height} pixels",
            hint=_hint(job, used_memory_bytes() + needed),
        )

    def _holds(self, layout: Layout) -> bool:
        return self.left is None or needed_bytes(layout) <= self.left


def needed_bytes(layout: Layout) -> int:
    """Estimate the memory of an image that is decoded, denoised and encoded whole."""
    # Input and output, and what Pillow or an encoder holds beside them.
    return 2 * layout.stored_bytes + max(_PILLOW_PX_BYTES * layout.pixels, layout.stored_bytes)


def denoise_by_rows(
    denoiser: Denoiser,
    job: FileJob,
    saving: SaveOptions,
    max_pixels: int,
    on_tile: Callable[[int, int], None],
) -> ImageRows | None:
    """Denoise an image from file to file by rows.

    Returns:
        The image that was read; None where its file is of a kind that is decoded whole: nothing is written then.

    Raises:
        EdgeDenoiseError: it cannot be read, denoised or written.
    """
    image = open_rows(job.source, max_pixels=max_pixels)
    if image is None:
        _log.info("%s is decoded whole: it is of a kind that is not read by rows", job.source)
        return None
    check_rows_fit(image, job.output)
    write_rows(denoiser.by_rows(image, on_tile=on_tile), job.output, saving)
    return image


def _hint(job: FileJob, needed: int) -> str:
    if not is_installed("pyvips"):
        return 'Images are denoised by rows, in little memory, with: pip install "edgedenoise[large]"'
    return f"Allow more: {job.again} --max-memory {needed}"
