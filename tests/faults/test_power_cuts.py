"""A power cut at any instant leaves the old bundle, archive or checkpoint, or the new one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from power_cuts import recorded, restore

from edgedenoise import atomic
from edgedenoise.bundles.archive import pack
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.writer import BundleWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from power_cuts import Tree

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads descriptors as Linux names them")
TINY = Path(__file__).resolve().parents[1] / "fixtures" / "tiny.edge"


@pytest.fixture(autouse=True)
def process_is_gone(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Make the process that wrote look ended to the commands after the power cut."""
    monkeypatch.setattr(atomic, "_runs", lambda pid: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def different(trees: list[Tree]) -> list[Tree]:
    return [tree for number, tree in enumerate(trees) if tree not in trees[:number]]


@pytest.mark.parametrize("how", ["exchange", "renames"])
def test_a_bundle_is_the_old_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, record_property: Callable[[str, object], None]
) -> None:
    disk_root = tmp_path / "disk"
    bundle = shutil.copytree(TINY, disk_root / "b.edge")
    old = Bundle.open(bundle).manifest.digest
    if how == "renames":
        monkeypatch.setattr(atomic, "exchange", lambda one, other: False)
    with recorded(disk_root, monkeypatch) as disk, BundleWriter.edit(Bundle.open(bundle)) as writer:
        writer.write("note.txt", b"a change")
    new = Bundle.open(bundle).manifest.digest
    seen = set()
    for tree in different(disk.after_cuts):
        found = Bundle.open(restore(tree, tmp_path / "after") / "b.edge")
        found.check()
        seen.add(found.manifest.digest)
    assert seen == {old, new}
    record_property("tries", len(disk.after_cuts))
    restored = Bundle.open(restore(disk.after_cuts[-2], tmp_path / "after") / "b.edge")
    assert restored.manifest.digest == new, "the command has reported success"


def test_an_archive_is_the_old_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    other = shutil.copytree(TINY, tmp_path / "other.edge")
    with BundleWriter.edit(Bundle.open(other)) as writer:
        writer.write("note.txt", b"a change")
    disk_root = tmp_path / "disk"
    disk_root.mkdir()
    pack(TINY, disk_root / "b.zip")
    with recorded(disk_root, monkeypatch) as disk:
        pack(other, disk_root / "b.zip")
    digests = [Bundle.open(path).manifest.digest for path in (TINY, other)]
    seen = [
        Bundle.open(restore(tree, tmp_path / "after") / "b.zip").manifest.digest for tree in different(disk.after_cuts)
    ]
    assert set(seen) == set(digests)
    record_property("tries", len(disk.after_cuts))
    assert disk.after_cuts[-2] == disk.after_cuts[-1], "everything is on the disk at the end"


def test_a_checkpoint_is_the_old_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    pytest.importorskip("torch", reason='pip install "edgedenoise[train]"')
    from edgedenoise.training.checkpoint import read_checkpoint, save_checkpoint
    from edgedenoise.training.config.config import config_of
    from edgedenoise.training.networks.families import build_network

    config = config_of({"network": "cbsn-4x1", "data": "noisy", "first_weights": "he"}, where="it")
    network = build_network(config.spec, seed=0)
    disk_root = tmp_path / "disk"
    disk_root.mkdir()

    def save(step: int) -> None:
        save_checkpoint(disk_root / "a.safetensors", config=config, step=step, network=network)

    save(1)
    with recorded(disk_root, monkeypatch) as disk:
        save(2)
    steps = [
        read_checkpoint(restore(tree, tmp_path / "after") / "a.safetensors").step for tree in different(disk.after_cuts)
    ]
    assert set(steps) == {1, 2}
    record_property("tries", len(disk.after_cuts))
    assert read_checkpoint(restore(disk.after_cuts[-2], tmp_path / "after") / "a.safetensors").step == 2


def test_the_layer_sees_what_was_not_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is renamed before it is synced would be found empty: the simulation must show that."""
    disk_root = tmp_path / "disk"
    disk_root.mkdir()
    (disk_root / "a.txt").write_bytes(b"old")
    with recorded(disk_root, monkeypatch) as disk:
        atomic.write_bytes(disk_root / "a.txt", b"new", durable=False)
    contents: list[Any] = [tree["a.txt"] for tree in disk.after_cuts]
    assert b"" in contents
    assert b"new" not in contents
