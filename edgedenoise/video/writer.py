"""Write a video frame by frame, with the sound, subtitles and other streams of its source beside it."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from edgedenoise.atomic import output_errors
from edgedenoise.errors import OutputError
from edgedenoise.video.encoders import choose_encoder, holds
from edgedenoise.video.frames import from_array
from edgedenoise.video.options import check_video_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from av import Packet
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

    from edgedenoise.video.frames import Frame
    from edgedenoise.video.options import VideoOptions
    from edgedenoise.video.reader import VideoLayout

_LARGEST_TIME_BASE: Final = {"mpeg4": 65_535, "mpeg2video": 65_535}
"""Encoder -> most units per second that it accepts."""
_OPENING: Final = "avcodec_open2"
"""Function of FFmpeg that opens an encoder; its errors look like those of the system where a device is missing."""
_EXACT_TIMES: Final = frozenset({".mp4", ".m4v", ".mov", ".3gp"})
_DELAY_FRAMES: Final = 2
"""Frames after which x265 knows how far it reorders; it gives shorter videos random decoding times."""


class VideoWriter:
    """A video file that is being written. Use it as a context manager: the end of the block finishes the file.

    Args:
        path: the file to write; its extension decides the format.
        target: the file that `path` becomes in the end, for messages.
        layout: the video that the frames come from.
        options: codec and quality.
        display_matrix: rotation and reflection that players apply.

    Raises:
        UsageError: the extension, the codec or the quality is not accepted.
        OutputError: the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        target: Path,
        layout: VideoLayout,
        options: VideoOptions,
        display_matrix: tuple[int, ...] | None = None,
    ) -> None:
        import av

        check_video_name(target)
        self._target = target
        self._layout = layout
        exact = target.suffix.lower() in _EXACT_TIMES
        rate = {"video_track_timescale": str(layout.time_base.denominator)} if exact else {}
        with _writing(target):
            self._container = av.open(str(path), "w", options=rate)
        try:
            with _writing(target):
                self._stream = self._add_video(options, display_matrix)
        except BaseException:
            self._close_quietly()
            raise
        self._copied: dict[int, Stream] = {}
        self._last: int | None = None
        self._frames = 0
        self._durations: dict[int, int] = {}
        """Durations of the frames that the encoder holds, by their times."""

    def copy_streams(self, source: InputContainer) -> tuple[str, ...]:
        """Add the streams of the source besides its video, its chapters and its metadata.

        Returns:
            What the output cannot hold, each as a sentence.
        """
        import av

        main = source.streams.best("video")
        notes = []
        for stream in source.streams:
            if main is not None and stream.index == main.index:
                self._stream.metadata.update(_kept(stream.metadata))
                continue
            try:
                self._copied[stream.index] = self._copy_of(stream)
            except (ValueError, TypeError, NotImplementedError, av.FFmpegError):
                notes.append(f"{self._target.suffix} cannot hold stream {stream.index} ({_description(stream)})")
        self._container.metadata.update(_kept(source.metadata))
        chapters = source.chapters()
        if chapters:
            self._container.set_chapters(chapters)
        return tuple(notes)

    def copy(self, packet: Packet[Any]) -> None:
        """Write a packet of another stream of the source."""
        copied = self._copied.get(packet.stream.index)
        if copied is None or packet.dts is None:
            return
        packet.stream = copied
        with _writing(self._target):
            self._container.mux(packet)

    def write(self, frame: Frame) -> None:
        """Encode a frame; its time must be later than that of the frame before."""
        time_base = self._stream.codec_context.time_base
        coded = from_array(frame, self._pixel_format, self._layout.colour, self._layout.time_base)
        if coded.pts is not None and self._last is not None and coded.pts <= self._last:
            coded.pts = self._last + 1  # encoders refuse equal times, which damaged files have
        self._last = coded.pts
        self._frames += 1
        duration = coded.duration
        if time_base != self._layout.time_base and coded.pts is not None:
            coded.pts = round(coded.pts * self._layout.time_base / time_base)
            coded.time_base = time_base
            duration = round(duration * self._layout.time_base / time_base)
        if coded.pts is not None:
            self._durations[coded.pts] = duration
        with _writing(self._target):
            self._mux(self._stream.encode(coded))

    def finish(self) -> None:
        """Write the frames that the encoder holds and the end of the file."""
        with _writing(self._target):
            packets = self._stream.encode(None)
            if self._stream.codec.name == "libx265" and self._frames <= _DELAY_FRAMES:
                for packet in packets:
                    packet.dts = packet.pts  # so few frames are never reordered
            self._mux(packets)
            self._container.close()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if error is None:
            self.finish()
        else:
            self._close_quietly()

    def _mux(self, packets: list[Packet[Any]]) -> None:
        """Write packets with the durations of their frames, which encoders do not pass on."""
        for packet in packets:
            duration = 0 if packet.pts is None else self._durations.pop(packet.pts, 0)
            if duration:
                packet.duration = duration
            self._container.mux(packet)

    def _add_video(self, options: VideoOptions, display_matrix: tuple[int, ...] | None) -> VideoStream:
        layout, container = self._layout, self._container
        encoder = choose_encoder(layout, container, codec=options.codec, crf=options.crf)
        self._pixel_format = encoder.pixel_format
        added: Any = container.add_stream(encoder.name, rate=layout.rate or 25, options=encoder.options)
        stream: VideoStream = added
        codec = stream.codec_context
        codec.width, codec.height, codec.pix_fmt = layout.width, layout.height, encoder.pixel_format
        colour = layout.colour
        codec.colorspace, codec.color_range = colour.matrix, colour.range
        codec.color_primaries, codec.color_trc = colour.primaries, colour.transfer
        if layout.aspect is not None:
            codec.sample_aspect_ratio = layout.aspect
        most = _LARGEST_TIME_BASE.get(encoder.name)
        rounded = most is not None and layout.time_base.denominator > most
        codec.time_base = 1 / Fraction(layout.rate or 25) if rounded else layout.time_base
        if encoder.bit_rate is not None:
            codec.bit_rate = encoder.bit_rate
        codec.thread_type = "AUTO"
        if display_matrix is not None:
            stream.set_display_matrix(display_matrix)
        return stream

    def _copy_of(self, stream: Any) -> Stream:
        """Add a stream whose packets are copied.

        Raises:
            ValueError: the format of the output does not hold it.
        """
        if stream.type not in ("audio", "subtitle", "video"):
            raise ValueError(stream.type)
        if stream.codec_context is None or not holds(self._container, stream.codec_context.codec.canonical_name):
            raise ValueError(stream.type)
        copied: Stream = self._container.add_stream_from_template(stream, opaque=True)
        copied.metadata.update(_kept(stream.metadata))
        copied.disposition = stream.disposition
        return copied

    def _close_quietly(self) -> None:
        """Close a file that is not kept; what its end cannot hold is no longer of interest."""
        import av

        with suppress(OSError, av.FFmpegError):
            self._container.close()


def _kept(metadata: dict[str, str]) -> dict[str, str]:
    """Return metadata without what the writer of a file states itself."""
    own = {"encoder", "major_brand", "minor_version", "compatible_brands", "handler_name", "vendor_id", "DURATION"}
    return {key: value for key, value in metadata.items() if key not in own}


def _description(stream: Any) -> str:
    codec = "" if stream.codec_context is None else f", {stream.codec_context.codec.canonical_name}"
    return f"{stream.type}{codec}"


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Translate errors of FFmpeg and of the system that occur while `target` is written.

    Raises:
        OutputError: it cannot be written.
    """
    import av

    with output_errors(target):
        try:
            yield
        except av.FFmpegError as error:
            if isinstance(error, OSError) and not str(error.filename).startswith(_OPENING):
                raise  # such as a full disk
            raise OutputError(
                f"{target} cannot be written: the encoder or the format reports: {error.strerror or error}",
                hint="Choose another encoder or format, for example --codec h264 and the extension .mkv.",
            ) from error
