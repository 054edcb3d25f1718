"""The demo leaves what is not its own alone, and needs neither links nor a privilege for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs onnx: pip install 'edgedenoise[demo]'")

from edgedenoise.demo import _own_images, run_demo
from edgedenoise.errors import UsageError
from edgedenoise.imaging.files import write_image
from edgedenoise.imaging.image import Image
from edgedenoise.progress import silent


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "photos" / f"{index}.png" for index in range(6)]
    for index, path in enumerate(paths):
        write_image(Image(np.full((8, 9, 3), 40 * index, np.uint8)), path)
    return paths


@pytest.mark.parametrize("links", [True, False])
def test_images_are_copied_where_links_are_not_allowed(tmp_path, photos, monkeypatch, links):
    if not links:

        def refuse(self, target, target_is_directory=False):
            raise OSError(1314, "A required privilege is not held by the client")

        monkeypatch.setattr(Path, "symlink_to", refuse)
    images = _own_images(tmp_path / "demo", photos, silent)
    placed = sorted(images.training.iterdir())
    assert [path.name for path in placed] == ["1.png", "2.png", "3.png", "4.png", "5.png"], "one is held out"
    assert [path.is_symlink() for path in placed] == 5 * [links]
    assert all(path.read_bytes() == (tmp_path / "photos" / path.name).read_bytes() for path in placed)
    assert [path.name for path in images.held_out.iterdir()] == ["0.png"]


def test_a_file_and_images_inside_the_demos_folder_are_refused(tmp_path, photos):
    with pytest.raises(UsageError, match="is a file; expected a folder") as caught:
        run_demo(photos[0])
    assert "--out" in caught.value.hint
    demo = tmp_path / "demo"
    demo.mkdir()
    (demo / ".edgedenoise-demo").write_text("")
    with pytest.raises(UsageError, match="which the demo would empty"):
        run_demo(demo, data=demo / "photos")
