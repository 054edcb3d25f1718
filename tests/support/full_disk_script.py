"""Run one job on a file system of 2 MB that is filled to every number of free pages; started by a test in a namespace.

    python full_disk_script.py FOLDER JOB

The folder is a tmpfs. For each number of free pages, from none to enough, the job either succeeds, or ends with an
error of ours and leaves what was there before. The result is printed as JSON: how often each happened.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from edgedenoise import atomic
from edgedenoise.bundles.archive import pack, unpack
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.writer import BundleWriter
from edgedenoise.errors import EdgeDenoiseError
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.image import Image

TINY = Path(__file__).resolve().parents[1] / "fixtures" / "tiny.edge"
PAGE = 4096
PIXELS = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)


def run_edit(folder: Path) -> None:
    with BundleWriter.edit(Bundle.open(folder / "b.edge")) as writer:
        writer.write("note.txt", os.urandom(9000))


def run_pack(folder: Path) -> None:
    pack(folder / "b.edge", folder / "b.zip")


def run_unpack(folder: Path) -> None:
    unpack(folder / "c.zip", folder / "out.edge")


def run_image(folder: Path) -> None:
    write_image(Image(PIXELS), folder / "a.png")


JOBS = {"edit": run_edit, "pack": run_pack, "unpack": run_unpack, "image": run_image}


def prepare(folder: Path) -> None:
    """Write what the jobs change."""
    shutil.copytree(TINY, folder / "b.edge")
    pack(TINY, folder / "b.zip")
    pack(TINY, folder / "c.zip")
    write_image(Image(PIXELS), folder / "a.png")


def check(folder: Path, *, done: bool) -> None:
    """Check that everything is whole, and that nothing else is there."""
    for name in ("b.edge", "b.zip", "c.zip"):
        Bundle.open(folder / name).check()
    read_image(folder / "a.png")
    known = {"b.edge", "b.zip", "c.zip", "a.png", "ballast"}
    others = {path.name for path in folder.iterdir()} - known
    if others - ({"out.edge"} if done else set()):
        raise SystemExit(f"these remain: {sorted(others)}")


def main(folder: Path, job: str) -> None:
    """Run the job with every number of free pages until it succeeds three times in a row."""
    prepare(folder)
    counts: Counter[str] = Counter()
    ballast, successes, free = folder / "ballast", 0, 0
    while successes < 3:
        ballast.unlink(missing_ok=True)
        shutil.rmtree(folder / "out.edge", ignore_errors=True)
        system = os.statvfs(folder)
        size = system.f_bavail * system.f_frsize - free * PAGE
        if size < 0:
            raise SystemExit("the job does not succeed on an empty disk")
        with ballast.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, size)
        atomic._swept.clear()
        try:
            JOBS[job](folder)
        except EdgeDenoiseError as error:
            if "No space left on device" not in error.message or "Free some space" not in (error.hint or ""):
                raise
            successes, done = 0, False
            counts["refused"] += 1
        else:
            successes, done = successes + 1, True
            counts["succeeded"] += 1
        check(folder, done=done)
        free += 1 if job == "image" else 3
    sys.stdout.write(json.dumps(counts))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
