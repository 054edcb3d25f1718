"""`edgedenoise denoise` with videos: named ones are denoised, those in folders are left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from clips import make_clip, video_stream

from edgedenoise import errors

pytest.importorskip("av", reason='pip install "edgedenoise[video]"')

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from command_line import Run

X264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")


def test_the_command_denoises_videos_beside_images(
    run: Run, photo: Path, committed_bundle: Path, tmp_path: Path, contents: Callable[[Path], dict[str, bytes]]
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", *X264, seconds=0.08)
    done = run("denoise", clip, photo, "-o", tmp_path / "out", "-m", committed_bundle, "--codec", "hevc")
    assert done.code == 0, done.err
    assert done.out.startswith("denoised 2 of 2 with onnx-fp32")
    assert sorted(contents(tmp_path / "out")) == ["clip.mp4", photo.name]
    assert video_stream(tmp_path / "out" / "clip.mp4")["codec_name"] == "hevc"
    assert int((tmp_path / "out" / "clip.mp4").stat().st_mtime) == int(clip.stat().st_mtime)
    again = run("denoise", clip, "-o", tmp_path / "out" / "clip.mp4", "-m", committed_bundle)
    assert again.code == errors.OutputError.exit_code
    as_image = run("denoise", clip, "-o", tmp_path / "clip.png", "-m", committed_bundle)
    assert "clip.png cannot hold a video" in as_image.err


def test_a_folder_run_leaves_videos_out_and_says_how_to_denoise_them(
    run: Run, photo: Path, committed_bundle: Path, tmp_path: Path
) -> None:
    (photo.parent / "clip.MP4").touch()
    done = run("denoise", photo.parent, "-o", tmp_path / "out", "-m", committed_bundle)
    assert done.code == 0
    assert f"left out 1 (a video: name the file itself to denoise it): {photo.parent / 'clip.MP4'}" in done.err
