"""`edgedenoise denoise - -o -` between other programs: an image comes out, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage

from edgedenoise.errors import UsageError

TINY = Path(__file__).resolve().parents[1] / "fixtures" / "tiny.edge"
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
PROGRAM = [sys.executable, "-m", "edgedenoise", "denoise", "-m", str(TINY)]
LOUD = """
import os, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            os.write(1, b"a library prints")
            print("and so does Python")
sys.meta_path.insert(0, Finder())
from edgedenoise.__main__ import main
main()
"""


def encoded(format_: str, **options: Any) -> bytes:
    stream = BytesIO()
    PILImage.fromarray(PIXELS).save(stream, format_, **options)
    return stream.getvalue()


def test_an_image_goes_through_a_pipe_of_the_shell(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded("JPEG", dpi=(240, 240), quality=80))
    line = f"cat a.jpg | {' '.join(PROGRAM)} - -o - -q | cat > b.jpg"
    done = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, check=True)  # noqa: S602
    assert (done.stdout, done.stderr) == (b"", b"")
    with PILImage.open(tmp_path / "a.jpg") as before, PILImage.open(tmp_path / "b.jpg") as after:
        assert (after.format, after.size, after.info["dpi"]) == ("JPEG", (50, 40), (240, 240))
        assert after.quantization == before.quantization


def test_what_libraries_print_is_not_in_the_image() -> None:
    command = [sys.executable, "-c", LOUD, *PROGRAM[3:], "-", "-o", "-"]
    done = subprocess.run(command, input=encoded("PNG"), capture_output=True, check=True)
    for text in (b"a library prints", b"and so does Python", b"denoised 1 of 1 with onnx"):
        assert text in done.stderr
    with PILImage.open(BytesIO(done.stdout)) as image:
        assert image.size == (50, 40)
    assert (done.stdout[:4], done.stdout[-8:-4]) == (b"\x89PNG", b"IEND")


def test_a_broken_pipe_ends_quietly() -> None:
    command = [*PROGRAM, "-", "-o", "-", "-q"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        child.stdin.write(encoded("PNG"))
        child.stdin.close()
        assert (child.stderr.read(), child.wait()) == (b"", 0)


@pytest.mark.skipif(os.name == "nt", reason="needs the pseudo-terminals of POSIX")
def test_terminals_are_refused() -> None:
    import pty

    terminal, side = pty.openpty()
    try:
        done = subprocess.run([*PROGRAM, "-", "-o", "-"], stdin=side, capture_output=True, text=True, check=False)
        assert done.returncode == UsageError.exit_code
        assert "the standard input is a terminal" in done.stderr
        command = [*PROGRAM, "-", "-o", "-"]
        done = subprocess.run(command, input="", stdout=side, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == UsageError.exit_code
        assert "the standard output is a terminal" in done.stderr
    finally:
        os.close(terminal)
        os.close(side)


def test_a_file_that_is_called_like_the_stream_is_named_by_its_folder(tmp_path: Path) -> None:
    (tmp_path / "-").write_bytes(encoded("PNG"))
    command = [*PROGRAM, "./-", "-o", "b.png", "--json", "-q"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    assert json.loads(done.stdout.splitlines()[0])["output"] == "b.png"
    assert (tmp_path / "b.png").is_file()
