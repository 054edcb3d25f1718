"""Run commands in one process under a limit, and print what each reported as JSON; started by a test.

    python limited_commands.py FOLDER LIMIT

Each command runs once without the limit, so that everything is imported, and then with it. `FOLDER` holds the bundle
`b.edge` and the images `noisy`; where the limit is `space`, `FOLDER/full` is a full disk.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from typer.testing import CliRunner

from edgedenoise.cli import app

if TYPE_CHECKING:
    from collections.abc import Iterator


def commands(folder: Path, out: Path) -> dict[str, list[str]]:
    """Return the arguments of every command that reads or writes files without training, with outputs in `out`."""
    bundle, noisy = str(folder / "b.edge"), str(folder / "noisy")
    return {
        "denoise": ["denoise", noisy, "-m", bundle, "-o", str(out / "denoised"), "--overwrite"],
        "inspect": ["inspect", bundle],
        "verify": ["verify", bundle],
        "pack": ["pack", bundle, "-o", str(out / "b.zip")],
        "unpack": ["pack", str(folder / "b.zip"), "--unpack", "-o", str(out / "unpacked.edge")],
        "quantize": ["quantize", str(out / "copy.edge")],
    }


@contextmanager
def no_handles() -> Iterator[None]:
    """Leave the process no file handle."""
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
    with suppress(OSError), (disk / "ballast").open("wb") as stream:
        while True:
            stream.write(bytes(4096))
            stream.flush()
    yield


def main(folder: Path, limit: str) -> None:
    """Run the commands."""
    from shutil import copytree, rmtree

    disk = folder / "full"
    disk.mkdir(exist_ok=True)
    copytree(folder / "b.edge", disk / "copy.edge", dirs_exist_ok=True)
    reports = {}
    given = commands(folder, disk)
    for arguments in given.values():
        CliRunner().invoke(app, arguments)
    for name in ("denoised", "b.zip", "unpacked.edge"):
        rmtree(disk / name, ignore_errors=True)
        (disk / name).unlink(missing_ok=True)
    with no_handles() if limit == "handles" else full_disk(disk):
        found = {name: CliRunner().invoke(app, arguments) for name, arguments in given.items()}
    for name, result in found.items():
        reports[name] = {"code": result.exit_code, "output": result.output, "error": repr(result.exception)}
    sys.stdout.write("\n" + json.dumps(reports))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
