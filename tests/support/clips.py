"""Small videos made by ffmpeg, and what ffprobe and ffmpeg, as independent programs, read of videos."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
from programs import needs

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = "testsrc2=size=64x48:rate=25:duration={seconds}"


def make_clip(path: Path, *options: str, seconds: float = 0.4, source: str = SOURCE, sound: bool = False) -> Path:
    """Write a clip with ffmpeg's options for the output."""
    inputs = ["-f", "lavfi", "-i", source.format(seconds=seconds)]
    if sound:
        inputs += ["-f", "lavfi", "-i", f"sine=frequency=440:duration={seconds}"]
    _run("ffmpeg", "-y", *inputs, *options, path)
    return path


def write_clip(path: Path, frames: np.ndarray, *options: str, rate: int = 25) -> Path:
    """Write frames (N, H, W, 3) of uint8 as a clip."""
    size = f"{frames.shape[2]}x{frames.shape[1]}"
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", str(rate), "-i", "-"]
    _run("ffmpeg", "-y", *raw, *options, path, given=frames.tobytes())
    return path


def probe(path: Path, *options: str) -> dict[str, Any]:
    """Return what ffprobe reports."""
    found: dict[str, Any] = json.loads(_run("ffprobe", "-of", "json", *options, path))
    return found


def video_stream(path: Path) -> dict[str, Any]:
    """Return what ffprobe reports about the first video stream."""
    stream: dict[str, Any] = probe(path, "-show_streams", "-select_streams", "v:0")["streams"][0]
    return stream


def times(path: Path) -> list[float]:
    """Return the times of the video's packets in seconds, ascending."""
    packets = probe(path, "-select_streams", "v:0", "-show_entries", "packet=pts_time")["packets"]
    return sorted(float(packet["pts_time"]) for packet in packets)


def packets(path: Path, kind: str) -> list[dict[str, Any]]:
    """Return time, size and hash of the packets of all streams of a kind: `a` or `s`."""
    entries = "packet=pts_time,duration_time,size,data_hash"
    found: list[dict[str, Any]] = probe(
        path, "-select_streams", kind, "-show_entries", entries, "-show_data_hash", "sha256"
    )["packets"]
    return found


def decoded(path: Path, pixel_format: str = "rgb24") -> np.ndarray:
    """Return what ffmpeg decodes: (N, H, W, 3) uint8, or (N, H * 3 / 2, W) for yuv420p."""
    stream = video_stream(path)
    width, height = stream["width"], stream["height"]
    options = ("-vsync", "passthrough", "-f", "rawvideo", "-pix_fmt", pixel_format)
    raw = _run("ffmpeg", "-noautorotate", "-i", path, *options, "-", binary=True)
    shape = (-1, height, width, 3) if pixel_format == "rgb24" else (-1, height * 3 // 2, width)
    return np.frombuffer(raw, np.uint8).reshape(shape)


def _run(program: str, *arguments: object, given: bytes | None = None, binary: bool = False) -> Any:
    command = [needs(program, "ffmpeg"), "-v", "error", *map(str, arguments)]
    done = subprocess.run(command, input=given, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout if binary else done.stdout.decode()
