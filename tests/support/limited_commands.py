"""Run commands in one process under a limit, and print what each reported as JSON; started by a test.

    python limited_commands.py FOLDER LIMIT...

Each command runs once without a limit, so that everything is imported and the inputs of later ones exist, and then
under each limit. `FOLDER` holds the bundle `b.edge`, its archive `b.zip` and the images `noisy`. Limits are `handles`,
`permissions`, which takes the inputs and the folder of the outputs away, and `space`, where `FOLDER/full` is a disk
that becomes full; `space` comes last.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from shutil import copytree
from typing import TYPE_CHECKING

from typer.testing import CliRunner

from edgedenoise.cli import app

if TYPE_CHECKING:
    from collections.abc import Iterator


WATCHED_S = 1.0

NEEDS = {"torch": ("train", "evaluate", "export"), "openvino": ("compile",), "matplotlib": ("compare", "report")}
"""Packages that commands need."""


def commands(folder: Path, out: Path) -> dict[str, list[str]]:
    """Return the arguments of every command that reads or writes files, with outputs in `out`."""
    bundle, noisy, changed = str(folder / "b.edge"), str(folder / "noisy"), str(out / "copy.edge")
    run, results = str(folder / "before" / "run"), str(folder / "before" / "results.json")
    training = ["--network", "edge-tiny", "--objective", "supervised", "--steps", "1", "--patch", "32", "--batch", "1"]
    once = ["--shape", "32", "--repeats", "1"]
    given = {
        "train": ["train", "--clean", noisy, "--out", str(out / "run"), *training],
        "evaluate": ["evaluate", run, "--noisy", noisy, "--clean", noisy, "--keep", str(out / "kept")],
        "export": ["export", run, "-o", str(out / "exported.edge")],
        "denoise": ["denoise", noisy, "-m", bundle, "-o", str(out / "denoised"), "--overwrite"],
        "inspect": ["inspect", bundle],
        "verify": ["verify", bundle],
        "pack": ["pack", bundle, "-o", str(out / "b.zip")],
        "unpack": ["pack", str(folder / "b.zip"), "--unpack", "-o", str(out / "unpacked.edge")],
        "calibrate": ["calibrate", changed, "--data", noisy, "--count", "1", "--crop", "32"],
        "quantize": ["quantize", changed],
        "compile": ["compile", changed, "--target", "openvino"],
        "bench": ["bench", bundle, *once, "-o", str(out / "results.json")],
        "compare": ["compare", bundle, "--noisy", noisy, "--repeats", "1", "-o", str(out / "compare.html")],
        "test": ["test", bundle, *once, "-o", str(out / "test.json")],
        "report": ["report", results, "-o", str(out / "report.html")],
        "history": ["history", results],
        "doctor": ["doctor", "--data", noisy],
        "watch": ["watch", noisy, str(out / "watched"), "-m", bundle, "--settle", "0"],
    }
    missing = {name for package, names in NEEDS.items() if find_spec(package) is None for name in names}
    return {name: arguments for name, arguments in given.items() if name not in missing}


@contextmanager
def no_handles() -> Iterator[None]:
    """Leave the process no file handle."""
    gc.collect()  # a handle that is given back later would be one more
    before, held = resource.getrlimit(resource.RLIMIT_NOFILE), []
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    with suppress(OSError):
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    try:
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def full_disk(disk: Path) -> Iterator[None]:
    """Fill a disk."""
    with suppress(OSError), (disk / "ballast").open("ab") as stream:
        while True:
            stream.write(bytes(4096))
            stream.flush()
    yield


@contextmanager
def no_permissions(folder: Path, disk: Path) -> Iterator[None]:
    """Take the permissions to read the inputs and to write outputs away."""
    taken = [path for path in folder.rglob("*") if path.is_file()]
    modes = {path: path.stat().st_mode for path in (*taken, disk)}
    for path in taken:
        path.chmod(0)
    disk.chmod(0o500)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def run(arguments: list[str]) -> dict[str, object]:
    """Run a command, and return its exit code and output; `watch` is stopped as by Ctrl-C."""
    stop = threading.Timer(WATCHED_S, os.kill, (os.getpid(), signal.SIGINT))
    if arguments[0] == "watch":
        stop.start()
    try:
        result = CliRunner().invoke(app, arguments)
    finally:
        stop.cancel()
    return {"code": result.exit_code, "output": result.output, "error": repr(result.exception)}


def main(folder: Path, *names: str) -> None:
    """Run the commands."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored in the background
    disk = folder / "full"
    disk.mkdir(exist_ok=True)
    for out in (folder / "before", disk):
        copytree(folder / "b.edge", out / "copy.edge")
    for name, arguments in commands(folder, folder / "before").items():
        report = run(arguments)
        if report["code"] != 0:
            raise SystemExit(f"{name} fails without a limit: {report}")
    limits = {
        "handles": no_handles,
        "space": partial(full_disk, disk),
        "permissions": partial(no_permissions, folder, disk),
    }
    reports: dict[str, dict[str, object]] = {limit: {} for limit in names}
    for limit in names:
        for name, arguments in commands(folder, disk).items():
            with limits[limit]():  # anew for each command: the one before may have given something back
                reports[limit][name] = run(arguments)
    sys.stdout.write("\n" + json.dumps(reports))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
