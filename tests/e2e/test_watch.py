"""`edgedenoise watch`: each image once, when it is complete, over restarts, until Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import edgedenoise
from edgedenoise.errors import DatasetError, OutputError, RuntimeUnavailableError, UsageError
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.image import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgedenoise.batch.results import FileResult

pytest.importorskip("watchfiles", reason='pip install "edgedenoise[watch]"')
TINY = Path(__file__).resolve().parents[1] / "fixtures" / "tiny.edge"


def photo(path: Path, seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    write_image(Image(pixels), path)
    return path


class Watch:
    """A watch in a process of its own, and its records."""

    def __init__(self, folder: Path, out: Path) -> None:
        command = [sys.executable, "-m", "edgedenoise", "watch", folder, out, "-m", TINY, "--settle", "0.2", "--json"]
        self.process = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder.parent
        )

    def record(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()
        return json.loads(line)

    def stop(self, number: int) -> Any:
        self.process.send_signal(number)
        out, err = self.process.communicate()
        assert self.process.returncode == 0, err
        assert "Traceback" not in err
        return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Any]:
    begun: list[Watch] = []

    def begin() -> Watch:
        begun.append(Watch(tmp_path / "in", tmp_path / "out"))
        return begun[-1]

    yield begin
    for one in begun:
        one.process.kill()
        one.process.communicate()


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_images_are_denoised_as_they_arrive_and_once_over_restarts(tmp_path: Path, watch: Any) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    photo(folder / "before.png")
    first = watch()
    assert first.record()["output"] == str(out / "before.png")
    photo(folder / "sub" / "deep" / "a.jpg", 1)  # a new folder, and a rename within it
    record = first.record()
    assert (record["source"], record["error"]) == (str(folder / "sub" / "deep" / "a.jpg"), None)
    assert read_image(out / "sub" / "deep" / "a.jpg").width == 50
    (folder / "bad.png").write_text("not an image")
    assert first.record()["error"]["error"] == "ImageError"
    with (folder / "slow.png").open("wb") as stream:  # in two parts
        data = photo(tmp_path / "whole.png", 2).read_bytes()
        stream.write(data[:1000])
        stream.flush()
        stream.write(data[1000:])
    assert first.record()["output"] == str(out / "slow.png")
    (summary,) = first.stop(signal.SIGINT)
    assert summary == {"record": "summary", "counts": {"denoised": 3, "failed": 1}}
    photo(folder / "while-away.png", 3)
    shutil.copyfile(photo(tmp_path / "c.png", 4), folder / "bad.png")
    second = watch()
    sources = {Path(second.record()["source"]).name for _ in range(2)}
    assert sources == {"bad.png", "while-away.png"}
    assert second.stop(signal.SIGTERM)[-1]["counts"] == {"denoised": 2, "failed": 0}


@pytest.mark.parametrize("poll", [False, True], ids=["events", "polling"])
def test_python_watches_until_an_event_is_set(tmp_path: Path, poll: bool) -> None:
    photo(tmp_path / "in" / "a.png")
    stop, results = threading.Event(), []

    def report(result: FileResult) -> None:
        results.append(result)
        if len(results) == 2:
            stop.set()
        else:
            photo(tmp_path / "in" / "b.png", 1)

    edgedenoise.watch(tmp_path / "in", tmp_path / "out", TINY, settle_s=0.05, poll=poll, stop=stop, on_result=report)
    assert [result.output for result in results] == [tmp_path / "out" / "a.png", tmp_path / "out" / "b.png"]
    expected = edgedenoise.denoise(read_image(tmp_path / "in" / "a.png"), TINY)
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "a.png").pixels, expected.pixels)


def test_a_folder_that_goes_away_ends_the_watch(tmp_path: Path) -> None:
    photo(tmp_path / "in" / "a.png")
    with pytest.raises(DatasetError, match="cannot be watched any more: it is gone"):
        edgedenoise.watch(
            tmp_path / "in",
            tmp_path / "out",
            TINY,
            settle_s=0.05,
            on_result=lambda result: shutil.rmtree(tmp_path / "in"),
        )


def test_an_output_folder_that_cannot_be_written_any_more_ends_the_watch_and_loses_no_image(tmp_path: Path) -> None:
    folder, out, results = tmp_path / "in", tmp_path / "out", []
    photo(folder / "a.png")

    def report(result: FileResult) -> None:
        results.append(result)
        if len(results) == 1:
            shutil.rmtree(out)
            out.touch()
            photo(folder / "b.png", 1)
            photo(folder / "c.png", 2)

    with pytest.raises(OutputError, match=r"in is not watched any more: .*out.b.png cannot be written") as caught:
        edgedenoise.watch(folder, out, TINY, settle_s=0.05, on_result=report)
    assert "start the watch again" in str(caught.value)
    assert [result.source.name for result in results if result.output] == ["a.png"]
    out.unlink()
    stop, again = threading.Event(), []

    def note(result: FileResult) -> None:
        again.append(result.output)
        if len(again) == 3:
            stop.set()

    edgedenoise.watch(folder, out, TINY, settle_s=0.05, stop=stop, on_result=note)
    assert sorted(again) == [out / "a.png", out / "b.png", out / "c.png"]


def test_without_watchfiles_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo(tmp_path / "in" / "a.png")
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(RuntimeUnavailableError, match=r"edgedenoise\[watch\]"):
        edgedenoise.watch(tmp_path / "in", tmp_path / "out", TINY)


def test_bad_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="there is no such folder"):
        edgedenoise.watch(tmp_path / "gone", tmp_path / "out", TINY)
    photo(tmp_path / "in" / "a.png")
    with pytest.raises(DatasetError, match="expected a folder of images, got a file"):
        edgedenoise.watch(tmp_path / "in" / "a.png", tmp_path / "out", TINY)
    with pytest.raises(UsageError, match="would be written to the watched folder"):
        edgedenoise.watch(tmp_path / "in", tmp_path / "in", TINY)
    with pytest.raises(UsageError, match="expected 0 seconds or more, got -1"):
        edgedenoise.watch(tmp_path / "in", tmp_path / "out", TINY, settle_s=-1)
    assert not (tmp_path / "out").exists()
    with pytest.raises(OutputError, match=r"out\.png cannot be written: expected a folder, got a file"):
        edgedenoise.watch(tmp_path / "in", photo(tmp_path / "out.png"), TINY)
