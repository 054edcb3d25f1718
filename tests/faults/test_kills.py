"""Kills at random instants: what was written is the old one or the new one, and nothing else stays.

`make test` kills a few times; `make faults` sets EDGEDENOISE_KILLS to 200.
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

from edgedenoise import atomic
from edgedenoise.bundles.archive import pack
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.writer import BundleWriter
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.image import Image

if TYPE_CHECKING:
    from collections.abc import Callable

KILLS = int(os.environ.get("EDGEDENOISE_KILLS", "4"))
TINY = Path(__file__).resolve().parents[1] / "fixtures" / "tiny.edge"

CHANGE_A_BUNDLE = """
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.writer import BundleWriter
print("ready", flush=True)
for number in range(100000):
    with BundleWriter.edit(Bundle.open(target)) as writer:
        writer.write("note.txt", str(number).encode())
"""
WITHOUT_EXCHANGE = """
from edgedenoise import atomic
atomic.exchange = lambda one, other: False
"""
PACK_AN_ARCHIVE = """
from edgedenoise.bundles.archive import pack
print("ready", flush=True)
while True:
    pack(TINY, target)
"""
UNPACK_TO_THE_CACHE = """
from edgedenoise.atomic import remove_folder
from edgedenoise.bundles.archive_cache import unpack_to_cache
print("ready", flush=True)
while True:
    remove_folder(unpack_to_cache(target))
"""
WRITE_AN_IMAGE = """
from edgedenoise.imaging.files import read_image, write_image
image = read_image(target)
print("ready", flush=True)
while True:
    write_image(image, target)
"""
SAVE_A_CHECKPOINT = """
from edgedenoise.training.checkpoint import save_checkpoint
from edgedenoise.training.config.config import config_of
from edgedenoise.training.networks.families import build_network
config = config_of({"network": "cbsn-4x1", "data": "noisy", "first_weights": "he"}, where="it")
network = build_network(config.spec, seed=0)
save_checkpoint(target, config=config, step=0, network=network)
print("ready", flush=True)
for step in range(100000):
    save_checkpoint(target, config=config, step=step, network=network)
"""

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def kill_at_random(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Run code that writes `target` again and again, kill it at a random instant, and check what it left."""

    def kill(code: str, target: Path, check: Callable[[], object], kills: int = KILLS) -> None:
        chance = random.Random(0)  # noqa: S311 - not for secrets
        start = f"from pathlib import Path\ntarget, TINY = Path({str(target)!r}), Path({str(TINY)!r})\n"
        for _ in range(kills):
            with subprocess.Popen([sys.executable, "-c", start + code], stdout=subprocess.PIPE) as child:
                assert child.stdout is not None
                assert child.stdout.readline() == b"ready\n"
                time.sleep(chance.uniform(0, 0.3))
                child.kill()
            check()
        record_property("tries", kills)

    return kill


def remains(folder: Path) -> list[str]:
    """Return the names in a folder after the next command has written there."""
    atomic._swept.clear()  # as in a new process
    atomic.write_bytes(folder / "last.txt", b"")
    (folder / "last.txt").unlink()
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("how", ["exchange", "renames"])
def test_a_killed_change_leaves_the_old_bundle_or_the_new_one(
    tmp_path: Path, kill_at_random: Callable[..., None], how: str
) -> None:
    bundle = shutil.copytree(TINY, tmp_path / "b.edge")
    code = (WITHOUT_EXCHANGE if how == "renames" else "") + CHANGE_A_BUNDLE
    kill_at_random(code, bundle, lambda: Bundle.open(bundle).check())
    with BundleWriter.edit(Bundle.open(bundle)) as writer:
        writer.write("last.txt", b"")
    assert remains(tmp_path) == ["b.edge"]


def test_a_killed_pack_leaves_a_whole_archive(tmp_path: Path, kill_at_random: Callable[..., None]) -> None:
    archive = tmp_path / "b.zip"
    pack(TINY, archive)
    kill_at_random(PACK_AN_ARCHIVE, archive, lambda: Bundle.open(archive).check())
    assert remains(tmp_path) == ["b.zip"]


def test_a_kill_while_an_archive_is_unpacked_leaves_no_part_of_it_in_the_cache(
    tmp_path: Path, kill_at_random: Callable[..., None]
) -> None:
    archive = tmp_path / "b.zip"
    pack(TINY, archive)
    kill_at_random(UNPACK_TO_THE_CACHE, archive, lambda: Bundle.open(archive).check())
    assert len(remains(Bundle.open(archive).root.parent)) == 1


def test_a_killed_write_leaves_a_whole_image(tmp_path: Path, kill_at_random: Callable[..., None]) -> None:
    path = tmp_path / "a.png"
    write_image(Image(np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)), path)
    kill_at_random(WRITE_AN_IMAGE, path, lambda: read_image(path))
    assert remains(tmp_path) == ["a.png"]


def test_a_killed_training_leaves_a_whole_checkpoint(tmp_path: Path, kill_at_random: Callable[..., None]) -> None:
    pytest.importorskip("torch", reason='pip install "edgedenoise[train]"')
    from edgedenoise.training.checkpoint import read_checkpoint

    path = tmp_path / "checkpoint-last.safetensors"
    kill_at_random(SAVE_A_CHECKPOINT, path, lambda: read_checkpoint(path), -(-KILLS // 4))
    assert remains(tmp_path) == [path.name]
