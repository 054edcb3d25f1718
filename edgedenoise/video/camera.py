"""Frames of a camera: of this machine, of the network, of a GStreamer pipeline, or of a file that is played as one.

Network cameras and files are read by PyAV. Cameras of this machine and GStreamer pipelines are read by OpenCV, because
the packages of PyAV have no access to them on Linux. JetPack's OpenCV has GStreamer; the package on PyPI has not.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgedenoise.errors import DeviceNotFoundError, ImageError, UsageError
from edgedenoise.imaging.optional import import_io
from edgedenoise.video.reader import VideoReader, open_input

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    Frames = Iterator[NDArray[np.uint8]]

_TIMEOUT_S: Final = 10
_NETWORK_OPTIONS: Final = {"fflags": "nobuffer", "flags": "low_delay"}
"""Frames are given on as they arrive; FFmpeg otherwise holds some back to guess the format."""
_AGAIN: Final = "Check its cable and power, and that no other program uses it. Then start the command again."
_ENDING: Final = ("filesrc", "file://", "num-buffers")
"""Words of GStreamer pipelines that come to an end; all others read cameras."""


def camera_frames(source: str) -> Frames:
    """Yield the frames of a camera, (H, W, 3) uint8 RGB, as they come: those of a file to its end, others for ever.

    Args:
        source: number of a camera (`0`), its file (`/dev/video0`), an address (`rtsp://...`, `http://...`), a GStreamer
            pipeline that ends in `appsink`, or a video file, which is played at its own speed.

    Raises:
        DeviceNotFoundError: there is no such camera, or it does not give frames any more.
        ImageError: the address cannot be read, or does not send any more; or the file is no video.
        UsageError: the source is none of these.
        RuntimeUnavailableError: the package that reads it is not installed.
    """
    if source.isdecimal():
        return _opencv(int(source), source)
    if source.startswith("/dev/video"):
        return _opencv(source, source)
    if "!" in source:
        return _gstreamer(source)
    if "://" in source:
        return _network(source)
    if Path(source).is_file():
        return played(Path(source))
    raise UsageError(
        f"there is no camera {source!r}: expected a number, /dev/video0, rtsp://..., a GStreamer pipeline or a video",
        hint="List the cameras of this machine: v4l2-ctl --list-devices",
    )


def played(path: Path) -> Frames:
    """Yield the frames of a video at its own speed: each at its time, late ones at once."""
    with VideoReader(path) as reader:
        start: float | None = None
        for number, frame in enumerate(reader.frames()):
            rate, base = reader.layout.rate or 25, reader.layout.time_base
            at = float(frame.pts * base) if frame.pts is not None else float(number / rate)
            start = time.perf_counter() - at if start is None else start
            time.sleep(max(0.0, start + at - time.perf_counter()))
            yield eight_bit(frame.pixels)


def eight_bit(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return pixels of 8 or 16 bits as 8 bits."""
    return pixels if pixels.dtype.itemsize == 1 else (pixels >> 8).astype("uint8")


def _network(address: str) -> Frames:
    import_io("av", f"{address} cannot be read")
    options = _NETWORK_OPTIONS | ({"rtsp_transport": "tcp"} if address.startswith("rtsp") else {})
    with open_input(address, options=options, timeout=_TIMEOUT_S) as container:
        stream: Any = container.streams.best("video")
        if stream is None:
            raise ImageError(f"{address} sends no video")
        stream.thread_type = "SLICE"  # threads per frame would hold back one frame each
        yield from (frame.to_ndarray(format="rgb24") for frame in _decoded(container, stream, address))
        if container.duration is None:  # that of a camera; a file on a server has one
            raise ImageError(f"{address} does not send any more: it has closed the connection", hint=_AGAIN)


def _decoded(container: Any, stream: Any, address: str) -> Iterator[Any]:
    """Yield decoded frames; damaged packets are skipped, as wireless cameras lose some."""
    import av

    try:
        for packet in container.demux(stream):
            try:
                yield from stream.decode(packet)
            except av.InvalidDataError:
                continue
    except av.FFmpegError as error:
        raise ImageError(f"{address} does not send any more: {error.strerror or error}", hint=_AGAIN) from error


def _gstreamer(pipeline: str) -> Frames:
    cv2: Any = _import_opencv("the pipeline cannot be run")
    if "gstreamer:                   yes" not in cv2.getBuildInformation().lower():
        raise DeviceNotFoundError(
            "this build of OpenCV has no GStreamer: expected JetPack's own, got the one from PyPI",
            hint="Uninstall opencv-python-headless, and make the environment with --system-site-packages.",
        )
    ends = any(word in pipeline for word in _ENDING)
    return _opencv(pipeline, "of the pipeline", backend=cv2.CAP_GSTREAMER, ends=ends)


def _import_opencv(purpose: str) -> Any:
    """Import OpenCV, whose warnings say what our errors say."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    return import_io("cv2", purpose)


def _opencv(camera: int | str, name: str, *, backend: int | None = None, ends: bool = False) -> Frames:
    """Yield the frames of a camera that OpenCV reads; `ends` says that their end is no error."""
    cv2: Any = _import_opencv(f"the camera {name} cannot be read")
    capture = cv2.VideoCapture(camera, cv2.CAP_ANY if backend is None else backend)
    try:
        if not capture.isOpened():
            raise DeviceNotFoundError(
                f"the camera {name} cannot be opened: expected one that no other program uses",
                hint="List the cameras of this machine: v4l2-ctl --list-devices",
            )
        while True:
            there, frame = capture.read()
            if there:
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            elif ends:
                return
            else:
                raise DeviceNotFoundError(f"the camera {name} does not give frames any more", hint=_AGAIN)
    finally:
        capture.release()
