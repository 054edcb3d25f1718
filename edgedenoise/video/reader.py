"""Read a video file frame by frame: damaged packets are counted and skipped, and nothing is held but the frame."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from edgedenoise.errors import DamagedImageError, DeviceNotFoundError, ImageError, UsageError
from edgedenoise.imaging.optional import import_io
from edgedenoise.shell import quoted
from edgedenoise.system_errors import reason_and_hint
from edgedenoise.video.frames import Colour, Frame, bits_of, to_array

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

_ONE_FRAME_PER_PACKET: Final = frozenset({"h264", "hevc", "mjpeg", "mpeg2video", "mpeg4", "prores"})
"""Codecs whose packets give one frame each, if they are whole."""
_ERRORS_IN_A_ROW: Final = 100
"""A file whose packets cannot be read this often without one that can is at its end."""


@dataclass(frozen=True)
class VideoLayout:
    """What the header of a video states."""

    width: int
    """Columns of a frame, before rotation."""
    height: int
    """Rows of a frame, before rotation."""
    pixel_format: str
    """FFmpeg's name, such as `yuv420p10le`."""
    bits: int
    """Bits per sample."""
    codec: str
    """FFmpeg's name of the codec, such as `h264`."""
    colour: Colour
    rate: Fraction | None
    """Mean frames per second; None where the file states none."""
    time_base: Fraction
    """Seconds per unit of the times."""
    aspect: Fraction | None
    """Width of a pixel over its height; None where the file states none."""
    bit_rate: int | None
    """Bits per second of the video stream; None where the file states none."""
    frame_count: int
    """Number of frames, estimated from the duration where the file states none; 0 where it states neither."""


class VideoReader:
    """The first video stream of a file. Use it as a context manager.

    Args:
        path: the file.
        hwaccel: device of FFmpeg that decodes, such as `cuda` or `vaapi`; None for the CPU. A named device never
            falls back to the CPU.

    Raises:
        ImageError: the file is missing, is no video, or has no video stream.
        DamagedImageError: its header is cut short or corrupt.
        DeviceNotFoundError: the device cannot decode it.
        RuntimeUnavailableError: the package `av` is not installed.
    """

    def __init__(self, path: Path, *, hwaccel: str | None = None) -> None:
        self.path = path
        self.damaged_packets = 0
        """Packets that could not be read or decoded so far."""
        self._container = open_input(path, hwaccel=hwaccel)
        try:
            self._stream = self._main_stream()
            self.layout = self._read_layout()
            self._decoding = self._decoded()
            self._first: VideoFrame | None = None
        except BaseException:
            self._container.close()
            raise

    def frames(self) -> Iterator[Frame]:
        """Yield the frames in the order of their times.

        Raises:
            ImageError: the size of the frames changes.
        """
        if self._first is not None:
            frames, self._first = chain([self._first], self._decoding), None
        else:
            frames = chain(self._decoding)
        for frame in frames:
            size = frame.width, frame.height
            if size != (self.layout.width, self.layout.height):
                raise ImageError(
                    f"the size of the frames of {self.path} changes: expected {self.layout.width}x{self.layout.height}"
                    f" throughout, got {size[0]}x{size[1]}",
                    hint="Split the video there first, for example with FFmpeg.",
                )
            yield to_array(frame, self.layout.colour)

    def display_matrix(self) -> tuple[int, ...] | None:
        """Return the rotation and reflection that players apply, as FFmpeg's nine numbers; None for none.

        It comes with the first frame; read it before `frames`.
        """
        from av.sidedata.sidedata import Type

        if self._first is None:
            self._first = next(self._decoding, None)
        side_data: Any = {} if self._first is None else self._first.side_data
        data = side_data.get(Type.DISPLAYMATRIX)
        return None if data is None else tuple(memoryview(bytes(data)).cast("i"))

    def close(self) -> None:
        """Close the file; closing twice is allowed."""
        self._container.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _decoded(self) -> Iterator[VideoFrame]:
        import av

        packets = frames = 0
        for packet in self._packets():
            packets += packet.size > 0 and not packet.is_discard
            try:
                decoded = self._stream.decode(packet)
            except av.FFmpegError:
                self.damaged_packets += 1
            else:
                frames += len(decoded)
                yield from decoded
        if self.layout.codec in _ONE_FRAME_PER_PACKET:  # decoders skip some damage without an error
            self.damaged_packets = max(self.damaged_packets, packets - frames)

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        """Yield the packets of the stream; one without data at the end flushes the decoder."""
        import av

        failed = 0
        while failed < _ERRORS_IN_A_ROW:
            try:
                for packet in self._container.demux(self._stream):
                    yield packet
                    failed = 0
            except av.EOFError:
                return
            except av.FFmpegError:  # the next packet may be whole
                self.damaged_packets += 1
                failed += 1
            else:
                return

    def _main_stream(self) -> VideoStream:
        stream: Any = self._container.streams.best("video")
        if stream is None:
            raise ImageError(
                f"{self.path} holds no video: expected a video stream, got"
                f" {', '.join(sorted({one.type for one in self._container.streams})) or 'no stream'}",
                hint="Name a file with a video stream.",
            )
        if stream.codec_context is None:
            raise ImageError(
                f"{self.path} is compressed in a way that this build of FFmpeg does not decode",
                hint="Convert it to H.264 or HEVC with another program first.",
            )
        stream.thread_type = "AUTO"
        return cast("VideoStream", stream)

    def _read_layout(self) -> VideoLayout:
        stream, codec = self._stream, self._stream.codec_context
        if codec.format is None or not codec.width:
            raise DamagedImageError(
                f"{self.path} is damaged: expected frames of a known size, got a stream without any",
                hint="Record or copy the file again; its end may be missing.",
            )
        rate = stream.average_rate or stream.guessed_rate
        time_base = stream.time_base or (1 / rate if rate else Fraction(1, 90_000))
        seconds = stream.duration * time_base if stream.duration else _container_seconds(self._container)
        return VideoLayout(
            width=codec.width,
            height=codec.height,
            pixel_format=codec.format.name,
            bits=bits_of(codec.format),
            codec=codec.codec.canonical_name,
            colour=Colour(codec.colorspace, codec.color_range, codec.color_primaries, codec.color_trc),
            rate=rate,
            time_base=time_base,
            aspect=stream.sample_aspect_ratio or None,
            bit_rate=codec.bit_rate or None,
            frame_count=stream.frames or (round(seconds * rate) if rate else 0),
        )


