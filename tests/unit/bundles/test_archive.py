"""An archive holds the same bytes for the same bundle, and a hostile one writes nothing."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import struct
import warnings
import zipfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from edgedenoise.bundles import archive as archives
from edgedenoise.bundles import archive_cache
from edgedenoise.bundles.archive import pack, unpack
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.writer import BundleWriter
from edgedenoise.errors import BundleError, EdgeDenoiseError, IntegrityError, ManifestError, OutputError

if TYPE_CHECKING:
    from collections.abc import Callable

    Contents = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def archive(committed_bundle: Path, tmp_path: Path) -> Path:
    """A sound archive."""
    pack(committed_bundle, tmp_path / "sound.zip")
    return tmp_path / "sound.zip"


def refused(archive: Path, tmp_path: Path, user_cache: Path, match: str) -> None:
    """Neither unpacking nor opening writes anything."""
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(IntegrityError, match=match):
        unpack(archive, tmp_path / "out")
    with pytest.raises(IntegrityError, match=match):
        Bundle.open(archive)
    assert sorted(tmp_path.rglob("*")) == before
    assert [p for p in user_cache.rglob("*") if p.is_file()] == []


# ---------------------------------------------------------------- packing


def test_packing_twice_gives_the_same_bytes(committed_bundle: Path, tmp_path: Path) -> None:
    pack(committed_bundle, tmp_path / "a.zip")
    pack(committed_bundle, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_a_copy_with_other_dates_and_modes_gives_the_same_bytes(archive: Path, tiny_bundle: Path) -> None:
    for day, path in enumerate(sorted(tiny_bundle.rglob("*"), reverse=True), start=1):
        path.chmod(0o700)
        os.utime(path, (86400.0 * 365 * 20 + day, 86400.0 * 365 * 30 + day))
    pack(tiny_bundle, tiny_bundle.with_suffix(".zip"))
    assert tiny_bundle.with_suffix(".zip").read_bytes() == archive.read_bytes()


def test_unpacking_gives_the_bundle_back(
    archive: Path, committed_bundle: Path, tmp_path: Path, contents: Contents
) -> None:
    unpack(archive, tmp_path / "again.edge")
    assert contents(tmp_path / "again.edge") == contents(committed_bundle)
    Bundle.open(tmp_path / "again.edge").check()
    with pytest.raises(BundleError, match="exists already"):
        unpack(archive, tmp_path / "again.edge")


def test_an_archive_that_others_compressed_is_read_too(archive: Path, committed_bundle: Path, tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "deflated"), "zip", committed_bundle)
    assert (tmp_path / "deflated.zip").stat().st_size < archive.stat().st_size
    Bundle.open(tmp_path / "deflated.zip").check()


# ---------------------------------------------------------------- hostile


def named(name: str) -> Callable[[zipfile.ZipFile], None]:
    def add(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo("placeholder")
        info.filename = name  # set late: the constructor would clean it
        archive.writestr(info, b"evil")

    return add


def link(archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("onnx-fp32/link")
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(info, b"/etc/passwd")


def pipe(archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("pipe")
    info.create_system = 3
    info.external_attr = (stat.S_IFIFO | 0o777) << 16
    archive.writestr(info, b"")


def lzma(archive: zipfile.ZipFile) -> None:
    archive.writestr("x.bin", bytes(100), compress_type=zipfile.ZIP_LZMA)


def bomb(archive: zipfile.ZipFile) -> None:
    archive.writestr("bomb.bin", bytes(50 << 20), compress_type=zipfile.ZIP_DEFLATED)


HOSTILE = {
    "absolute": (named("/tmp/evil"), "outside the bundle"),  # noqa: S108
    "parent": (named("../evil"), "outside the bundle"),
    "parent inside": (named("onnx-fp32/../../evil"), "outside the bundle"),
    "parent folder": (named("../evil/"), "outside the bundle"),
    "backslash": (named("..\\evil"), "outside the bundle"),
    "drive": (named("C:/evil"), "outside the bundle"),
    "link": (link, "is a link"),
    "pipe": (pipe, "special file"),
    "control signs": (named("\x1b[31mred"), "outside the bundle"),
    "double slash": (named("a//b"), "outside the bundle"),
    "lzma": (lzma, "expected stored"),
    "twice": (named("twin"), "in it twice"),
    "twice by case": (named("TWIN"), "in it twice"),
    "bomb": (bomb, "expands more than 200 times"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_refused_and_writes_nothing(
    archive: Path, tmp_path: Path, user_cache: Path, kind: str
) -> None:
    add, message = HOSTILE[kind]
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr("twin", b"first")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile's, of the duplicate name
            add(opened)
    refused(archive, tmp_path, user_cache, message)


def test_too_many_files_or_bytes_are_refused(
    archive: Path, tmp_path: Path, user_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(archives, "MAX_FILES", 3)
        refused(archive, tmp_path, user_cache, "8 files")
    with monkeypatch.context() as patch:
        patch.setattr(archives, "MAX_TOTAL_BYTES", 100_000)
        refused(archive, tmp_path, user_cache, "is too large")
    Bundle.open(archive)


def test_what_the_manifest_does_not_record_is_left_out(
    archive: Path, tmp_path: Path, committed_bundle: Path, contents: Contents
) -> None:
    with zipfile.ZipFile(archive, "a") as opened:
        for name in ("manifest.json/deeper", "__MACOSX/onnx-fp32/model.onnx", "onnx-fp32/w.bin"):
            opened.writestr(name, b"stray")
    unpack(archive, tmp_path / "out.edge")
    assert contents(tmp_path / "out.edge") == contents(committed_bundle)


def test_a_bomb_of_many_small_files_is_refused(tmp_path: Path, user_cache: Path) -> None:
    """Each file alone may expand that far; all together may not, and without a manifest nothing is unpacked."""
    many = tmp_path / "many.zip"
    with zipfile.ZipFile(many, "w", zipfile.ZIP_DEFLATED) as opened:
        for number in range(200):
            opened.writestr(f"d/{number}", bytes(200_000))
    refused(many, tmp_path, user_cache, "expands more than 20 times")


def test_an_archive_without_a_manifest_leaves_nothing_behind(tmp_path: Path, user_cache: Path) -> None:
    empty = tmp_path / "empty.zip"
    with zipfile.ZipFile(empty, "w") as opened:
        opened.writestr("photo.png", os.urandom(100_000))
    refused(empty, tmp_path, user_cache, "has no manifest")


def test_a_manifest_of_another_schema_leaves_nothing_behind(tmp_path: Path, user_cache: Path) -> None:
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as opened:
        opened.writestr("manifest.json", b'{"schema": "edgedenoise-bundle/99", "variants": []}')
        opened.writestr("big.bin", os.urandom(100_000))
    with pytest.raises(ManifestError, match="has another schema"):
        Bundle.open(other)
    assert [path for path in user_cache.rglob("*") if path.is_file()] == []


def test_a_list_of_contents_that_is_too_long_is_refused_before_it_is_read(
    archive: Path, tmp_path: Path, user_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zipfile, "ZipFile", None)
    data = bytearray(archive.read_bytes())
    data[-12:-10] = struct.pack("<H", 60_000)
    archive.write_bytes(data)
    refused(archive, tmp_path, user_cache, "60000 files")
    data[-12:-10], data[-10:-6] = struct.pack("<H", 5), struct.pack("<I", 1 << 30)
    archive.write_bytes(data)
    refused(archive, tmp_path, user_cache, "expected at most 10000")


# ---------------------------------------------------------------- the cache


def test_an_archive_that_is_replaced_while_it_is_read_does_not_poison_the_cache(
    archive: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = archive.read_bytes()
    with BundleWriter.edit(Bundle.open(tiny_bundle)) as draft:
        draft.write("note.txt", b"another bundle")
    pack(tiny_bundle, tmp_path / "other.zip")
    hashed = archive_cache._sha256

    def replaced(source: Path, copy: IO[bytes] | None, cache: Path) -> str:
        found = hashed(source, copy, cache)
        source.write_bytes((tmp_path / "other.zip").read_bytes())
        return found

    with monkeypatch.context() as patch:
        patch.setattr(archive_cache, "_sha256", replaced)
        Bundle.open(archive)
    archive.write_bytes(sound)
    assert not Bundle.open(archive).has("note.txt")
    assert Bundle.open(tmp_path / "other.zip").has("note.txt")


def test_a_full_disk_of_the_cache_is_not_blamed_on_the_archive(
    archive: Path, user_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def write(self, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError) as caught:
        archive_cache._sha256(archive, Full(), user_cache)  # type: ignore[arg-type]
    assert str(user_cache) in str(caught.value)
    assert str(archive) not in str(caught.value)


def test_the_cache_is_bounded_and_keeps_what_was_used_last(
    tiny_bundle: Path, tmp_path: Path, user_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_cache, "MAX_CACHED_BUNDLES", 2)
    roots = []
    for number in range(3):
        with BundleWriter.edit(Bundle.open(tiny_bundle)) as draft:
            draft.write("note.txt", str(number).encode())
        pack(tiny_bundle, tmp_path / f"{number}.zip")
        if number == 2:
            Bundle.open(tmp_path / "0.zip")  # used again
        roots.append(Bundle.open(tmp_path / f"{number}.zip").root)
        for age, root in enumerate(filter(Path.is_dir, reversed(roots)), start=1):
            os.utime(root, (10_000 - age, 10_000 - age))
    assert [root.is_dir() for root in roots] == [True, False, True]
    monkeypatch.setattr(archive_cache, "MAX_CACHE_BYTES", 1)
    Bundle.open(tmp_path / "1.zip").check()
    assert [path.name for path in (user_cache / "bundles").iterdir()] == [roots[1].name]


def test_a_full_disk_is_not_called_a_damaged_archive(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(tmp_path), "write_bytes", full)
    for use in (lambda: unpack(archive, tmp_path / "out.edge"), lambda: Bundle.open(archive)):
        with pytest.raises(OutputError, match="No space left on device"):
            use()
    assert not (tmp_path / "out.edge").exists()


# ---------------------------------------------------------------- damaged


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_archive_is_refused(archive: Path, tmp_path: Path, user_cache: Path, kept: float) -> None:
    data = archive.read_bytes()
    archive.write_bytes(data[: int(len(data) * kept)])
    refused(archive, tmp_path, user_cache, "is not a bundle that can be read")


def test_a_damaged_member_is_noticed_by_its_checksum(archive: Path, tmp_path: Path, user_cache: Path) -> None:
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)
    refused(archive, tmp_path, user_cache, "CRC")


def test_a_damaged_compressed_member_is_refused(tmp_path: Path, user_cache: Path) -> None:
    damaged = tmp_path / "deflated.zip"
    with zipfile.ZipFile(damaged, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("manifest.json", b"{}" * 100)
        start = opened.getinfo("manifest.json").header_offset + 30 + len("manifest.json")
    data = bytearray(damaged.read_bytes())
    data[start] = 0xFF  # a kind of block that deflate does not have
    damaged.write_bytes(data)
    refused(damaged, tmp_path, user_cache, "is not a bundle that can be read")


def test_no_damage_anywhere_escapes_as_another_error(committed_bundle: Path, tmp_path: Path) -> None:
    """Every byte of the archive's structure in turn: each is refused in our words, or the bundle is still sound."""
    small = tmp_path / "small.zip"
    with zipfile.ZipFile(small, "w") as opened:
        opened.write(committed_bundle / "manifest.json", "manifest.json")
        opened.write(committed_bundle / "MODEL_CARD.md", "MODEL_CARD.md")
    data = small.read_bytes()
    structure = [i for i in range(len(data)) if i < 60 or i > len(data) - 160]
    for position in structure:
        for change in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[position] ^= change
            small.write_bytes(damaged)
            target = tmp_path / "out"
            try:
                unpack(small, target)
            except EdgeDenoiseError:
                assert not target.exists(), position
            else:
                shutil.rmtree(target)
