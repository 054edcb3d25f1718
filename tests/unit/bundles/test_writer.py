"""The writer records what it added and nothing else, and never writes over something that is not a bundle."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import msgspec
import pytest
from manifests import rewrite_manifest
from typer.testing import CliRunner

import edgedenoise
from edgedenoise.bundles.archive import pack, unpack
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.manifest import Variant
from edgedenoise.bundles.manifest_json import MANIFEST
from edgedenoise.bundles.model_card import model_card
from edgedenoise.bundles.writer import BundleWriter, check_replaceable, copy_bundle
from edgedenoise.cli import app
from edgedenoise.denoiser import load
from edgedenoise.errors import BundleError, IncompatibleError, ManifestError

if TYPE_CHECKING:
    from pathlib import Path

STRAYS = (".DS_Store", "onnx-fp32/.DS_Store", "onnx-fp32/model.onnx~", "Thumbs.db")


@pytest.fixture
def littered(tiny_bundle: Path) -> Path:
    """A bundle folder that a file manager and an editor have visited."""
    for name in STRAYS:
        (tiny_bundle / name).write_bytes(b"one")
    return tiny_bundle


def test_stray_files_are_not_recorded_and_do_not_break_the_bundle_when_they_change(littered: Path) -> None:
    with BundleWriter.edit(Bundle.open(littered)) as writer:
        writer.write("note.txt", b"")
        float_variant = writer.manifest.variants[0]
        writer.put_variant(msgspec.structs.replace(float_variant, fidelity_db=None))  # its folder is recorded anew
    bundle = Bundle.open(littered)
    assert not set(STRAYS) & set(bundle.manifest.files)
    assert bundle.has("onnx-fp32/model.onnx")
    assert bundle.strays() == sorted(STRAYS), "the user's files stay where they were"
    for name in STRAYS:
        (littered / name).write_bytes(b"two!")
    bundle.check()
    with BundleWriter.edit(bundle):
        pass
    Bundle.open(littered).check()


def test_stray_files_are_neither_packed_nor_copied(littered: Path, committed_bundle: Path, tmp_path: Path) -> None:
    pack(littered, tmp_path / "littered.zip")
    pack(committed_bundle, tmp_path / "clean.zip")
    assert (tmp_path / "littered.zip").read_bytes() == (tmp_path / "clean.zip").read_bytes()
    copy_bundle(Bundle.open(littered), tmp_path / "copy.edge")
    assert Bundle.open(tmp_path / "copy.edge").strays() == []
    Bundle.open(tmp_path / "copy.edge").check()


def test_verify_names_stray_files_and_variants_of_a_newer_version(littered: Path) -> None:
    variants = json.loads((littered / MANIFEST).read_bytes())["variants"]
    int4 = {"name": "x-int4", "runtime": "newer", "precision": "int4", "path": "x-int4/m.bin"}
    rewrite_manifest(littered, variants=[*variants, int4])
    report = edgedenoise.verify(littered)
    assert report.passed
    assert report.strays == tuple(sorted(STRAYS))
    assert [text.partition(":")[0] for text in report.unknown] == ["x-int4"]
    shown = CliRunner().invoke(app, ["verify", str(littered)]).stdout
    assert "not part of the bundle: Thumbs.db" in shown
    assert "cannot be read by this version: x-int4" in shown


def test_every_file_in_the_folder_of_a_new_variant_is_recorded(tiny_bundle: Path) -> None:
    with BundleWriter.edit(Bundle.open(tiny_bundle)) as writer:
        writer.path("fresh/model.xml").write_bytes(b"<net/>")
        (writer.root / "fresh" / "model.bin").write_bytes(b"written by another library")
        writer.put_variant(Variant("fresh", "openvino", "fp32", "fresh/model.xml"))
    assert sorted(Bundle.open(tiny_bundle).variant_records(Bundle.open(tiny_bundle).variant("fresh"))) == [
        "fresh/model.bin",
        "fresh/model.xml",
    ]


def test_sealing_again_without_a_change_writes_nothing(tiny_bundle: Path) -> None:
    with BundleWriter.edit(Bundle.open(tiny_bundle)) as writer:
        writer.write("note.txt", b"one")
        first = writer.seal()
        (writer.root / MANIFEST).unlink()
        assert writer.seal().manifest == first.manifest
        assert not (writer.root / MANIFEST).exists()
        writer.write("note.txt", b"two")


def add(bundle: Bundle, name: str) -> None:
    with BundleWriter.edit(bundle) as writer:
        writer.write(name, b"")


def test_two_commands_do_not_write_one_bundle_at_once(tiny_bundle: Path) -> None:
    with BundleWriter.edit(Bundle.open(tiny_bundle)) as first:
        with pytest.raises(BundleError, match="is being written by another command") as caught:
            add(Bundle.open(tiny_bundle), "second.txt")
        assert "Wait until" in str(caught.value)
        with pytest.raises(BundleError, match="is being written"):
            copy_bundle(Bundle.open(tiny_bundle), tiny_bundle)
        first.write("first.txt", b"")
    add(Bundle.open(tiny_bundle), "second.txt")
    assert {"first.txt", "second.txt"} <= set(Bundle.open(tiny_bundle).manifest.files)
    assert [path.name for path in tiny_bundle.parent.iterdir()] == [tiny_bundle.name], "no lock stays"


def test_a_change_since_the_bundle_was_opened_is_not_overwritten(tiny_bundle: Path) -> None:
    opened_before = Bundle.open(tiny_bundle)
    add(Bundle.open(tiny_bundle), "first.txt")
    with pytest.raises(BundleError, match="changed by another command"):
        add(opened_before, "second.txt")
    assert Bundle.open(tiny_bundle).has("first.txt")


WRITER = """
import sys, time
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.writer import BundleWriter
from edgedenoise.errors import BundleError
for attempt in range(500):
    try:
        with BundleWriter.edit(Bundle.open(sys.argv[1])) as writer:
            writer.write(sys.argv[2], b"")
        break
    except BundleError:
        time.sleep(0.05)  # another one writes
