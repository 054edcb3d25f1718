"""A disk that is full at any write: an error of ours, what was there before, and nothing else."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from clips import decoded, make_clip

from edgedenoise.bundles.archive import pack, unpack
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.writer import BundleWriter
from edgedenoise.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable

TINY = Path(__file__).resolve().parents[1] / "fixtures" / "tiny.edge"
SCRIPT = Path(__file__).resolve().parents[1] / "support" / "full_disk_script.py"


def in_namespace(folder: Path, size: str, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command where `folder` is a file system of its own; skip where the system does not allow that."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed: apt-get install util-linux")
    mount = f'mount -t tmpfs -o size={size} none "$0" && echo mounted && exec "$@"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, str(folder), *command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_CACHE_HOME": str(folder.parent / "cache")},
    )
    if not done.stdout.startswith("mounted"):
        pytest.skip(f"the system does not allow a mount in a namespace: {done.stderr.strip()}")
    return done


@pytest.mark.parametrize("job", ["edit", "pack", "unpack", "image"])
def test_a_disk_that_is_full_at_any_page_loses_nothing(
    tmp_path: Path, job: str, record_property: Callable[[str, object], None]
) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    done = in_namespace(folder, "3m", [sys.executable, str(SCRIPT), str(folder), job])
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout.partition("\n")[2])
    assert counts["refused"] >= 5
    assert counts["succeeded"] >= 3
    record_property("tries", sum(counts.values()))


RECORD_A_CAMERA = """
import os, sys, threading
from pathlib import Path
from edgedenoise.errors import OutputError
from edgedenoise.video.live import StreamOptions, denoise_camera
folder, clip, bundle = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
def fill(stage, done, total, note=""):
    if done == 10:
        with (folder / "ballast").open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, 20 << 20)
try:
    denoise_camera(clip, bundle, out=folder / "out.mp4", stream=StreamOptions("block"), progress=fill, strength=0)
except OutputError as error:
    print(error)
print(*(path.name for path in folder.iterdir()))
import shutil
shutil.copy(folder / "out.mp4", sys.argv[4])
"""


def test_a_recording_is_finished_before_the_disk_is_full(tmp_path: Path) -> None:
    pytest.importorskip("av", reason='pip install "edgedenoise[video]"')
    clip = make_clip(tmp_path / "camera.mp4", "-c:v", "libx264", "-pix_fmt", "yuv420p", seconds=8)
    folder, kept = tmp_path / "disk", tmp_path / "kept.mp4"
    folder.mkdir()
    done = in_namespace(folder, "40m", [sys.executable, "-c", RECORD_A_CAMERA, *map(str, (folder, clip, TINY, kept))])
    assert done.returncode == 0, done.stderr
    assert f"the disk of {folder / 'out.mp4'} is nearly full: expected 32 MB" in done.stdout
    assert "holds the frames before" in done.stderr
    assert sorted(done.stdout.splitlines()[-1].split()) == ["ballast", "out.mp4"]
    assert 10 <= len(decoded(kept)) < 200


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make the n-th write to a file fail, as on a full disk; for systems without namespaces."""

    def fail_at(number: int) -> None:
        write_bytes, count = Path.write_bytes, [0]

        def write(self: Path, data: bytes) -> int:
            count[0] += 1
            if count[0] > number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write_bytes(self, data)

        monkeypatch.setattr(type(TINY), "write_bytes", write)

    return fail_at


@pytest.mark.parametrize("number", range(8))
def test_a_full_disk_during_a_change_is_an_error_of_ours_and_keeps_the_bundle(
    tmp_path: Path, number: int, full_disk: Callable[[int], None]
) -> None:
    bundle = shutil.copytree(TINY, tmp_path / "b.edge")
    opened = Bundle.open(bundle)
    full_disk(number)

    def change() -> None:
        with BundleWriter.edit(opened) as writer:
            writer.write("note.txt", b"")

    with pytest.raises(OutputError, match="No space left on device") as caught:
        change()
    assert "Free some space" in str(caught.value)
    Bundle.open(bundle).check()
    assert [path.name for path in tmp_path.iterdir()] == ["b.edge"]


def test_a_full_disk_while_an_archive_is_unpacked_leaves_nothing(
    tmp_path: Path, full_disk: Callable[[int], None]
) -> None:
    pack(TINY, tmp_path / "b.zip")
    full_disk(0)
    with pytest.raises(OutputError, match="No space left on device"):
        unpack(tmp_path / "b.zip", tmp_path / "out.edge")
    assert [path.name for path in tmp_path.iterdir()] == ["b.zip"]
