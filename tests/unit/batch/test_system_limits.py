"""What the system refuses during a run (handles, space, permissions) costs single images, with our own errors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgedenoise.batch.run import denoise_files
from edgedenoise.errors import EdgeDenoiseError
from edgedenoise.imaging.files import write_image
from edgedenoise.imaging.image import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgedenoise.batch.results import BatchReport

resource = pytest.importorskip("resource", reason="only POSIX systems have limits per process")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        write_image(Image(pixels), tmp_path / "photos" / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture(params=[("RLIMIT_NOFILE", 3), ("RLIMIT_FSIZE", 1000)], ids=["handles", "space"])
def limit(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """A limit of the process, and a low value of it; the old value is restored after the test."""
    name, low = request.param
    kind = getattr(resource, name)
    before = resource.getrlimit(kind)
    yield kind, low
    resource.setrlimit(kind, before)


def run_until_refused(photos: Path, out: Path, bundle: Path, limit: tuple[int, int]) -> BatchReport:
    """Run with a limit that is lowered when the second image is denoised, and lifted at the end."""
    kind, low = limit
    before = resource.getrlimit(kind)

    def progress(stage: str, done: int, total: int, note: str = "") -> None:
        if stage == "denoise" and done == 1:
            resource.setrlimit(kind, (low, before[1]))
        elif stage == "denoise" and done == total:
            resource.setrlimit(kind, before)

    return denoise_files([photos], out, bundle, precision="fp32", progress=progress)


def test_a_run_that_meets_a_limit_goes_on_and_names_path_and_remedy(
    photos: Path, committed_bundle: Path, tmp_path: Path, limit: tuple[int, int]
) -> None:
    report = run_until_refused(photos, tmp_path / "out", committed_bundle, limit)
    assert len(report.files) == 8
    assert report.failures
    for failure in report.failures:
        assert isinstance(failure.error, EdgeDenoiseError)
        assert str(failure.source.name) in failure.error.message
        assert failure.error.hint
        assert "internal" not in str(failure.error)
        if limit[0] == resource.RLIMIT_NOFILE:
            assert "Too many open files" in failure.error.message
            assert "ulimit -n" in failure.error.hint
        else:
            assert "File too large" in failure.error.message
    written = {result.output.name for result in report.files if result.output is not None}
    assert {path.name for path in (tmp_path / "out").iterdir()} == written  # and nothing half-written


def test_a_file_that_may_not_be_read_is_named_with_the_remedy(
    photos: Path, committed_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "3.png":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    (failure,) = denoise_files([photos], tmp_path / "out", committed_bundle).failures
    assert str(failure.error).startswith(f"{photos / '3.png'} cannot be read: Permission denied")
    assert f"ls -ld {photos} {photos / '3.png'}" in str(failure.error)
