"""A folder run that was interrupted or killed is continued: each image is denoised once, and partial files are none."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgedenoise.errors import OutputError
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.image import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TINY = Path(__file__).resolve().parents[1] / "fixtures" / "tiny.edge"
COUNT = 8

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for seed in range(COUNT):
        pixels = np.random.default_rng(seed).integers(0, 256, (160, 160, 3), dtype=np.uint8)
        write_image(Image(pixels), tmp_path / "photos" / "sub" / f"{seed}.png")
    return tmp_path / "photos"


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "edgedenoise", *map(str, words)]


def records(lines: Iterator[str] | list[str], kind: str) -> list[Any]:
    return [record for record in map(json.loads, lines) if record["record"] == kind]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_a_run_that_was_stopped_is_continued(
    photos: Path, tmp_path: Path, number: signal.Signals, record_property: Callable[[str, object], None]
) -> None:
    out = tmp_path / "out"
    words = ("denoise", "-r", photos, "-o", out, "-m", TINY, "--json", "-q")
    with subprocess.Popen(
        command(*words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which is ignored in the background
    ) as child:
        assert child.stdout is not None
        first = child.stdout.readline()  # arrives while the run goes on
        child.send_signal(number)
        lines = [first, *child.stdout]
    finished = {record["source"] for record in records(lines, "file")}
    assert 1 <= len(finished) < COUNT
    again = f"edgedenoise {shlex.join(map(str, (*words, '--skip-existing')))}"
    if number == signal.SIGINT:
        assert child.returncode == 130
        (error,) = records(lines, "error")
        assert error["hint"] == f"Continue with: {again}"
    (out / "sub" / f".7.edn-00000000-{child.pid}-new-00000000.png").write_bytes(b"half a file")
    done = subprocess.run(command(*shlex.split(again)[1:]), capture_output=True, text=True, cwd=tmp_path, check=True)
    continued = {record["source"] for record in records(done.stdout.splitlines(), "file")}
    assert not continued & finished
    if number == signal.SIGINT:  # images that were being written are reported, too
        assert len(continued | finished) == COUNT
    assert {path.name for path in (out / "sub").glob("[!.]*")} == {f"{seed}.png" for seed in range(COUNT)}
    for seed in range(COUNT):
        assert read_image(out / "sub" / f"{seed}.png").width == 160
    record_property("tries", 1)


def test_without_an_option_what_exists_is_an_error_and_the_rest_is_done(photos: Path, tmp_path: Path) -> None:
    write_image(Image(np.zeros((4, 4, 3), np.uint8)), tmp_path / "out" / "0.png")
    words = ("denoise", photos / "sub", "-o", tmp_path / "out", "-m", TINY, "--json", "-q")
    done = subprocess.run(command(*words), capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == OutputError.exit_code
    first, *others = records(done.stdout.splitlines(), "file")
    assert first["error"]["error"] == "OutputError"
    assert len(others) == COUNT - 1
    assert read_image(tmp_path / "out" / "0.png").width == 4
