"""Images read and written by threads while others are denoised, with a bound on how many are in memory.

Decoding and encoding leave Python's global lock, so they overlap with the network. One image is denoised at a time:
runtimes use all cores for one.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from edgedenoise.atomic import check_writable
from edgedenoise.batch.memory import MemoryBudget, denoise_by_rows
from edgedenoise.batch.results import FileResult
from edgedenoise.errors import DeviceMemoryError, EdgeDenoiseError
from edgedenoise.extras import missing_package
from edgedenoise.imaging.files import check_can_hold, format_for, read_image, write_image
from edgedenoise.imaging.image import Frames
from edgedenoise.imaging.metadata.transfer import losses
from edgedenoise.system_errors import system_error
from edgedenoise.video.denoise import write_denoised
from edgedenoise.video.options import VideoOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from edgedenoise.batch.plan import FileJob
    from edgedenoise.denoiser import Denoiser
    from edgedenoise.imaging.image import Image
    from edgedenoise.imaging.metadata.embedded import Metadata
    from edgedenoise.imaging.readers.options import ReadOptions
    from edgedenoise.imaging.row_files import ImageRows
    from edgedenoise.imaging.saving import SaveOptions
    from edgedenoise.progress import Progress
    from edgedenoise.video.denoise import VideoReport

T = TypeVar("T")
_log = logging.getLogger(__name__)
_WAITING_IMAGES: Final = 4
"""Images that may wait to be denoised, and as many that may wait to be written."""
_UNKNOWN_BYTES: Final = 64 << 20
"""Assumed where the header of an image is not understood."""


@dataclass(frozen=True)
class _Outcome(Generic[T]):
    """What a step of one image gave."""

    value: T | EdgeDenoiseError
    seconds: float


def ignore(result: FileResult) -> None:
    """Do nothing with the result of a file: the default of functions that report results while they run."""


def run_jobs(
    denoiser: Denoiser,
    jobs: Sequence[FileJob],
    *,
    saving: SaveOptions,
    reading: ReadOptions,
    video: VideoOptions | None = None,
    progress: Progress,
    on_result: Callable[[FileResult], None] = ignore,
) -> list[FileResult]:
    """Denoise images and return one result per job, in the order of the jobs.

    A job that fails is reported in its result, and the others are done. When the caller is interrupted, or `on_result`
    raises an error, images that are being written are finished and reported, and nothing else is begun.

    Args:
        denoiser: what denoises them.
        jobs: the images; those with an error are reported and left out.
        saving: compression of the outputs.
        reading: how inputs are read.
        video: how videos are read and written; None for the defaults.
        progress: called after each tile and each image.
        on_result: called in this thread with each result, once, as soon as it is final.
    """
    pool = ThreadPoolExecutor(min(8, max(2, (os.cpu_count() or 1) // 2)), thread_name_prefix="edgedenoise-files")
    pipeline = _Pipeline(denoiser, jobs, saving, reading, video or VideoOptions(), pool, on_result)
    try:
        return pipeline.run(progress)
    except (KeyboardInterrupt, EdgeDenoiseError):
        pool.shutdown(cancel_futures=True)
        pipeline.report_written()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


class _Pipeline:
    """One image at the network, some before and some behind it."""

    def __init__(
        self,
        denoiser: Denoiser,
        jobs: Sequence[FileJob],
        saving: SaveOptions,
        reading: ReadOptions,
        video: VideoOptions,
        pool: ThreadPoolExecutor,
        on_result: Callable[[FileResult], None],
    ) -> None:
        self._denoiser = denoiser
        self._jobs = jobs
        self._saving = saving
        self._reading = reading
        self._video = video
        self._pool = pool
        self._on_result = on_result
        self._budget = MemoryBudget.of(denoiser.max_memory)
        self._results = [planned_result(job) for job in jobs]
        to_do = [number for number, job in enumerate(jobs) if job.error is None]
        self._coming = deque(number for number in to_do if not jobs[number].is_video)
        self._videos = [number for number in to_do if jobs[number].is_video]
        self._reads: deque[tuple[int, Future[_Outcome[Image]]]] = deque()
        self._writes: deque[tuple[int, Future[_Outcome[Path]]]] = deque()

    def run(self, progress: Progress) -> list[FileResult]:
        """Do all jobs."""

        def on_tile(done: int, total: int) -> None:
            progress("tiles", done, total)

        for result in self._results:
            if result.error is not None:
                self._on_result(result)
        while self._coming or self._reads:
            if not self._reads and self._is_done_by_rows(self._coming[0], progress, on_tile):
                self._coming.popleft()
                continue
            number, read = self._next_image()
            job = self._jobs[number]
            progress("denoise", number, len(self._jobs), job.source.name)
            self._read_ahead(_size(job))
            self._note(number, read=read.seconds)
            if isinstance(read.value, EdgeDenoiseError):
                self._finish(number, read.value)
                continue
            self._results[number] = replace(self._results[number], width=read.value.width, height=read.value.height)
            progress("tiles", 0, 1)
            denoised = _attempt(job, partial(_denoised, self._denoiser, read.value, on_tile))
            self._note(number, denoise=denoised.seconds)
            if isinstance(denoised.value, EdgeDenoiseError):
                self._finish(number, denoised.value)
                continue
            self._note_run(number, denoised.value.metadata)
            self._write(number, denoised.value)
        self._finish_writes(0)
        for number in self._videos:
            progress("denoise", number, len(self._jobs), self._jobs[number].source.name)
            self._denoise_video(number, progress)
        progress("denoise", len(self._jobs), len(self._jobs))
        return self._results

    def _denoise_video(self, number: int, progress: Progress) -> None:
        """Denoise a video; videos come after all images, because one may take hours."""
        job = self._jobs[number]

        def step() -> VideoReport:
            report = write_denoised(self._denoiser, job.source, job.output, self._video, progress)
            _keep_time(job)
            return report

        done = _attempt(job, step)
        self._note(number, denoise=done.seconds)
        if isinstance(done.value, EdgeDenoiseError):
            self._finish(number, done.value)
            return
        report = done.value
        self._results[number] = replace(
            self._results[number],
            variant=report.variant,
            float_reason=self._denoiser.last_float_reason,
            noise=self._denoiser.last_noise,
            notes=report.notes,
            width=report.width,
            height=report.height,
        )
        self._finish(number, report.output)

    def _is_done_by_rows(self, number: int, progress: Progress, on_tile: Callable[[int, int], None]) -> bool:
        """Denoise an image by rows if it has to be and can be; its stages overlap, so all of its time is one stage."""
        job = self._jobs[number]
        if not self._budget.wants_rows(job):
            return False
        self._finish_writes(0)
        progress("denoise", number, len(self._jobs), job.source.name)
        progress("tiles", 0, 1)
        step = partial(_denoise_by_rows, self._denoiser, job, self._saving, self._reading, on_tile)
        done = _attempt(job, step)
        if done.value is None:
            return False
        self._note(number, denoise=done.seconds)
        if isinstance(done.value, EdgeDenoiseError):
            self._finish(number, done.value)
        else:
            self._note_run(number, done.value.metadata)
            self._finish(number, job.output)
        return True

    def _note_run(self, number: int, metadata: Metadata) -> None:
        """Add to a result what ran, and what the output does not hold of the metadata of the input."""
        self._results[number] = replace(
            self._results[number],
            variant=self._denoiser.last_variant.name,
            float_reason=self._denoiser.last_float_reason,
            noise=self._denoiser.last_noise,
            notes=losses(metadata, format_for(self._jobs[number].output)),
        )

    def report_written(self) -> None:
        """Report the images whose writing was under way when the run was interrupted; the pool has been shut down."""
        for number, future in self._writes:
            if not future.cancelled():
                self._finish_write(number, future.result())

    def _write(self, number: int, image: Image) -> None:
        """Write an image beside the network; one of several frames here, because writing denoises the further ones."""
        step = partial(_attempt, self._jobs[number], partial(_write, self._jobs[number], image, self._saving))
        if image.following:
            self._finish_write(number, step())
        else:
            self._writes.append((number, self._pool.submit(step)))

    def _finish_write(self, number: int, written: _Outcome[Path]) -> None:
        self._note(number, write=written.seconds)
        self._finish(number, written.value)

    def _note(self, number: int, **seconds: float) -> None:
        """Add the time of a stage to a result."""
        result = self._results[number]
        self._results[number] = replace(result, seconds=replace(result.seconds, **seconds))

    def _finish(self, number: int, output: Path | EdgeDenoiseError) -> None:
        """Complete a result with the file that was written, or with the error, and report it."""
        result = self._results[number]
        if isinstance(output, EdgeDenoiseError):
            result = replace(result, error=output)
        else:
            result = replace(result, output=output)
        self._results[number] = result
        self._on_result(result)

    def _next_image(self) -> tuple[int, _Outcome[Image]]:
        """Return the number of the next job with its image, when there is space for it."""
        if self._reads:
            number, future = self._reads.popleft()
            image = future.result()
        else:
            number = self._coming.popleft()
            self._finish_writes(max(self._budget.waiting_bytes - _size(self._jobs[number]), 0))
            image = self._read(number)
        if isinstance(image.value, DeviceMemoryError):  # alone it may fit
            self._finish_writes(0)
            image = self._read(number)
        return number, image

    def _read_ahead(self, current_bytes: int) -> None:
        """Begin to read the next images as far as they may wait, after the writes that must make space."""
        self._finish_writes(max(self._budget.waiting_bytes - current_bytes, 0))
        waiting_bytes = sum(_size(self._jobs[number]) for number, _ in (*self._reads, *self._writes))
        while self._coming and len(self._reads) < _WAITING_IMAGES:
            if self._budget.wants_rows(self._jobs[self._coming[0]]):
                return
            waiting_bytes += _size(self._jobs[self._coming[0]])
            if waiting_bytes > self._budget.waiting_bytes:
                return
            number = self._coming.popleft()
            self._reads.append((number, self._pool.submit(self._read, number)))

    def _finish_writes(self, waiting_bytes: int) -> None:
        """Wait until no more than some images are being written."""
        while self._writes and (
            len(self._writes) > _WAITING_IMAGES
            or sum(_size(self._jobs[number]) for number, _ in self._writes) > waiting_bytes
        ):
            number, future = self._writes[0]
            written = future.result()  # when Ctrl-C comes here, `report_written` reports the image
            self._writes.popleft()
            self._finish_write(number, written)

    def _read(self, number: int) -> _Outcome[Image]:
        return _attempt(self._jobs[number], partial(_read, self._jobs[number], self._reading, self._budget))


def planned_result(job: FileJob) -> FileResult:
    """Return the result of a job before anything is read: its size, and the reason to refuse it."""
    width, height = (None, None) if job.layout is None else (job.layout.width, job.layout.height)
    return FileResult(job.source, None, job.error, width=width, height=height)


def _attempt(job: FileJob, step: Callable[[], T]) -> _Outcome[T]:
    """Return what a step gives, or its error: whatever it is, it costs this image only."""
    start = time.perf_counter()
    try:
        value: T | EdgeDenoiseError = step()
    except Exception as error:
        value = _error_of(job, error)
    return _Outcome(value, time.perf_counter() - start)


def _error_of(job: FileJob, error: Exception) -> EdgeDenoiseError:
    """Return our own error for any error of one image."""
    if isinstance(error, EdgeDenoiseError):
        return error
    if isinstance(error, MemoryError):
        hint = f"Close other programs and run: {job.again}"
        return DeviceMemoryError(f"{job.source} does not fit into memory", hint=hint)
    if isinstance(error, OSError):
        return system_error(error, f"{job.source} cannot be denoised")
    _log.info("an unexpected error", exc_info=error)
    missing = missing_package(error) if isinstance(error, ModuleNotFoundError) else None
    return missing or EdgeDenoiseError(
        f"{job.source} cannot be denoised: internal error: {type(error).__name__}: {error}",
        hint=f"Report what this writes: {job.again} -v",
    )


def _read(job: FileJob, reading: ReadOptions, budget: MemoryBudget) -> Image:
    """Read an image; every reason not to write its output is found here where it can be."""
    budget.check(job)
    image = read_image(
        job.source,
        frames=True,
        max_pixels=reading.max_pixels,
        convert_cmyk=reading.convert_cmyk,
        raw=reading.raw,
    )
    check_can_hold(image, job.output)
    check_writable(job.output)
    return image


def _denoised(denoiser: Denoiser, image: Image, on_tile: Callable[[int, int], None]) -> Image:
    """Denoise the first frame now, and those that follow it when they are written."""
    clean = denoiser(replace(image, following=Frames()), on_tile=on_tile)
    return replace(clean, following=image.following.map(denoiser))


def _denoise_by_rows(
    denoiser: Denoiser,
    job: FileJob,
    saving: SaveOptions,
    reading: ReadOptions,
    on_tile: Callable[[int, int], None],
) -> ImageRows | None:
    """Denoise an image from file to file; None where it has to be decoded whole."""
    check_writable(job.output)
    image = denoise_by_rows(denoiser, job, saving, reading.max_pixels, on_tile)
    if image is not None:
        _keep_time(job)
    return image


def _write(job: FileJob, image: Image, saving: SaveOptions) -> Path:
    """Write an image with the time of its source."""
    write_image(image, job.output, saving)
    _keep_time(job)
    return job.output


def _keep_time(job: FileJob) -> None:
    """Set the time of an output to that of its source."""
    try:
        status = job.source.stat()
        os.utime(job.output, ns=(status.st_atime_ns, status.st_mtime_ns))
    except OSError as error:  # a file system without times is no reason to lose the image
        _log.info("%s does not have the time of its source: %s", job.output, error.strerror or error)


def _size(job: FileJob) -> int:
    """Return the bytes of the decoded pixels."""
    return _UNKNOWN_BYTES if job.layout is None else job.layout.stored_bytes
