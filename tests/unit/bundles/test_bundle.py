"""A bundle is exactly what was written, or it is refused; and it changes entirely, or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from manifests import rewrite_manifest

from edgedenoise.bundles.archive import pack
from edgedenoise.bundles.bundle import MANIFEST, Bundle, checked_precision
from edgedenoise.bundles.manifest import SCHEMA, NoiseLevel, Variant, embedded_metadata
from edgedenoise.bundles.manifest_json import write_manifest
from edgedenoise.bundles.writer import BundleWriter, check_editable, editable_copy
from edgedenoise.denoiser import denoise, load
from edgedenoise.errors import (
    BundleError,
    IncompatibleError,
    InferenceError,
    IntegrityError,
    ManifestError,
    UsageError,
)
from edgedenoise.runtimes.opening import open_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import FlipByte

    Contents = Callable[[Path], dict[str, bytes]]

COMMITTED = Path(__file__).resolve().parents[2] / "fixtures" / "tiny.edge"
EVERY_FILE = sorted(path.relative_to(COMMITTED).as_posix() for path in COMMITTED.rglob("*") if path.is_file())
RECORDED = [name for name in EVERY_FILE if name != MANIFEST]

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


# ---------------------------------------------------------------- opening


def test_a_folder_tells_what_the_network_needs(committed_bundle: Path) -> None:
    bundle = Bundle.open(committed_bundle)
    bundle.check()
    assert bundle.manifest.schema == SCHEMA
    assert bundle.manifest.tiling.halo_px == 8
    assert [v.name for v in bundle.manifest.variants] == ["onnx-fp32", "onnx-int8-u8s7"]
    assert sorted(bundle.manifest.files) == RECORDED
    assert bundle.variant("onnx-fp32").precision == "fp32"


def test_folder_archive_and_lone_file_give_the_same_pixels(tiny_bundle: Path, tmp_path: Path) -> None:
    archive = tmp_path / "tiny.zip"
    pack(tiny_bundle, archive)
    lone = tmp_path / "alone" / "renamed.onnx"
    lone.parent.mkdir()
    shutil.copy(tiny_bundle / "onnx-fp32" / "model.onnx", lone)
    expected = denoise(PICTURE, tiny_bundle, precision="fp32")
    np.testing.assert_array_equal(denoise(PICTURE, archive, precision="fp32"), expected)
    np.testing.assert_array_equal(denoise(PICTURE, lone), expected)
    assert not np.array_equal(expected, PICTURE)


def test_a_lone_file_knows_its_network_but_has_nothing_to_be_checked_by(tiny_bundle: Path) -> None:
    bundle = open_model(tiny_bundle / "onnx-int8-u8s7" / "model.onnx")
    whole = Bundle.open(tiny_bundle).manifest
    assert bundle.is_lone_file
    assert bundle.manifest.tiling == whole.tiling
    assert bundle.manifest.network == whole.network
    assert bundle.manifest.normalization == whole.normalization
    assert [v.precision for v in bundle.manifest.variants] == ["int8"]


def test_an_archive_is_unpacked_once_into_the_cache(
    tiny_bundle: Path, tmp_path: Path, user_cache: Path, contents: Contents
) -> None:
    pack(tiny_bundle, tmp_path / "tiny.zip")
    first = Bundle.open(tmp_path / "tiny.zip")
    written = (first.root / MANIFEST).stat().st_mtime_ns
    again = Bundle.open(tmp_path / "tiny.zip")
    assert first.root.is_relative_to(user_cache)
    assert again.root == first.root
    assert (again.root / MANIFEST).stat().st_mtime_ns == written
    assert contents(first.root) == contents(tiny_bundle)


def test_what_is_no_bundle_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"there is no bundle at .*nowhere") as caught:
        Bundle.open(tmp_path / "nowhere.edge")
    assert "edgedenoise build" in str(caught.value)
    with pytest.raises(ManifestError, match=r"is not a bundle: it has no manifest\.json") as unmade:
        Bundle.open(tmp_path)
    assert unmade.value.hint == f"To make one of a training run: edgedenoise export {tmp_path} -o {tmp_path.name}.edge"
    (tmp_path / "notes.txt").write_text("no zip")
    with pytest.raises(IntegrityError, match=r"notes\.txt is not a bundle that can be read"):
        Bundle.open(tmp_path / "notes.txt")


def test_a_lone_file_without_our_metadata_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(ManifestError, match="carries no edgedenoise metadata"):
        Bundle.from_metadata(tiny_bundle / "onnx-fp32" / "model.onnx", None)
    with pytest.raises(ManifestError, match="cannot be read"):
        Bundle.from_metadata(tiny_bundle / "onnx-fp32" / "model.onnx", '{"schema": 1}')
    broken = tiny_bundle / "broken.onnx"
    broken.write_bytes(b"this is not ONNX")
    with pytest.raises(InferenceError, match=r"cannot open .*broken\.onnx"):
        open_model(broken)


# ---------------------------------------------------------------- integrity


@pytest.mark.parametrize("name", EVERY_FILE)
def test_one_changed_byte_anywhere_is_noticed(tiny_bundle: Path, name: str, flip_byte: FlipByte) -> None:
    size = (tiny_bundle / name).stat().st_size
    for position in (0, size // 3, size // 2, size - 1):
        flip_byte(tiny_bundle / name, position)
        with pytest.raises((ManifestError, IntegrityError)) as caught:
            Bundle.open(tiny_bundle).check()
        assert name in str(caught.value)
        flip_byte(tiny_bundle / name, position)
    Bundle.open(tiny_bundle).check()


@pytest.mark.parametrize("name", ["onnx-fp32/model.onnx", "selftest/picture.npy", "selftest/answer.npy"])
def test_a_changed_file_never_reaches_a_runtime(tiny_bundle: Path, name: str, flip_byte: FlipByte) -> None:
    flip_byte(tiny_bundle / name, 2000)
    with pytest.raises(IntegrityError, match=f"{name} is damaged or was changed") as caught:
        load(tiny_bundle, precision="fp32")
    assert "Copy the bundle again" in str(caught.value)


@pytest.mark.parametrize("name", RECORDED)
def test_a_missing_or_longer_file_is_noticed(tiny_bundle: Path, name: str) -> None:
    path = tiny_bundle / name
    with path.open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(IntegrityError, match=rf"{name} has \d+ bytes; the manifest recorded"):
        Bundle.open(tiny_bundle).check()
    path.unlink()
    with pytest.raises(IntegrityError, match=f"{name} is missing"):
        Bundle.open(tiny_bundle).check()


def test_a_file_that_the_manifest_does_not_record_is_not_opened(tiny_bundle: Path) -> None:
    (tiny_bundle / "extra.bin").write_bytes(b"who put this here?")
    with pytest.raises(IntegrityError, match=r"records no file 'extra\.bin'"):
        Bundle.open(tiny_bundle).file("extra.bin")


@pytest.mark.parametrize("path", ["../outside.onnx", "/etc/passwd", "a/../../b", "a\\b"])
def test_a_manifest_cannot_name_files_outside_its_bundle(tiny_bundle: Path, path: str) -> None:
    variants = json.loads((tiny_bundle / MANIFEST).read_bytes())["variants"]
    rewrite_manifest(tiny_bundle, variants=[{**variants[0], "path": path}])
    with pytest.raises(IntegrityError, match="outside the bundle"):
        Bundle.open(tiny_bundle)


# ---------------------------------------------------------------- versions


def test_fields_of_a_newer_writer_are_passed_over(tiny_bundle: Path) -> None:
    variants = json.loads((tiny_bundle / MANIFEST).read_bytes())["variants"]
    variants[0]["latency_class"] = "a field of the future"
    rewrite_manifest(tiny_bundle, provenance={"signed_by": "someone"}, variants=variants)
    with load(tiny_bundle, precision="fp32") as denoiser:
        assert denoiser(PICTURE).shape == PICTURE.shape


def test_fields_of_a_newer_writer_are_covered_by_the_digest(tiny_bundle: Path) -> None:
    rewrite_manifest(tiny_bundle, provenance={"signed_by": "someone"})
    manifest = tiny_bundle / MANIFEST
    manifest.write_bytes(manifest.read_bytes().replace(b"someone", b"another"))
    with pytest.raises(IntegrityError, match="changed by hand"):
        Bundle.open(tiny_bundle)


@pytest.mark.parametrize("changes", [{}, {"tiling": None}, {"variants": {"by": "name"}}], ids=["same", "less", "other"])
def test_another_schema_asks_for_an_upgrade(tiny_bundle: Path, changes: dict[str, object]) -> None:
    """Whatever else that schema changed: its reader is not this version."""
    rewrite_manifest(tiny_bundle, schema="edgedenoise-bundle/2", **changes)
    with pytest.raises(ManifestError, match="expected 'edgedenoise-bundle/1', got 'edgedenoise-bundle/2'") as caught:
        Bundle.open(tiny_bundle)
    assert "pip install -U edgedenoise" in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"tiling": None},
        {"tiling": {"halo_px": "8"}},
        {"normalization": "per-tile"},
        {"normalization": "whole-image-bounded"},
        {"normalization_limit": 4.0},
        {"files": []},
        {"normalization": "whole-image-bounded", "normalization_limit": 1e30},
        {"noise_level": {"estimator": "noise-level", "version": -3, "gain": 8.0}},
        {"noise_level": {"estimator": "noise-level", "version": 1, "gain": 0.0}},
        {"calibration": {"crops": -1, "photographs": 1, "seed": 0}},
    ],
    ids=[
        *("missing", "wrong type", "unknown normalization", "no limit", "needless limit", "wrong shape"),
        *("huge limit", "negative version", "no gain", "negative count"),
    ],
)
def test_a_manifest_of_the_wrong_form_is_refused(tiny_bundle: Path, changes: dict[str, object]) -> None:
    rewrite_manifest(tiny_bundle, **changes)
    with pytest.raises(ManifestError, match="cannot be read"):
        Bundle.open(tiny_bundle)


@pytest.mark.parametrize("tiling", [{"halo_px": -1}, {"halo_px": 8, "multiple_of": 0}], ids=["halo", "multiple"])
def test_a_manifest_with_impossible_tiles_is_refused(tiny_bundle: Path, tiling: dict[str, int]) -> None:
    rewrite_manifest(tiny_bundle, tiling=tiling)
    with pytest.raises(ManifestError):
        Bundle.open(tiny_bundle)


# ---------------------------------------------------------------- changing


def test_an_edit_is_seen_when_the_block_has_ended(tiny_bundle: Path, contents: Contents) -> None:
    bundle = Bundle.open(tiny_bundle)
    before = contents(tiny_bundle)
    with BundleWriter.edit(bundle) as draft:
        draft.write("reports/new.txt", b"something")
        draft.put_variant(Variant("extra", "onnxruntime", "fp32", "extra/model.onnx"))
        assert contents(tiny_bundle) == before
    again = Bundle.open(tiny_bundle)
    again.check()
    assert again.file("reports/new.txt").read_bytes() == b"something"
    assert [v.name for v in again.manifest.variants] == ["onnx-fp32", "onnx-int8-u8s7", "extra"]
    assert [p.name for p in tiny_bundle.parent.iterdir()] == ["tiny.edge"]


def test_an_edit_that_fails_leaves_the_bundle_as_it_was(tiny_bundle: Path, contents: Contents) -> None:
    before = contents(tiny_bundle)

    def failing() -> None:
        with BundleWriter.edit(Bundle.open(tiny_bundle)) as draft:
            draft.write("onnx-fp32/model.onnx", b"half a mod")
            draft.drop_variants({"onnx-int8-u8s7"})
            raise MemoryError

    with pytest.raises(MemoryError):
        failing()
    assert contents(tiny_bundle) == before
    assert [p.name for p in tiny_bundle.parent.iterdir()] == ["tiny.edge"]


def test_a_variant_is_replaced_by_its_name_and_dropped_with_its_files(tiny_bundle: Path, contents: Contents) -> None:
    with BundleWriter.edit(Bundle.open(tiny_bundle)) as draft:
        draft.put_variant(msgspec.structs.replace(draft.manifest.variants[0], fidelity_db=99.0))
        draft.drop_variants({"onnx-int8-u8s7"})
    again = Bundle.open(tiny_bundle)
    assert [(v.name, v.fidelity_db) for v in again.manifest.variants] == [("onnx-fp32", 99.0)]
    assert not any(name.startswith("onnx-int8") for name in contents(tiny_bundle))
    with pytest.raises(IncompatibleError, match="has no variant 'onnx-int8-u8s7'; it has onnx-fp32"):
        again.variant("onnx-int8-u8s7")


def test_a_damaged_bundle_is_not_sealed_anew_by_an_edit(tiny_bundle: Path, flip_byte: FlipByte) -> None:
    flip_byte(tiny_bundle / "onnx-fp32" / "model.onnx", 2000)

    def edited() -> None:
        with BundleWriter.edit(Bundle.open(tiny_bundle)) as draft:
            draft.write("note.txt", b"")

    with pytest.raises(IntegrityError, match=r"onnx-fp32/model\.onnx"):
        edited()
    assert not (tiny_bundle / "note.txt").exists()


def test_a_bundle_can_be_edited_from_inside_its_folder(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_bundle)
    with BundleWriter.edit(Bundle.open(".")) as draft:
        draft.write("note.txt", b"hello")
    monkeypatch.chdir(tiny_bundle.parent)
    assert Bundle.open(tiny_bundle).file("note.txt").read_bytes() == b"hello"
    assert [p.name for p in tiny_bundle.parent.iterdir()] == ["tiny.edge"]


def test_an_archive_is_not_edited_in_the_cache(tiny_bundle: Path, tmp_path: Path) -> None:
    pack(tiny_bundle, tmp_path / "tiny.zip")

    def edited() -> None:
        with BundleWriter.edit(Bundle.open(tmp_path / "tiny.zip")):
            pass

    with pytest.raises(BundleError, match="cannot be changed in place") as caught:
        edited()
    folder = tmp_path / "tiny.edge"
    assert caught.value.hint == f"Unpack it first: edgedenoise pack {tmp_path / 'tiny.zip'} --unpack -o {folder}"


def test_the_copy_of_an_archive_never_replaces_the_archive(tiny_bundle: Path, tmp_path: Path) -> None:
    archive = tmp_path / "packed.edge"
    pack(tiny_bundle, archive)
    folder = tmp_path / "packed.unpacked.edge"
    assert editable_copy(Bundle.open(archive)) == (["pack", str(archive), "--unpack", "-o", str(folder)], folder)
    assert editable_copy(Bundle.open(tiny_bundle)) == ([], tiny_bundle)


def test_a_lone_file_cannot_be_edited_and_no_command_is_told_to_unpack_it(tiny_bundle: Path) -> None:
    bundle = open_model(tiny_bundle / "onnx-fp32" / "model.onnx")
    with pytest.raises(BundleError) as caught:
        check_editable(bundle)
    assert caught.value.hint == "Load the bundle that model.onnx came from: a model file alone cannot be changed."


def test_a_new_bundle_never_replaces_what_is_not_one(tiny_bundle: Path, tmp_path: Path, contents: Contents) -> None:
    manifest = msgspec.structs.replace(Bundle.open(tiny_bundle).manifest, variants=[])
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "dear.png").write_bytes(b"irreplaceable")

    def made(target: Path) -> None:
        with BundleWriter.create(target, manifest) as draft:
            draft.write("file", b"")

    with pytest.raises(BundleError, match="exists and is not a bundle"):
        made(photos)
    assert contents(photos) == {"dear.png": b"irreplaceable"}
    made(tiny_bundle)
    assert sorted(contents(tiny_bundle)) == ["MODEL_CARD.md", "file", MANIFEST]


def test_a_precision_is_one_of_those_there_are() -> None:
    assert checked_precision("int8") == "int8"
    with pytest.raises(UsageError, match="no precision 'int4'; expected one of fp32, fp16, int8") as caught:
        checked_precision("int4")
    assert caught.value.hint is not None
    assert "int8 for speed" in caught.value.hint


@pytest.mark.parametrize("name", ["/etc", "..", "../victim", "a/b", "a\\b", "", ".hidden", "another"])
def test_a_variant_is_named_like_its_folder_and_never_like_a_path(tiny_bundle: Path, name: str) -> None:
    """Variant names become folders that are removed and files that are written."""
    variants = json.loads((tiny_bundle / MANIFEST).read_bytes())["variants"]
    variants[1]["name"] = name
    rewrite_manifest(tiny_bundle, variants=variants)
    with pytest.raises((ManifestError, IntegrityError)):
        Bundle.open(tiny_bundle)


# ---------------------------------------------------------------- the noise level


def test_a_manifest_without_a_noise_level_is_written_as_by_earlier_versions(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    assert (bundle.manifest.noise_level, bundle.manifest.input_channels) == (None, 3)
    write_manifest(tiny_bundle, bundle.manifest)
    written = json.loads((tiny_bundle / MANIFEST).read_bytes())
    assert not {"noise_level", "normalization_limit"} & written.keys()
    assert ["loss" in variant for variant in written["variants"]] == [False, True], "the fixture has a measured loss"
    assert b"noise_level" not in embedded_metadata(bundle.manifest, bundle.manifest.variants[0])


def test_a_noise_level_is_read_back_from_a_bundle_and_from_a_lone_file(tiny_bundle: Path) -> None:
    level = NoiseLevel("edgedenoise-level", 1, 10.0)
    bundle = Bundle.open(tiny_bundle)
    manifest = msgspec.structs.replace(bundle.manifest, noise_level=level)
    write_manifest(tiny_bundle, manifest)
    found = Bundle.open(tiny_bundle).manifest
    assert (found.noise_level, found.input_channels) == (level, 4)
    lone = Bundle.from_metadata(tiny_bundle / "model.onnx", embedded_metadata(manifest, manifest.variants[0]))
    assert lone.manifest.noise_level == level
    assert lone.manifest.variants[0].precision == "fp32"
