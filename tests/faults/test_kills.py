"""Kills at random instants and full disks: the bundle is the old one or the new one, and nothing else stays.

`make test` kills a few times; `make faults` sets EDGEDENOISE_KILLS to 200.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgedenoise import atomic
from edgedenoise.bundles.archive import pack, unpack
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.writer import BundleWriter
from edgedenoise.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable

KILLS = int(os.environ.get("EDGEDENOISE_KILLS", "5"))
TINY = Path(__file__).resolve().parents[1] / "fixtures" / "tiny.edge"
CHANGES = """
import sys
from edgedenoise import atomic
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.writer import BundleWriter
if sys.argv[2] == "renames":
    atomic.exchange = lambda one, other: False
print("ready", flush=True)
for number in range(100000):
    with BundleWriter.edit(Bundle.open(sys.argv[1])) as writer:
        writer.write("note.txt", str(number).encode())
"""

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")


@pytest.mark.parametrize("how", ["exchange", "renames"])
def test_a_killed_change_leaves_the_old_bundle_or_the_new_one(tmp_path: Path, how: str) -> None:
    bundle = shutil.copytree(TINY, tmp_path / "b.edge")
    chance = random.Random(0)  # noqa: S311 - not for secrets
    for _ in range(KILLS):
        child = subprocess.Popen([sys.executable, "-c", CHANGES, str(bundle), how], stdout=subprocess.PIPE)
        with child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(chance.uniform(0, 0.3))
            child.kill()
        Bundle.open(bundle).check()
    atomic._swept.clear()  # as in a new process
    with BundleWriter.edit(Bundle.open(bundle)) as writer:
        writer.write("last.txt", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["b.edge"], "no remains"


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make the n-th write to a file fail, as on a full disk."""

    def fail_at(number: int) -> None:
        write_bytes, count = Path.write_bytes, [0]

        def write(self: Path, data: bytes) -> int:
            count[0] += 1
            if count[0] > number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write_bytes(self, data)

        monkeypatch.setattr(type(TINY), "write_bytes", write)

    return fail_at


@pytest.mark.parametrize("number", range(8))
def test_a_full_disk_during_a_change_is_an_error_of_ours_and_keeps_the_bundle(
    tmp_path: Path, number: int, full_disk: Callable[[int], None]
) -> None:
    bundle = shutil.copytree(TINY, tmp_path / "b.edge")
    opened = Bundle.open(bundle)
    full_disk(number)

    def change() -> None:
        with BundleWriter.edit(opened) as writer:
            writer.write("note.txt", b"")

    with pytest.raises(OutputError, match="No space left on device") as caught:
        change()
    assert "Free some space" in str(caught.value)
    Bundle.open(bundle).check()
    assert [path.name for path in tmp_path.iterdir()] == ["b.edge"]


def test_a_full_disk_while_an_archive_is_unpacked_leaves_nothing(
    tmp_path: Path, full_disk: Callable[[int], None]
) -> None:
    pack(TINY, tmp_path / "b.zip")
    full_disk(0)
    with pytest.raises(OutputError, match="No space left on device"):
        unpack(tmp_path / "b.zip", tmp_path / "out.edge")
    assert [path.name for path in tmp_path.iterdir()] == ["b.zip"]
