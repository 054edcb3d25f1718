"""Denoise a video from file to file: one frame at a time, everything else copied, nothing written but the output."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgedenoise.atomic import atomic_file, check_writable
from edgedenoise.bundles.pretrained import DEFAULT
from edgedenoise.denoiser import load
from edgedenoise.errors import ImageError, OutputError, UsageError
from edgedenoise.imaging.stream import FrameStream, Percentiles
from edgedenoise.progress import Progress, silent
from edgedenoise.video.options import VideoOptions, check_video_name
from edgedenoise.video.reader import VideoReader, open_input
from edgedenoise.video.writer import VideoWriter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av import Packet
    from av.container import InputContainer
    from typing_extensions import Unpack

    from edgedenoise.denoiser import Denoiser
    from edgedenoise.settings import LoadOptions
    from edgedenoise.video.frames import Frame

_log = logging.getLogger(__name__)
_AHEAD: Final = 2
"""Frames that are decoded ahead while one is denoised."""
INTERLACED: Final = "its frames are interlaced and were denoised as a whole: deinterlace the video first"


@dataclass(frozen=True)
class VideoReport:
    """What became of a video."""

    source: Path
    """Video that was read."""
    output: Path
    """Video that was written."""
    width: int
    """Columns of a frame."""
    height: int
    """Rows of a frame."""
    frames: int
    """Frames that were denoised and written."""
    damaged_packets: int
    """Packets that could not be read or decoded, and were skipped."""
    damaged_frames: int
    """Frames in which the decoder replaced parts that were damaged."""
    notes: tuple[str, ...]
    """What the output does not hold, or holds in another way, each as a sentence."""
    variant: str
    """Name of the variant that ran."""
    seconds: float
    """Wall-clock time."""
    latency_ms: Percentiles
    """From the moment when a frame was decoded to its result; frames are decoded ahead, so they wait."""


def denoise_video(
    source: Path | str,
    out: Path | str,
    model: Path | str = DEFAULT,
    *,
    overwrite: bool = False,
    video: VideoOptions | None = None,
    progress: Progress = silent,
    **options: Unpack[LoadOptions],
) -> VideoReport:
    """Denoise a video.

    Frames are decoded, denoised and encoded one at a time. Sound, subtitles, chapters and metadata are copied. Times,
    rotation, colour range and matrix, bit depth and frame rate stay as they are. The output takes its name when it is
    complete. Damaged packets are counted and skipped.

    Args:
        source: the video.
        out: video to write; its extension decides the format.
        model: bundle or lone model file, or the name of a shipped bundle.
        overwrite: replace an output that exists.
        video: codec, quality, decoder and reuse; None for the defaults.
        progress: called after each frame.
        **options: the options of `edgedenoise.load`.

    Returns:
        The numbers of frames and damaged packets, and what the output does not hold.

    Raises:
        ImageError: the source is missing or no video, or none of its frames can be decoded.
        DamagedImageError: the header of the source is cut short or corrupt.
        OutputError: the output exists, or cannot be written.
        UsageError: an option is not accepted, or the output is the source.
        RuntimeUnavailableError: the package `av` is not installed.
        BundleError, RuntimeUnavailableError, DeviceError, ParityError: as `edgedenoise.load`.

    Example:
        >>> import edgedenoise
        >>> try:
        ...     edgedenoise.denoise_video("nowhere.mp4", "out.mp4", "edge-tiny")
        ... except edgedenoise.EdgeDenoiseError as error:
        ...     print(type(error).__name__)
        ImageError
    """
    source, out = Path(source), Path(out)
    check_video_name(out)
    if out.exists() and out.samefile(source):
        raise UsageError(f"{out} would overwrite its own input", hint="Name another output.")
    if out.exists() and not overwrite:
        raise OutputError(f"{out} exists already and was not replaced", hint="Replace it: overwrite=True, --overwrite")
    with load(model, **options) as denoiser:
        return write_denoised(denoiser, source, out, video or VideoOptions(), progress)


def write_denoised(
    denoiser: Denoiser, source: Path, out: Path, options: VideoOptions, progress: Progress = silent
) -> VideoReport:
    """Denoise a video with an open denoiser; otherwise as `denoise_video`, and an existing output is replaced."""
    start = time.perf_counter()
    check_writable(out)
    with VideoReader(source, hwaccel=options.hwaccel) as reader, open_input(source) as beside:
        matrix = reader.display_matrix()
        with atomic_file(out) as temporary, VideoWriter(temporary, out, reader.layout, options, matrix) as writer:
            notes = writer.copy_streams(beside)
            counts = _write_frames(denoiser, reader, writer, _Beside(beside), options, progress)
            if not counts.frames:
                damaged = f"{reader.damaged_packets} damaged packets"
                raise ImageError(f"no frame of {source} can be decoded: expected a video, got {damaged}")
    if reader.damaged_packets:
        notes = (*notes, f"{reader.damaged_packets} damaged packets were skipped")
    if counts.damaged:
        notes = (*notes, f"{counts.damaged} frames hold damaged parts")
    if counts.interlaced:
        notes = (*notes, INTERLACED)
    for note in notes:
        _log.warning("%s: %s", source, note)
    return VideoReport(
        source,
        out,
        reader.layout.width,
        reader.layout.height,
        counts.frames,
        reader.damaged_packets,
        counts.damaged,
        notes,
        denoiser.last_variant.name,
        time.perf_counter() - start,
        counts.latency_ms,
    )


@dataclass
class _Counts:
    frames: int = 0
    damaged: int = 0
    interlaced: int = 0
    latency_ms: Percentiles = field(default_factory=lambda: Percentiles(None, None, None))


def _write_frames(
    denoiser: Denoiser,
    reader: VideoReader,
    writer: VideoWriter,
    beside: _Beside,
    options: VideoOptions,
    progress: Progress,
) -> _Counts:
    """Denoise and write all frames, and the packets of the other streams between them."""
    counts, expected = _Counts(), reader.layout.frame_count
    denoise = denoiser.for_video(reuse=options.reuse)

    def denoised(frame: Frame) -> Frame:
        return replace(frame, pixels=denoise(np.ascontiguousarray(frame.pixels)))

    frames = reader.frames()  # the thread must be done with the file before it is closed
    with FrameStream(frames, denoised, policy="block", max_queue=_AHEAD, patience_s=None) as stream:
        for result in stream:
            frame = result.image
            if frame.pts is None and reader.layout.rate is not None:
                frame = replace(frame, pts=round(result.index / reader.layout.rate / reader.layout.time_base))
            seconds = None if frame.pts is None else float(frame.pts * reader.layout.time_base)
            for packet in beside.until(seconds):
                writer.copy(packet)
            writer.write(frame)
            counts.frames += 1
            counts.damaged += frame.is_damaged
            counts.interlaced += frame.is_interlaced
            progress("frames", counts.frames, max(expected, counts.frames))
    for packet in beside.until(None):
        writer.copy(packet)
    counts.latency_ms = stream.report.latency_ms
    return counts


class _Beside:
    """Packets of all streams but the video, in the order of the file: read again, so that none has to be held."""

    def __init__(self, container: InputContainer) -> None:
        main = container.streams.best("video")
        streams = [stream for stream in container.streams if main is None or stream.index != main.index]
        self._packets = self._read(container, streams) if streams else iter(())
        self._next: Packet[Any] | None = next(self._packets, None)

    def until(self, seconds: float | None) -> Iterator[Packet[Any]]:
        """Yield the packets up to a time; the rest for None."""
        while self._next is not None:
            packet = self._next
            at = packet.pts if packet.pts is not None else packet.dts
            if seconds is not None and at is not None and float(at * packet.time_base) > seconds:
                return
            yield packet
            self._next = next(self._packets, None)

    @staticmethod
    def _read(container: InputContainer, streams: list[Any]) -> Iterator[Packet[Any]]:
        import av

        try:
            for packet in container.demux(streams):
                if packet.size:
                    yield packet
        except av.FFmpegError as error:  # a file that is cut short
            _log.warning("the end of %s cannot be read: %s", container.name, error.strerror or error)
