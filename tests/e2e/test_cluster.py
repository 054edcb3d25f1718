"""`engine="ray"` on two nodes: the results are those of one machine, also when a worker is killed in the middle."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import edgedenoise
from edgedenoise.errors import DeviceError, DeviceNotFoundError, RuntimeUnavailableError, UsageError
from edgedenoise.imaging.files import write_image
from edgedenoise.imaging.image import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgedenoise.batch.results import BatchReport, FileResult

    Contents = Callable[[Path], dict[str, bytes]]

TINY = Path(__file__).resolve().parents[1] / "fixtures" / "tiny.edge"
COUNT = 12
MARK = "EDGEDENOISE_TEST_CLUSTER"
HAS_PROC = Path("/proc/self/environ").exists()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray cluster of two nodes on this machine, whose processes carry a mark."""
    pytest.importorskip("ray", reason='pip install "edgedenoise[ray]"')
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    os.environ[MARK] = str(os.getpid())
    settings = {"num_cpus": 1, "object_store_memory": 80 << 20}
    begun = Cluster()
    try:
        for number in range(2):
            start = partial(begun.add_node, **settings, **({} if number else {"include_dashboard": False}))
            try:
                start()
            except Exception:  # Ray gives a node 30 seconds, which a busy machine may exceed
                start()
        os.environ["RAY_ADDRESS"] = begun.address
        yield begun
    finally:
        os.environ.pop("RAY_ADDRESS", None)
        begun.shutdown()
        del os.environ[MARK]


def workers() -> list[int]:
    """Return the processes of this test's cluster that run a worker."""
    mark = f"{MARK}={os.getpid()}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"ray::ClusterWorker" in (folder / "cmdline").read_bytes() and mark in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Images, one that is damaged, and one whose output exists."""
    for seed in range(COUNT):
        pixels = np.random.default_rng(seed).integers(0, 256, (192, 192, 3), dtype=np.uint8)
        write_image(Image(pixels), tmp_path / "photos" / "sub" / f"{seed:02}.png")
    (tmp_path / "photos" / "bad.png").write_text("not an image")
    write_image(Image(pixels), tmp_path / "photos" / "old.png")
    return tmp_path / "photos"


def outcome(report: BatchReport) -> list[tuple[Any, ...]]:
    """Return what a user sees of each file, without the folder of the outputs."""
    return [
        (
            file.source,
            file.output and file.output.name,
            type(file.error),
            file.error and file.error.message.replace("ray-out", "out"),
            file.variant,
            file.width,
        )
        for file in report.files
    ]


@pytest.mark.slow
@pytest.mark.skipif(not HAS_PROC, reason="the worker to kill is found in /proc, which only Linux has")
def test_nothing_is_lost_or_doubled_when_a_worker_is_killed(
    cluster: Any, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reports = {}
    seen: list[FileResult] = []

    def kill_one(result: FileResult) -> None:
        seen.append(result)
        if sum(one.output is not None for one in seen) == 1:
            running = workers()
            assert len(running) == 2, "one per node"
            os.kill(running[0], signal.SIGKILL)

    for out, engine, on_result in (("out", "local", lambda result: None), ("ray-out", "ray", kill_one)):
        (tmp_path / out).mkdir()
        (tmp_path / out / "old.png").write_bytes(b"old")
        with caplog.at_level(logging.WARNING, "edgedenoise"):
            reports[engine] = edgedenoise.denoise_files(
                [photos],
                tmp_path / out,
                TINY,
                recursive=True,
                precision="fp32",
                engine=engine,  # type: ignore[arg-type]
                on_result=on_result,
            )
    assert "images are denoised again" in caplog.text
    assert outcome(reports["ray"]) == outcome(reports["local"])
    assert reports["ray"].counts == reports["local"].counts
    assert reports["ray"].counts.denoised == COUNT
    assert Counter(result.source for result in seen) == Counter(result.source for result in reports["local"].files)
    written = {
        out: {path.relative_to(tmp_path / out): path.read_bytes() for path in (tmp_path / out).rglob("[!.]*.png")}
        for out in ("out", "ray-out")
    }
    assert written["ray-out"] == written["out"]
    assert len(written["out"]) == COUNT + 1
    assert workers() == [], "all workers have ended"


@pytest.mark.slow
def test_an_interrupted_run_leaves_whole_files_and_is_continued(cluster: Any, photos: Path, tmp_path: Path) -> None:
    out, seen = tmp_path / "out", []

    def interrupt(result: FileResult) -> None:
        seen.append(result.output)
        if len(seen) == 1:
            raise KeyboardInterrupt

    def denoise(**options: Any) -> BatchReport:
        return edgedenoise.denoise_files([photos / "sub"], out, TINY, engine="ray", **options)

    with pytest.raises(KeyboardInterrupt):
        denoise(on_result=interrupt)
    finished = {path.name for path in out.iterdir()}
    assert {output.name for output in seen} <= finished
    assert not [name for name in finished if name.startswith(".")], "nothing is half-written"
    report = denoise(existing="skip")
    assert (report.counts.denoised, report.counts.left_out) == (COUNT - len(finished), len(finished))
    assert len(list(out.iterdir())) == COUNT


@pytest.mark.slow
def test_the_command_writes_json_alone(cluster: Any, photos: Path, tmp_path: Path) -> None:
    names = [f"photos/sub/0{seed}.png" for seed in range(4)]
    command = [sys.executable, "-m", "edgedenoise", "denoise", *names, "-o", "out", "-m", str(TINY)]
    done = subprocess.run(
        [*command, "--engine", "ray", "--json", "-q"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    *files, summary = map(json.loads, done.stdout.splitlines())
    assert sorted(record["source"] for record in files) == names
    assert {record["output"] for record in files} == {f"out/0{seed}.png" for seed in range(4)}
    assert summary["counts"] == {"denoised": 4, "failed": 0, "left_out": 0}
    assert len(list((tmp_path / "out").glob("*.png"))) == 4


@pytest.mark.slow
def test_an_error_of_all_nodes_is_the_one_without_ray(cluster: Any, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DeviceNotFoundError):
        edgedenoise.denoise_files([photos], tmp_path / "out", TINY, device="cuda")
    with pytest.raises(DeviceNotFoundError):
        edgedenoise.denoise_files([photos], tmp_path / "out", TINY, device="cuda", engine="ray")


def test_a_cluster_that_is_not_there_is_named(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason='pip install "edgedenoise[ray]"')

    def refuse(**_: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance.\nMore lines.")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    with pytest.raises(DeviceError, match=r"Could not find any running Ray instance\.\n.*192\.0\.2\.1:6379"):
        edgedenoise.denoise_files([photos], tmp_path / "out", TINY, engine="ray")


def test_an_unknown_engine_is_named(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected local or ray, got 'dask'"):
        edgedenoise.denoise_files([photos], tmp_path / "out", TINY, engine="dask")  # type: ignore[arg-type]


def test_without_ray_the_error_names_the_extra(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RuntimeUnavailableError, match=r"edgedenoise\[ray\]"):
        edgedenoise.denoise_files([photos], tmp_path / "out", TINY, engine="ray")
