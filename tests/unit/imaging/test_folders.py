"""Folders are searched completely: every entry is an image or is left out for a stated reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgedenoise.errors import DatasetError
from edgedenoise.imaging.folders import SUB_FOLDER, find_images, list_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name in ("b.PNG", "a.jfif", "c.txt", "d.JPE", "README", ".hidden.png", "._a.jpg", ".DS_Store", "e.Tif"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    for name in ("trip/f.webp", "trip/notes.txt", "trip/day 2/g.jpg", ".cache/h.png", "sub.png/i.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def names(root: Path, paths: object) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]  # type: ignore[attr-defined]


def test_what_is_left_out_is_named_with_its_reason(folder: Path) -> None:
    found = find_images(folder)
    assert names(folder, found.images) == ["a.jfif", "b.PNG", "d.JPE", "e.Tif"]
    assert {path.name: reason for path, reason in ((entry.path, entry.reason) for entry in found.left_out)} == {
        ".hidden.png": "a hidden file",
        "README": "it has no extension",
        "c.txt": "no image format has the extension .txt",
        "sub.png": SUB_FOLDER,
        "trip": SUB_FOLDER,
    }


def test_sub_folders_are_searched_on_request(folder: Path) -> None:
    found = find_images(folder, recursive=True)
    expected = ["a.jfif", "b.PNG", "d.JPE", "e.Tif", "sub.png/i.png", "trip/day 2/g.jpg", "trip/f.webp"]
    assert names(folder, found.images) == expected
    assert names(folder, [entry.path for entry in found.left_out]) == [
        ".hidden.png",
        "README",
        "c.txt",
        "trip/notes.txt",
    ]


def test_the_output_folder_is_not_searched(folder: Path) -> None:
    found = find_images(folder, recursive=True, apart_from=folder / "trip" / ".." / "trip")
    assert "trip/f.webp" not in names(folder, found.images)
    assert {e.path.name: e.reason for e in found.left_out}["trip"] == "the output folder of this run"


def test_links_to_folders_are_named_and_not_followed(folder: Path) -> None:
    (folder / "trip" / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "trip" / "gone.png").symlink_to(folder / "nowhere.png")
    found = find_images(folder, recursive=True)
    reasons = {entry.path.name: entry.reason for entry in found.left_out}
    assert reasons["loop"] == "a link to a folder, which is not followed"
    assert reasons["gone.png"] == "not a file that can be read"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes in folders")
def test_a_pipe_is_not_read(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    assert "not a file that can be read" in {entry.reason for entry in find_images(folder).left_out}


def test_a_sub_folder_that_cannot_be_read_is_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "trip":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    reasons = {entry.path.name: entry.reason for entry in find_images(folder, recursive=True).left_out}
    assert reasons["trip"] == f"{folder / 'trip'} cannot be listed: Permission denied"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such folder") as caught:
        list_images(tmp_path / "x")
    assert caught.value.hint == f"Check the name: relative paths start at {Path.cwd()}."


def test_a_file_in_place_of_a_folder_is_refused_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(DatasetError, match="expected a folder of images, got a file") as caught:
        list_images(tmp_path / "a.png")
    assert caught.value.hint == f"Name its folder: {tmp_path}"
