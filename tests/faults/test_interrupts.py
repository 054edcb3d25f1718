"""SIGINT and SIGTERM at any instant of a command, from its imports to its end.

A command ends with 0, or with 130 or 143, prints no traceback, leaves no temporary file, and loses nothing.
`make test` tries a few instants; `make faults` sets EDGEDENOISE_INTERRUPTS to 40 for each command.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.image import Image

if TYPE_CHECKING:
    from collections.abc import Callable

INTERRUPTS = int(os.environ.get("EDGEDENOISE_INTERRUPTS", "2"))
TINY = Path(__file__).resolve().parents[1] / "fixtures" / "tiny.edge"
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
NETWORK = ["--network", "cbsn-8x1", "--set", "data_check=off", "--set", "patch=40", "--set", "batch=1"]
COMMANDS = {
    "denoise": (["denoise", "noisy", "-o", "out", "-m", "b.edge", "--overwrite"], ()),
    "calibrate": (["calibrate", "b.edge", "--data", "noisy", "--count", "4", "--crop", "32"], ("onnx",)),
    "quantize": (["quantize", "b.edge"], ("onnx",)),
    "pack": (["pack", "b.edge", "-o", "b.zip"], ()),
    "train": (["train", "--data", "noisy", "--out", "run", "--steps", "4", *NETWORK], ("torch",)),
}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a bundle and a few noisy images."""
    shutil.copytree(TINY, tmp_path / "work" / "b.edge")
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (72, 80, 3), np.uint8)
        write_image(Image(pixels), tmp_path / "work" / "noisy" / f"{number}.png")
    return tmp_path / "work"


def started(folder: Path, arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "edgedenoise", *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_CACHE_HOME": str(folder.parent / "cache"), "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_an_interrupted_command_loses_nothing(
    folder: Path, name: str, record_property: Callable[[str, object], None]
) -> None:
    if name == "train" and "EDGEDENOISE_INTERRUPTS" not in os.environ:
        pytest.skip("takes minutes: make faults runs it")
    arguments, packages = COMMANDS[name]
    for package in packages:
        pytest.importorskip(package, reason=f"needs {package}: make test installs it")
    begun = time.monotonic()
    with started(folder, arguments) as whole:
        _, errors = whole.communicate()
    assert whole.returncode == 0, errors
    takes = time.monotonic() - begun
    chance = random.Random(name)  # noqa: S311 - not for secrets
    for _ in range(INTERRUPTS):
        shutil.rmtree(folder / "run", ignore_errors=True)
        sent = chance.choice(list(CODES))
        with started(folder, arguments) as child:
            time.sleep(chance.uniform(0.02, takes))
            child.send_signal(sent)
            _, errors = child.communicate()
        # Before Python runs, and for SIGTERM where nothing has to be saved, the system ends the process.
        assert child.returncode in {0, CODES[sent], -sent}, errors
        assert "Traceback" not in errors
        check_whole(folder)
    shutil.rmtree(folder / "run", ignore_errors=True)
    with started(folder, arguments) as last:
        _, errors = last.communicate()
    assert last.returncode == 0, errors
    left = [path.name for path in folder.rglob(".*") if ".edn-" in path.name]
    assert not left, "the next command removes what one that the system ended has left"
    record_property("tries", INTERRUPTS)


def check_whole(folder: Path) -> None:
    """Check that the bundle, the archive, the images and the checkpoint are whole."""
    Bundle.open(folder / "b.edge").check()
    if (folder / "b.zip").exists():
        Bundle.open(folder / "b.zip").check()
    for path in folder.glob("out/*.png"):
        read_image(path)
    checkpoint = folder / "run" / "checkpoint-last.safetensors"
    if checkpoint.exists():
        from edgedenoise.training.checkpoint import read_checkpoint

        read_checkpoint(checkpoint)
