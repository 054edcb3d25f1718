"""Crops show what they were chosen for, and never a black corner."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import pytest

from edgedenoise.evaluation.report.crops import CROP_PX, Crop, Source, choose_crops
from edgedenoise.imaging.files import write_image
from edgedenoise.imaging.image import Image

if TYPE_CHECKING:
    from pathlib import Path

HEIGHT, WIDTH = 1300, 1500


def scene() -> np.ndarray:
    """Return an image whose left third is black, and whose bottom right corner has fine texture."""
    image = np.full((HEIGHT, WIDTH, 3), 120.0)
    image[:, : WIDTH // 3] = 2
    rng = np.random.default_rng(0)
    image[-420:, -420:] += rng.normal(0, 30, (420, 420, 1))
    return image


def stored(levels: np.ndarray) -> Image:
    return Image(np.clip(levels, 0, 255).round().astype(np.uint8))


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> list[Crop]:
    folder = tmp_path_factory.mktemp("crops")
    rng = np.random.default_rng(1)
    clean = scene()
    sigma = np.full((HEIGHT, WIDTH, 1), 4.0)
    sigma[:420, 900:1320] = 20  # the strongest noise that can be seen
    sigma[:420, :420] = 60  # stronger, but in the black
    noisy = np.maximum(clean + rng.normal(0, 1, clean.shape) * sigma, clean * 0)
    int8 = clean.copy()
    int8[704:720, 704:720] += 40  # the worst error
    for name, levels in (("noisy", noisy), ("float", clean), ("int8", int8), ("clean", clean)):
        write_image(stored(levels), folder / name / "a.png")
        write_image(stored(np.full((40, 60, 3), 128.0)), folder / name / "small.png")
    return choose_crops(source(folder, name) for name in ("a.png", "small.png"))


def source(folder: Path, name: str) -> Source:
    return Source(
        name=name,
        noisy=folder / "noisy" / name,
        reference="onnx-fp32",
        float_result=folder / "float" / name,
        integer_results={"onnx-int8": folder / "int8" / name},
        other_results={},
        truth=folder / "clean" / name,
    )


def pixels(crop: Crop, label: str) -> np.ndarray:
    uri = next(version.source for version in crop.versions if version.label == label)
    kind, _, data = uri.partition(";base64,")
    assert kind == "data:image/webp"
    return np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(data))))


def test_each_crop_shows_what_it_was_chosen_for(crops: list[Crop]) -> None:
    error, noise, detail = crops
    assert [crop.title for crop in crops] == ["Worst INT8 error", "Strongest noise", "Finest detail"]
    assert error.top <= 704 <= error.top + error.height - 16
    assert error.left <= 704 <= error.left + error.width - 16
    assert "40.0 levels" in error.why
    assert (noise.top, 800 <= noise.left <= 1000) == (0, True)
    assert detail.top + detail.height > HEIGHT - 100
    assert detail.left + detail.width > WIDTH - 100


def test_no_crop_is_black_or_overlaps_another(crops: list[Crop]) -> None:
    for crop in crops:
        assert pixels(crop, "ground truth").mean() > 40
        assert (crop.height, crop.width) == (CROP_PX, CROP_PX)
    corners = [(crop.image, crop.top, crop.left) for crop in crops]
    assert len(set(corners)) == len(crops)


def test_all_versions_show_the_same_place_without_loss(crops: list[Crop]) -> None:
    crop = crops[0]
    assert [version.kind for version in crop.versions] == ["noisy", "float", "int8", "truth"]
    rows, columns = slice(crop.top, crop.top + crop.height), slice(crop.left, crop.left + crop.width)
    np.testing.assert_array_equal(pixels(crop, "onnx-fp32"), stored(scene()).pixels[rows, columns])
    assert np.abs(pixels(crop, "onnx-int8").astype(int) - pixels(crop, "onnx-fp32")).max() == 40


def test_a_dark_or_small_image_still_has_a_crop(tmp_path: Path) -> None:
    for name in ("noisy", "float", "int8", "clean"):
        write_image(stored(np.full((50, 70, 3), 3.0)), tmp_path / name / "dark.png")
    found = choose_crops([source(tmp_path, "dark.png")])
    assert [(crop.height, crop.width) for crop in found] == [(50, 70)], "the same place is not shown three times"


def test_the_recommended_variant_is_shown_first(crops: list[Crop]) -> None:
    assert crops[0].shown_first("onnx-int8") == (1, 2)
    assert crops[0].shown_first("onnx-fp32") == (1, 2)
