"""`edgedenoise camera`, with a file as the camera."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from clips import make_clip

pytest.importorskip("av", reason='pip install "edgedenoise[video]"')

if TYPE_CHECKING:
    from pathlib import Path

    from command_line import Run


def test_the_stream_is_reported_as_json(run: Run, committed_bundle: Path, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "camera.mp4", "-c:v", "libx264", "-pix_fmt", "yuv420p", seconds=0.4)
    done = run("camera", clip, "-m", committed_bundle, "--policy", "block", "--json", "-q")
    assert done.code == 0, done.err
    found = done.json()
    assert (found["captured"], found["processed"]) == (10, 10)
    assert found["frames_per_second"] == pytest.approx(10 / found["seconds"])
    assert found["latency_ms"]["p50"] > 0