def open_input(path: Path | str, *, hwaccel: str | None = None, **options: Any) -> InputContainer:
    """Open a video file or address with FFmpeg.

    Raises:
        ImageError: it is missing, or no video.
        DamagedImageError: its header is cut short or corrupt.
        DeviceNotFoundError: there is no such device.
        RuntimeUnavailableError: the package `av` is not installed.
    """
    av: Any = import_io("av", f"{path} cannot be read")
    try:
        container: InputContainer = av.open(str(path), hwaccel=_hwaccel(hwaccel), metadata_errors="replace", **options)
    except av.InvalidDataError as error:
        raise DamagedImageError(
            f"{path} cannot be read: expected a video, got a damaged or unfinished file, or none of a known format",
            hint="Record or copy the file again; its end may be missing.",
        ) from error
    except (av.FFmpegError, OSError) as error:
        if hwaccel is not None and error.filename is None:  # errors of the file name it
            raise DeviceNotFoundError(
                f"{path} cannot be decoded on {hwaccel}: {error.strerror or error}",
                hint="Leave --hwaccel out to decode on the CPU.",
            ) from error
        hint = "Check the address, and that the camera is on and takes connections."
        if "://" not in str(path):
            hint = reason_and_hint(error, Path(path))[1] or f"Check the file: {quoted('ls', '-l', path)}"
        raise ImageError(f"{path} cannot be read: {error.strerror or error}", hint=hint) from error
    return container


def _hwaccel(name: str | None) -> Any:
    """Return the device of FFmpeg with a name."""
    if name is None:
        return None
    from av.codec.hwaccel import HWAccel, HWDeviceType, hwdevices_available

    known = sorted(kind.name for kind in HWDeviceType if kind.name != "none")
    if name not in known:
        raise UsageError(f"the decoder {name!r} is not known: expected one of {', '.join(known)}")
    if name not in hwdevices_available():
        raise DeviceNotFoundError(
            f"this build of FFmpeg cannot decode on {name}: expected one of"
            f" {', '.join(hwdevices_available()) or 'none'}",
            hint="Leave --hwaccel out to decode on the CPU.",
        )
    return HWAccel(name, allow_software_fallback=False)


def _container_seconds(container: InputContainer) -> Fraction:
    return Fraction(container.duration or 0, 1_000_000)
