"""Cameras, with a file as the camera: delays, drops, recordings that can be played."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import pytest
from clips import decoded, make_clip, times, video_stream

from edgedenoise import errors
from edgedenoise.video import camera
from edgedenoise.video.live import StreamOptions, denoise_camera
from edgedenoise.video.options import VideoOptions

pytest.importorskip("av", reason='pip install "edgedenoise[video]"')

if TYPE_CHECKING:
    from pathlib import Path

X264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "camera.mp4", *X264, seconds=0.8)


def test_a_file_is_played_at_its_own_speed(clip: Path) -> None:
    start = time.perf_counter()
    frames = list(camera.camera_frames(str(clip)))
    assert time.perf_counter() - start > 0.7
    assert len(frames) == 20
    difference = frames[7].astype(float) - decoded(clip)[7]
    assert np.sqrt(np.mean(np.square(difference))) < 20  # ffmpeg repeats the colours of neighbours, the reader blends


def test_every_captured_frame_is_denoised_or_dropped(clip: Path, committed_bundle: Path) -> None:
    report = denoise_camera(str(clip), committed_bundle)
    assert report.captured == 20
    assert report.processed + report.dropped == 20
    assert report.processed > 0
    assert report.latency_ms.p50 is not None
    assert report.age_ms.p50 is not None
    assert report.age_ms.p50 <= report.latency_ms.p50


def test_blocking_drops_no_frame(clip: Path, committed_bundle: Path) -> None:
    report = denoise_camera(str(clip), committed_bundle, stream=StreamOptions("block", 2, similarity=0.5))
    assert (report.captured, report.dropped) == (20, 0)
    assert report.processed + report.repeated == 20
    assert report.repeated > 0


def test_a_recording_has_the_times_of_the_capture(clip: Path, committed_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "recording.mkv"
    report = denoise_camera(str(clip), committed_bundle, out=out, stream=StreamOptions("block"), strength=0)
    assert len(times(out)) == report.processed == 20
    assert times(out)[0] == 0
    assert times(out)[-1] == pytest.approx(0.76, abs=0.5)
    assert video_stream(out)["codec_name"] == "h264"
    with pytest.raises(errors.OutputError, match="exists already"):
        denoise_camera(str(clip), committed_bundle, out=out)


def test_limits_end_a_stream(clip: Path, committed_bundle: Path) -> None:
    assert denoise_camera(str(clip), committed_bundle, frames=3, strength=0).processed == 3
    assert denoise_camera(str(clip), committed_bundle, seconds=0.1, strength=0).captured < 20
    with pytest.raises(errors.UsageError, match=r"seconds is not accepted: .* got 0"):
        denoise_camera(str(clip), committed_bundle, seconds=0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "service"])
def test_a_signal_finishes_the_recording(committed_bundle: Path, tmp_path: Path, number: signal.Signals) -> None:
    source = make_clip(tmp_path / "long.mp4", *X264, seconds=60)
    out = tmp_path / "out" / "recording.mp4"
    command = [sys.executable, "-m", "edgedenoise", "camera", source, "-o", out, "-m", committed_bundle]
    running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("out/.recording.edn-*")):
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(1)
    running.send_signal(number)
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 0
    assert "capture to result" in said
    assert len(decoded(out)) >= 1
    assert [path.name for path in out.parent.iterdir()] == ["recording.mp4"]


def test_a_source_that_fails_finishes_the_recording(committed_bundle: Path, tmp_path: Path) -> None:
    parts = [
        make_clip(tmp_path / f"{size}.ts", *X264, source=f"testsrc2=size={size}:rate=25:duration={{seconds}}")
        for size in ("64x48", "96x64")
    ]
    (tmp_path / "in.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    out = tmp_path / "out" / "recording.mp4"
    with pytest.raises(errors.ImageError, match="the size of the frames"):
        denoise_camera(str(tmp_path / "in.ts"), committed_bundle, out=out, stream=StreamOptions(policy="block"))
    assert len(decoded(out)) == len(decoded(parts[0]))
    with pytest.raises(errors.UsageError, match="the codec 'dirac2' is not accepted"):
        denoise_camera(
            str(parts[0]), committed_bundle, out=tmp_path / "out" / "none.mp4", video=VideoOptions(codec="dirac2")
        )
    assert [path.name for path in out.parent.iterdir()] == ["recording.mp4"]


def test_opencv_reads_the_same_frames(clip: Path) -> None:
    """OpenCV reads cameras of this machine; a file takes their place here."""
    pytest.importorskip("cv2", reason='pip install "edgedenoise[camera]"')
    frames = list(camera._opencv(str(clip), "0", ends=True))
    assert len(frames) == 20
    assert frames[0].shape == (48, 64, 3)
    assert np.sqrt(np.mean(np.square(frames[7].astype(float) - decoded(clip)[7]))) < 20


def test_a_camera_that_is_gone_is_an_error(clip: Path) -> None:
    pytest.importorskip("cv2", reason='pip install "edgedenoise[camera]"')
    frames = camera._opencv(str(clip), "0")
    assert len(list(islice(frames, 20))) == 20
    with pytest.raises(errors.DeviceNotFoundError, match="the camera 0 does not give frames any more") as caught:
        next(frames)
    assert "cable" in str(caught.value)


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        ("nowhere", errors.UsageError, "there is no camera 'nowhere'"),
        ("97", errors.DeviceNotFoundError, "the camera 97 cannot be opened"),
        ("/dev/video97", errors.DeviceNotFoundError, "the camera /dev/video97 cannot be opened"),
        ("videotestsrc ! appsink", errors.DeviceNotFoundError, "has no GStreamer"),
        ("http://127.0.0.1:9/stream", errors.ImageError, "cannot be read"),
    ],
)
def test_sources_that_cannot_be_read(source: str, kind: type[Exception], message: str) -> None:
    pytest.importorskip("cv2", reason='pip install "edgedenoise[camera]"')
    with pytest.raises(kind, match=message):
        next(iter(camera.camera_frames(source)))


def test_a_network_camera_is_read_until_it_closes_the_connection(clip: Path) -> None:
    """FFmpeg serves a stream on a local port; its end is an error, because cameras have none."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    server = subprocess.Popen(
        f"ffmpeg -v error -stream_loop 9 -i {clip} -c copy -f mpegts {address}?listen=1".split(),
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                source = camera.camera_frames(address)
                frames = list(islice(source, 12))
                break
            except errors.ImageError:  # the server does not listen yet
                assert time.monotonic() < deadline
                time.sleep(0.1)
        with pytest.raises(errors.ImageError, match="it has closed the connection"):
            list(source)
    finally:
        server.kill()
        server.wait()
    assert frames[0].shape == (48, 64, 3)
    assert len(frames) == 12
