"""Denoise a camera, and record the result as a video."""

from __future__ import annotations

import logging
import math
import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgedenoise.atomic import atomic_file, check_writable, output_errors
from edgedenoise.bundles.pretrained import DEFAULT
from edgedenoise.denoiser import load
from edgedenoise.errors import EdgeDenoiseError, OutputError, UsageError
from edgedenoise.progress import Progress, silent
from edgedenoise.shell import quoted
from edgedenoise.video.camera import camera_frames
from edgedenoise.video.frames import LIMITED, Colour, Frame
from edgedenoise.video.options import VideoOptions, check_video_name
from edgedenoise.video.reader import VideoLayout
from edgedenoise.video.writer import VideoWriter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from edgedenoise.imaging.stream import FrameStream, Policy, StreamReport
    from edgedenoise.settings import LoadOptions

_log = logging.getLogger(__name__)
_TIME_BASE: Final = Fraction(1, 90_000)
_SPARE_BYTES: Final = 32 << 20
"""Free space at which a recording ends: its last frames and its index must still fit."""
_LOOK_S: Final = 1.0
"""Time between two looks at the free space."""
_BT601: Final = 6


@dataclass(frozen=True)
class StreamOptions:
    """How the frames of a camera are denoised; see `Denoiser.stream`."""

    policy: Policy = "latest"
    """What happens to frames that come while one is denoised."""
    max_queue: int = 1
    """Number of frames that may wait."""
    similarity: float | None = None
    """Similarity from which a frame is answered with the result before; None for never."""
    reuse: bool = False
    """Whether the output is reused where the image has not moved."""


def denoise_camera(
    source: str,
    model: Path | str = DEFAULT,
    *,
    out: Path | str | None = None,
    overwrite: bool = False,
    frames: int | None = None,
    seconds: float | None = None,
    stream: StreamOptions | None = None,
    video: VideoOptions | None = None,
    progress: Progress = silent,
    **options: Unpack[LoadOptions],
) -> StreamReport:
    """Denoise a camera until it ends, a limit is reached or Ctrl-C is pressed.

    Args:
        source: camera, address, GStreamer pipeline or video file; see `edgedenoise.video.camera.camera_frames`.
        model: bundle or lone model file, or the name of a shipped bundle.
        out: video to record the results to; each has the time at which its frame was captured. None to record none.
        overwrite: replace a recording that exists.
        frames: number of results to end after; None for no limit.
        seconds: seconds to end after; None for no limit.
        stream: which frames are denoised; None for the newest ones.
        video: codec and quality of the recording; None for the defaults.
        progress: called after each result, with the latency as the note.
        **options: the options of `edgedenoise.load`.

    Returns:
        Counts of frames, and percentiles of latency and age. Ctrl-C ends the stream, finishes the recording and
        returns, too.

    Raises:
        OutputError: the recording exists, or cannot be written. Where the disk is nearly full, the recording holds the
            frames before.
        UsageError: an option is not accepted.
        DeviceNotFoundError, ImageError, RuntimeUnavailableError: the source cannot be read, or not any more; then the
            recording holds the frames before.
        BundleError, RuntimeUnavailableError, DeviceError, ParityError: as `edgedenoise.load`.
    """
    for name, value in (("frames", frames), ("seconds", seconds)):
        if value is not None and value <= 0:
            raise UsageError(f"{name} is not accepted: expected more than 0, or none for no limit, got {value!r}")
    target = None if out is None else _checked(Path(out), overwrite=overwrite)
    settings = stream or StreamOptions()
    captured = camera_frames(source)
    with (
        load(model, **options) as denoiser,
        denoiser.stream(
            captured,
            policy=settings.policy,
            max_queue=settings.max_queue,
            similarity=settings.similarity,
            reuse=settings.reuse,
        ) as results,
    ):
        _run(results, _Limits(frames, seconds), target, video or VideoOptions(), progress)
        return results.report


@dataclass(frozen=True)
class _Limits:
    frames: int | None
    seconds: float | None

    def are_reached(self, done: int, start: float) -> bool:
        return (self.frames is not None and done >= self.frames) or (
            self.seconds is not None and time.perf_counter() - start >= self.seconds
        )


def _checked(out: Path, *, overwrite: bool) -> Path:
    check_video_name(out)
    if out.exists() and not overwrite:
        raise OutputError(f"{out} exists already and was not replaced", hint="Replace it: overwrite=True, --overwrite")
    check_writable(out)
    return out


def _run(
    results: FrameStream[NDArray[np.uint8]],
    limits: _Limits,
    target: Path | None,
    options: VideoOptions,
    progress: Progress,
) -> None:
    """Take results until a limit is reached, and record them.

    An error of the source and a disk that is nearly full finish the recording, too.
    """
    start, first, looked = time.perf_counter(), 0.0, -math.inf
    writer: VideoWriter | None = None
    failure: EdgeDenoiseError | None = None
    with ExitStack() as stack:
        try:
            for done, result in enumerate(results, start=1):
                if target is not None and result.captured_at - looked >= _LOOK_S:
                    looked = result.captured_at
                    failure = _shortage(target)
                    if failure is not None:
                        break
                if target is not None and writer is None:
                    first = result.captured_at
                    temporary = stack.enter_context(atomic_file(target))
                    writer = stack.enter_context(VideoWriter(temporary, target, _layout(result.image), options))
                if writer is not None:
                    pts = round((result.captured_at - first) / _TIME_BASE)
                    writer.write(Frame(result.image, None, pts, 0))
                progress("frames", done, limits.frames or done, f"{result.latency_ms:.0f} ms")
                if limits.are_reached(done, start):
                    break
        except KeyboardInterrupt:  # the usual end of a camera: the recording is finished
            pass
        except EdgeDenoiseError as error:
            if writer is None or isinstance(error, OutputError):
                raise
            failure = error
    if failure is not None:
        if writer is not None:
            _log.warning("%s holds the frames before the error", target)
        raise failure


def _shortage(target: Path) -> OutputError | None:
    """Return an error where the disk of a recording has hardly space left; None where it has."""
    with output_errors(target):
        free = shutil.disk_usage(target.parent).free
    if free >= _SPARE_BYTES:
        return None
    return OutputError(
        f"the disk of {target} is nearly full: expected {_SPARE_BYTES >> 20} MB of free space or more,"
        f" got {free / 2**20:.1f} MB",
        hint=f"Free some space: {quoted('df', '-h', target.parent)} shows how full the disk is.",
    )


def _layout(frame: NDArray[np.uint8]) -> VideoLayout:
    """Return the layout of a recording."""
    height, width = frame.shape[:2]
    return VideoLayout(
        width=width,
        height=height,
        pixel_format="yuv420p" if height % 2 == width % 2 == 0 else "yuv444p",
        bits=8,
        codec="h264",
        colour=Colour(_BT601, LIMITED, _BT601, _BT601),
        rate=None,
        time_base=_TIME_BASE,
        aspect=None,
        bit_rate=None,
        frame_count=0,
    )
