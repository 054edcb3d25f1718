"""Files of a watched folder are complete when they have settled, and done when their output is not older."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from edgedenoise.batch.arrivals import Arrivals, is_being_written

if TYPE_CHECKING:
    from pathlib import Path

SETTLE_S = 2.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    return tmp_path / "in"


@pytest.fixture
def arrivals(folder: Path, tmp_path: Path) -> Arrivals:
    return Arrivals(folder, tmp_path / "out", SETTLE_S)


def names(arrivals: Arrivals, now_s: float) -> list[str]:
    return [arrival.path.name for arrival in arrivals.complete(now_s)]


def test_a_file_is_complete_once_its_size_and_time_have_settled(arrivals: Arrivals, folder: Path) -> None:
    path = folder / "a.png"
    path.write_bytes(b"the first part")
    arrivals.notice([path], 0)
    assert names(arrivals, 1.9) == []
    path.write_bytes(b"the first part and the second one")
    assert names(arrivals, 2.0) == []
    assert names(arrivals, 3.9) == []
    os.utime(path, (0, 0))
    assert names(arrivals, 4.0) == []
    assert names(arrivals, 6.0) == ["a.png"]
    assert names(arrivals, 99) == []


def test_a_file_that_changes_after_it_was_handled_is_new_again(arrivals: Arrivals, folder: Path) -> None:
    path = folder / "a.png"
    path.write_bytes(b"old")
    arrivals.notice([path], 0)
    assert names(arrivals, 2) == ["a.png"]
    arrivals.notice([path], 3)
    assert names(arrivals, 9) == []
    path.write_bytes(b"another content")
    arrivals.notice([path], 10)
    assert names(arrivals, 12) == ["a.png"]
    path.unlink()
    arrivals.notice([path], 13)
    path.write_bytes(b"another content")
    arrivals.notice([path], 14)
    assert names(arrivals, 16) == ["a.png"]


def test_a_file_is_done_when_its_output_is_not_older(arrivals: Arrivals, folder: Path, tmp_path: Path) -> None:
    outputs = tmp_path / "out" / "sub"
    outputs.mkdir(parents=True)
    for name, age_s in (("done.png", 0), ("edited.png", -50), ("old.png", 10)):
        (folder / "sub" / name).write_bytes(b"input")
        os.utime(folder / "sub" / name, (1000, 1000))
        (outputs / name).write_bytes(b"output")
        os.utime(outputs / name, (1000 - age_s, 1000 - age_s))
    (folder / "sub" / "new.png").write_bytes(b"input")
    (outputs / ".new.edn-00000000-1-new-00000000.png").write_bytes(b"half an output")
    arrivals.notice([folder], 0)
    found = arrivals.complete(2)
    assert [arrival.path.name for arrival in found] == ["new.png", "old.png"]
    assert [arrival.output for arrival in found] == [outputs / "new.png", outputs / "old.png"]


def test_only_images_are_waited_for_and_never_outputs(folder: Path) -> None:
    arrivals = Arrivals(folder, folder / "out", SETTLE_S)
    for name in ("a.txt", ".hidden.png", ".sync/b.png", "out/c.png", "d.JPG", "sub/e.nef"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    for changed in ([folder], list(folder.rglob("*"))):
        arrivals.notice(changed, 0)
    found = arrivals.complete(2)
    assert [arrival.path.name for arrival in found] == ["d.JPG", "e.nef"]
    assert found[1].output == folder / "out" / "sub" / "e.tif"


def test_a_folder_that_is_moved_in_arrives_with_its_files(arrivals: Arrivals, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "trip" / "day 1").mkdir(parents=True)
    (tmp_path / "trip" / "day 1" / "a.png").touch()
    (tmp_path / "trip").rename(folder / "trip")
    arrivals.notice([folder / "trip"], 0)
    assert names(arrivals, 2) == ["a.png"]


def test_a_second_file_for_one_output_is_an_error_also_when_the_first_is_done(
    arrivals: Arrivals, folder: Path, tmp_path: Path
) -> None:
    (folder / "a.nef").touch()
    (folder / "a.tif").touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.tif").touch()
    arrivals.notice([folder], 0)
    (found,) = arrivals.complete(2)
    assert found.path == folder / "a.tif"
    assert f"would both be written to {tmp_path / 'out' / 'a.tif'}" in str(found.error)
    (folder / "a.nef").unlink()
    arrivals.notice([folder / "a.nef"], 3)
    os.utime(folder / "a.tif", (99, 99))
    arrivals.notice([folder / "a.tif"], 3)
    assert [arrival.error for arrival in arrivals.complete(5)] == [None]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports who writes a file")
def test_a_file_that_another_program_writes_is_not_complete(arrivals: Arrivals, folder: Path) -> None:
    path = folder / "a.png"
    program = "import sys; file = open(sys.argv[1], 'w'); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        if not is_being_written(path):
            writer.terminate()
            pytest.skip("the file system of the temporary folder has no leases")
        arrivals.notice([path], 0)
        assert names(arrivals, 99) == []
        writer.communicate(b"")
    assert not is_being_written(path)
    assert names(arrivals, 99) == ["a.png"]


def test_a_file_that_is_gone_is_not_being_written(tmp_path: Path) -> None:
    assert not is_being_written(tmp_path / "gone.png")