else:
    sys.exit("the bundle was never free")
"""


def test_no_update_of_six_processes_is_lost(tiny_bundle: Path) -> None:
    names = [f"{number}.txt" for number in range(6)]
    running = [subprocess.Popen([sys.executable, "-c", WRITER, str(tiny_bundle), name]) for name in names]
    assert [process.wait(timeout=300) for process in running] == [0] * 6
    bundle = Bundle.open(tiny_bundle)
    bundle.check()
    assert set(names) <= set(bundle.manifest.files)


# ---------------------------------------------------------------- what is not a bundle is not overwritten


def test_pack_does_not_overwrite_an_unrelated_file(tiny_bundle: Path, tmp_path: Path) -> None:
    thesis, photos = tmp_path / "thesis.txt", tmp_path / "photos.zip"
    thesis.write_text("important")
    with zipfile.ZipFile(photos, "w") as archive:
        archive.writestr("holiday.jpg", b"irreplaceable")
    for target in (thesis, photos):
        before = target.read_bytes()
        result = CliRunner().invoke(app, ["pack", str(tiny_bundle), "-o", str(target)])
        assert result.exit_code == BundleError.exit_code, result.output
        assert target.read_bytes() == before
    pack(tiny_bundle, tmp_path / "bundle.zip")
    pack(tiny_bundle, tmp_path / "bundle.zip")
    unpack(tmp_path / "bundle.zip", tmp_path / "again.edge")


def test_a_folder_with_a_manifest_of_another_program_is_not_a_bundle(tmp_path: Path) -> None:
    extension = tmp_path / "extension"
    extension.mkdir()
    (extension / MANIFEST).write_text('{"manifest_version": 3, "name": "a browser extension"}')
    with pytest.raises(BundleError, match="is not a bundle, so it is not overwritten"):
        check_replaceable(extension)


# ---------------------------------------------------------------- bundles of newer versions


@pytest.fixture
def newer(tiny_bundle: Path) -> Path:
    """A bundle with one variant whose precision only a newer version knows."""
    variants = json.loads((tiny_bundle / MANIFEST).read_bytes())["variants"]
    int4 = {"name": "x-int4", "runtime": "newer", "precision": "int4", "path": "x-int4/m.bin", "novel": [1, 2]}
    rewrite_manifest(tiny_bundle, variants=[*variants, int4])
    return tiny_bundle


def test_a_variant_of_a_newer_version_is_listed_and_the_others_work(newer: Path) -> None:
    bundle = Bundle.open(newer)
    assert [v.name for v in bundle.manifest.variants] == ["onnx-fp32", "onnx-int8-u8s7"]
    assert [(u.name, u.precision) for u in bundle.unknown_variants] == [("x-int4", "int4")]
    with load(newer) as denoiser:
        assert denoiser.variant.name.startswith("onnx-")
    with pytest.raises(IncompatibleError, match="cannot read the variant 'x-int4'"):
        bundle.variant("x-int4")
    result = CliRunner().invoke(app, ["inspect", str(newer)])
    assert "x-int4" in result.stdout
    assert "unknown to this version" in result.stdout


def test_a_change_keeps_the_variants_of_a_newer_version_as_they_were(newer: Path) -> None:
    before = json.loads((newer / MANIFEST).read_bytes())["variants"][-1]
    with BundleWriter.edit(Bundle.open(newer)) as writer:
        writer.write("note.txt", b"")
    assert json.loads((newer / MANIFEST).read_bytes())["variants"][-1] == before
    assert [u.name for u in Bundle.open(newer).unknown_variants] == ["x-int4"]


@pytest.mark.parametrize("entry", [{"name": "x"}, {"name": "../x", "runtime": "a", "precision": "int4", "path": "x"}])
def test_what_no_version_writes_is_not_taken_for_a_newer_variant(tiny_bundle: Path, entry: dict[str, str]) -> None:
    rewrite_manifest(tiny_bundle, variants=[entry])
    with pytest.raises(ManifestError, match="cannot be read"):
        Bundle.open(tiny_bundle)


# ---------------------------------------------------------------- the model card


@pytest.mark.parametrize(("count", "words"), [(1, "one size"), (2, "worst of 2 sizes"), (5, "worst of 5 sizes")])
def test_the_model_card_says_how_many_sizes_were_compared(committed_bundle: Path, count: int, words: str) -> None:
    manifest = Bundle.open(committed_bundle).manifest
    assert manifest.parity is not None
    parity = msgspec.structs.replace(manifest.parity, sizes=[(64, 64 + i) for i in range(count)])
    assert words in model_card(msgspec.structs.replace(manifest, parity=parity))
