"""A folder of images gives normalised patches, or an error that names the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgedenoise.errors import DatasetError
from edgedenoise.imaging.files import Image, to_unit, write_image
from edgedenoise.imaging.normalize import WHOLE_IMAGE, statistics
from edgedenoise.training.data.draws import Stream, draw
from edgedenoise.training.data.patches import ImageFolder, split_held_out


def test_patches_are_normalised_per_channel(photos):
    batch = ImageFolder(photos, patch=20).batch(seed=0, step=3, samples=range(8))
    assert batch.shape == (8, 3, 20, 20)
    assert batch.dtype == np.float32
    assert np.abs(batch.mean(axis=(2, 3))).max() < 1e-5
    assert np.abs(batch.std(axis=(2, 3)) - 1).max() < 1e-3


def test_a_patch_is_a_function_of_seed_step_and_sample(photos):
    folder = ImageFolder(photos, patch=20)
    patch = folder.crop(seed=1, step=2, sample=3)
    assert np.array_equal(patch, ImageFolder(photos, patch=20).crop(1, 2, 3))
    assert np.array_equal(patch, folder.batch(1, 2, range(5))[3])
    for other in ((0, 2, 3), (1, 3, 3), (1, 2, 4), (1, 3, 2)):
        assert not np.array_equal(patch, folder.crop(*other))


def test_streams_of_numbers_do_not_overlap():
    firsts = {
        tuple(draw(seed, stream, step, sample).integers(2**63, size=4))
        for seed in (0, 1)
        for stream in Stream
        for step in (0, 1, 2)
        for sample in (0, 1, 2)
    }
    assert len(firsts) == 2 * len(Stream) * 3 * 3


def test_every_photograph_position_and_turn_is_drawn(tmp_path):
    for index in range(2):
        corners = np.full((11, 11, 1), 100 * index, np.uint8)
        corners[0, 0] = 255
        write_image(Image(corners), tmp_path / f"{index}.png")
    folder = ImageFolder(tmp_path, patch=10)
    bright = set()
    for sample in range(300):
        patch = folder.crop(0, 0, sample)[0]
        bright.add(tuple(np.argwhere(patch == patch.max())[0]) if np.ptp(patch) else None)
    assert bright == {None, (0, 0), (0, 9), (9, 0), (9, 9)}
    whole = np.arange(100, dtype=np.uint8).reshape(10, 10, 1)
    (tmp_path / "0.png").unlink()
    write_image(Image(whole), tmp_path / "1.png")
    turned = {ImageFolder(tmp_path, patch=10).crop(0, 0, sample).tobytes() for sample in range(100)}
    assert len(turned) == 8


def test_a_flat_patch_stays_finite(tmp_path):
    write_image(Image(np.full((20, 20, 3), 200, np.uint8)), tmp_path / "flat.png")
    assert np.abs(ImageFolder(tmp_path, patch=20).crop(0, 0, 0)).max() < 1e-3


def test_the_memory_budget_is_kept_and_changes_nothing(photos):
    cached, read_again = ImageFolder(photos, patch=20), ImageFolder(photos, patch=20, cache_mb=0)
    assert cached.cached_bytes == 40 * 52 * 3 + 61 * 47 + 40 * 52 * 2, "as stored: depth and channels"
    assert read_again.cached_bytes == 0
    assert np.array_equal(cached.batch(0, 0, range(6)), read_again.batch(0, 0, range(6)))


def test_the_progress_of_reading_ends_at_the_number_of_photographs(photos):
    seen = []
    ImageFolder(photos, patch=20, progress=lambda stage, done, total, note="": seen.append((done, total)))
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DatasetError, match="nowhere"):
        ImageFolder(tmp_path / "nowhere", patch=20)


def test_an_empty_folder_says_so(tmp_path):
    with pytest.raises(DatasetError, match="got an empty folder"):
        ImageFolder(tmp_path, patch=20)


def test_a_folder_without_photographs_says_what_it_holds(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "more").mkdir()
    with pytest.raises(DatasetError, match=r"expected \.png.*got only more/, notes\.txt") as caught:
        ImageFolder(tmp_path, patch=20)
    assert "subfolders" in caught.value.hint


@pytest.mark.parametrize("damage", ["text", "truncated", "empty"])
def test_an_unreadable_file_is_named(photos, damage):
    bad = photos / "bad.png"
    whole = (photos / "a.png").read_bytes()
    bad.write_bytes({"text": b"I am not an image", "truncated": whole[: len(whole) // 2], "empty": b""}[damage])
    with pytest.raises(DatasetError, match=r"bad\.png") as caught:
        ImageFolder(photos, patch=20)
    assert "bad.png or move it out of the folder" in caught.value.hint


def test_a_photograph_smaller_than_the_patch_is_named_with_its_size(photos):
    with pytest.raises(DatasetError, match=r"a\.png is 52x40 pixels.* at least 50") as caught:
        ImageFolder(photos, patch=50)
    assert "a.png" in caught.value.hint


def test_patches_can_be_normalised_as_a_device_normalises_their_photograph(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 30, 3), dtype=np.uint8)
    write_image(Image(pixels), tmp_path / "a.png")
    unit = to_unit(pixels).transpose(2, 0, 1)
    whole = statistics(unit, WHOLE_IMAGE).apply(unit)
    patch = ImageFolder(tmp_path, patch=10, statistics="photo").crop(0, 0, 0)
    windows = np.lib.stride_tricks.sliding_window_view(whole, (10, 10), axis=(1, 2)).transpose(1, 2, 0, 3, 4)
    turned = [np.rot90(patch, k, axes=(1, 2)) for k in range(4)]
    turned += [x[:, :, ::-1] for x in turned]
    assert any((np.abs(windows - x).max(axis=(2, 3, 4)) < 1e-6).any() for x in turned)


@pytest.mark.parametrize(
    ("photographs", "count", "expected"), [(7, "auto", 0), (8, "auto", 1), (100, "auto", 5), (5, 2, 2), (3, 0, 0)]
)
def test_some_photographs_are_held_out_and_none_is_lost(photographs, count, expected):
    paths = [Path(f"{index:03d}.png") for index in range(photographs)]
    trained, held_out = split_held_out(paths, count)
    assert len(held_out) == expected
    assert sorted([*trained, *held_out]) == paths
    assert not set(trained) & set(held_out)


def test_holding_everything_out_is_refused():
    with pytest.raises(DatasetError, match="leaves none to train on"):
        split_held_out([Path("a.png"), Path("b.png")], 2)


def test_held_out_crops_are_not_training_crops(photos):
    folder = ImageFolder(photos, patch=20)
    assert not np.array_equal(folder.crop(0, 0, 0), folder.crop(0, 0, 0, stream=Stream.HELD_OUT))
