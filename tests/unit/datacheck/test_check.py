"""A folder of images is described, doubtful ones are named, and what cannot be trained on is refused."""

from __future__ import annotations

import struct
from functools import cache
from typing import TYPE_CHECKING, Protocol

import msgspec
import numpy as np
import pytest
from PIL import Image as PILImage

from edgedenoise.datacheck.check import MOST_JUDGED, DataReport, check_images, data_report_text
from edgedenoise.datacheck.report import NoiseAt
from edgedenoise.errors import DatasetError
from edgedenoise.imaging.files import Image, from_unit, write_image
from edgedenoise.imaging.image import Metadata
from edgedenoise.noise.synthesis import add_camera_noise, parameters_for_psnr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from edgedenoise.imaging.image import Pixels

    Change = Callable[[np.ndarray], np.ndarray]


SIDE = 320  # enough for an image to show traces by itself


def scene(seed: int, side: int = SIDE) -> np.ndarray:
    """A clean image (side, side, 3) in [0, 1]: smooth shades, edges, and a patch of texture."""
    rng = np.random.default_rng([7, seed])
    y, x = np.mgrid[:side, :side] / side
    colours = rng.uniform(0.1, 0.4, (3, 3))
    waves = [np.sin(4 * x + seed), np.cos(3 * y - seed), np.sin(5 * (x - y))]
    picture = 0.45 + sum(wave[..., None] * colour for wave, colour in zip(waves, colours, strict=True)) / 3
    for top, left in rng.integers(0, side // 2, (5, 2)):
        picture[top : top + side // 5, left : left + side // 4] *= rng.uniform(0.5, 1.1)
    rough = rng.normal(0, 0.08, (side // 2, side // 2, 1)).cumsum(axis=1) / 8
    picture[side // 2 :, : side // 2] += np.clip(rough, -0.2, 0.2)
    return np.clip(picture, 0.03, 0.97)


def eight_bit(unit: np.ndarray) -> np.ndarray:
    return from_unit(np.clip(unit, 0, 1).astype(np.float32), np.uint8)


@cache
def camera(seed: int, target_db: float = 27, side: int = SIDE) -> np.ndarray:
    clean, rng = scene(seed, side), np.random.default_rng(seed)
    return eight_bit(add_camera_noise(clean, parameters_for_psnr(clean, target_db, rng), rng))


def white(seed: int, sigma: float = 12, side: int = SIDE) -> np.ndarray:
    return eight_bit(scene(seed, side) + np.random.default_rng(seed).normal(0, sigma / 255, (side, side, 3)))


def resized(factor: float, how: PILImage.Resampling) -> Change:
    def change(pixels: np.ndarray) -> np.ndarray:
        side = round(len(pixels) * factor)
        return np.asarray(PILImage.fromarray(pixels).resize((side, side), how))

    return change


def blurred(pixels: np.ndarray) -> np.ndarray:
    """A simple denoiser: binomial weights over 5 pixels, both ways."""
    smooth = pixels.astype(np.float32)
    for axis in (0, 1):
        rolled = [np.roll(smooth, shift, axis) for shift in (-2, -1, 0, 1, 2)]
        smooth = sum(weight * part for weight, part in zip((1, 4, 6, 4, 1), rolled, strict=True)) / 16
    return np.floor(smooth + 0.5).astype(np.uint8)


class Folder(Protocol):
    def __call__(self, pictures: Iterable[np.ndarray], ending: str = "png") -> Path:
        """Write images as 0.png, 1.png, ..."""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    def made(pictures: Iterable[np.ndarray], ending: str = "png") -> Path:
        for index, pixels in enumerate(pictures):
            write_image(Image(pixels.reshape(*pixels.shape[:2], -1)), tmp_path / "photos" / f"{index}.{ending}")
        return tmp_path / "photos"

    return made


def codes(report: DataReport) -> set[str]:
    return {finding.code for finding in report.warnings}


def refused(report: DataReport) -> list[str]:
    return [finding.code for finding in report.refusals]


# ---------------------------------------------------------------- what is found


def test_number_sizes_depths_and_noise_are_told(folder: Folder) -> None:
    tall = (white(2, 10)[:, :300, :1].astype(np.uint16)) * 257
    report = check_images(folder([white(0, 10), white(1, 10), tall]))
    assert (report.images, report.judged) == (3, 3)
    assert report.megapixels == pytest.approx((2 * 320 * 320 + 320 * 300) / 1e6)
    assert [(size.width, size.height, size.images) for size in report.sizes] == [(320, 320, 2), (300, 320, 1)]
    assert report.bit_depths == {8: 2, 16: 1}
    assert report.sigma_levels == pytest.approx(10, rel=0.1)
    assert len(report.autocorrelation) == 8
    known = [point.sigma_levels for point in report.noise if point.sigma_levels is not None]
    assert len(known) > 5
    assert np.median(known) == pytest.approx(10, rel=0.1)
    assert [(s.name, s.bits, s.channels) for s in report.summaries] == [
        ("0.png", 8, 3),
        ("1.png", 8, 3),
        ("2.png", 16, 1),
    ]


def test_the_report_is_strict_json_and_comes_back_from_it(folder: Folder) -> None:
    report = check_images(folder([white(0), np.full((20, 20, 3), 128, np.uint8)]))
    data = msgspec.json.encode(report)
    assert b"NaN" not in data
    assert msgspec.json.decode(data, type=DataReport) == report


def test_the_text_says_it_for_people(folder: Folder) -> None:
    report = check_images(folder([camera(0), camera(1)]))
    text = data_report_text(report)
    assert "2 images, 0.2 megapixels" in text
    assert f"sub-sampling stride {report.stride}" in text
    assert "warning [thin]" in text
    assert "can be trained on" in text
    assert "nan" not in text


def test_the_tables_of_the_text_fit_80_columns(folder: Folder) -> None:
    report = check_images(folder([camera(0)]))
    noise = tuple(NoiseAt(16.0 * bin_ + 8, 12.3) for bin_ in range(16))
    text = data_report_text(msgspec.structs.replace(report, noise=noise))
    tables = [line for line in text.splitlines() if line.startswith(("brightness", "sigma", "pixels", "corr", "--"))]
    assert len(tables) == 9
    assert max(map(len, tables)) <= 80


def test_every_image_is_told_to_progress(folder: Folder) -> None:
    told: list[tuple[int, int, str]] = []
    check_images(
        folder([white(0, side=64), white(1, side=64)]),
        progress=lambda stage, done, total, note="": told.append((done, total, note)),
    )
    assert told == [(0, 2, "0.png"), (1, 2, "1.png"), (2, 2, "")]


def test_a_huge_folder_is_sampled_and_the_report_says_so(folder: Folder) -> None:
    count = MOST_JUDGED + 40
    report = check_images(folder(white(i % 5, side=32) for i in range(count)))
    assert (report.images, report.judged) == (count, MOST_JUDGED)
    assert report.megapixels == pytest.approx(count * 32 * 32 / 1e6)
    assert f"extrapolated from {MOST_JUDGED} of them, evenly spread" in data_report_text(report)


def test_a_large_image_takes_no_longer_than_its_two_megapixels() -> None:
    from edgedenoise.datacheck.check import _crops

    crops = _crops(np.zeros((6000, 4000, 3), np.uint8))
    assert sum(crop.shape[0] * crop.shape[1] for crop in crops) <= 2.1e6
    assert len({crop.shape for crop in crops}) == 1
    wide = _crops(np.zeros((100, 50_000, 3), np.uint8))
    assert [crop.shape for crop in wide] == [(100, 720, 3)] * 2


# ---------------------------------------------------------------- the stride


def test_independent_noise_calls_for_no_sub_sampling(folder: Folder) -> None:
    report = check_images(folder(white(seed) for seed in range(4)))
    assert report.stride == 1
    assert refused(report) == []
    assert "independent" in codes(report)


def test_camera_noise_calls_for_a_stride_of_2_to_5(folder: Folder) -> None:
    report = check_images(folder(camera(seed) for seed in range(4)))
    assert 2 <= report.stride <= 5
    assert refused(report) == []
    assert "independent" not in codes(report)


@pytest.mark.parametrize(("reach", "stride"), [(2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (8, 6)])
def test_the_stride_is_the_distance_that_noise_does_not_reach(folder: Folder, reach: int, stride: int) -> None:
    """Means over `reach` pixels are correlated up to reach - 1 pixels away, and not at all from there on."""
    pictures = []
    for seed in range(4):
        noise = np.random.default_rng(seed).normal(0, 12 * reach, (240, 240, 3))
        for axis in (0, 1):
            noise = sum(np.roll(noise, shift, axis) for shift in range(reach)) / reach
        pictures.append(eight_bit(0.5 + noise / 255))
    assert check_images(folder(pictures)).stride == stride


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("target_db", [20, 27, 34])
def test_images_as_a_camera_makes_them_are_accepted(folder: Folder, target_db: float) -> None:
    report = check_images(folder(camera(seed, target_db) for seed in range(4)))
    assert refused(report) == [], data_report_text(report)


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_clean_images_are_refused(folder: Folder, ending: str) -> None:
    report = check_images(folder((eight_bit(scene(seed)) for seed in range(5)), ending))
    assert "no-noise" in refused(report)
    text = data_report_text(report)
    assert "CANNOT BE TRAINED ON [no-noise]" in text
    assert "can be trained on." not in text


@pytest.mark.parametrize("how", [PILImage.Resampling.LANCZOS, PILImage.Resampling.BICUBIC, PILImage.Resampling.BOX])
@pytest.mark.parametrize("factor", [0.5, 0.6, 0.75])
def test_shrunk_images_are_refused(folder: Folder, factor: float, how: PILImage.Resampling) -> None:
    report = check_images(folder(resized(factor, how)(camera(seed)) for seed in range(4)))
    assert refused(report) == ["not-original"], data_report_text(report)
    assert "Crop instead of resizing" in report.refusals[0].hint


@pytest.mark.parametrize(
    "change",
    [resized(1.5, PILImage.Resampling.BICUBIC), resized(2, PILImage.Resampling.LANCZOS), blurred],
    ids=["enlarged by half", "doubled", "blurred"],
)
def test_enlarged_and_denoised_images_are_refused(folder: Folder, change: Change) -> None:
    report = check_images(folder(change(camera(seed)) for seed in range(4)))
    assert "not-original" in refused(report), data_report_text(report)


def test_one_doubtful_image_among_good_ones_is_named_and_not_refused(folder: Folder) -> None:
    pictures = [camera(seed) for seed in range(5)]
    pictures[3] = resized(0.75, PILImage.Resampling.LANCZOS)(pictures[3])
    report = check_images(folder(pictures))
    assert refused(report) == []
    named = {
        name for finding in report.warnings if finding.code in {"resampled", "untraced"} for name in finding.images
    }
    assert named == {"3.png"}
    assert "resampled" in report.summaries[3].signs


@pytest.mark.parametrize("channels", [1, 3])
def test_tiny_images_with_plain_noise_are_accepted(folder: Folder, channels: int) -> None:
    y, x = np.mgrid[:40, :52]
    smooth = 128 + 60 * (np.sin(x / 9) * np.cos(y / 7))[..., None] * np.ones(channels)
    noisy = [smooth + np.random.default_rng(seed).normal(0, 20, smooth.shape) for seed in range(3)]
    report = check_images(folder(np.clip(picture, 0, 255).astype(np.uint8) for picture in noisy))
    assert refused(report) == []
    assert report.stride == 1


def test_small_cuttings_show_together_what_none_shows_alone(folder: Folder) -> None:
    shrunk = resized(0.75, PILImage.Resampling.BICUBIC)
    for change, right in ((lambda pixels: pixels, []), (shrunk, ["not-original"])):
        whole = change(camera(0, 24, side=560))
        starts = range(0, 420, 105)
        cut = [whole[top : top + 105, left : left + 105] for top in starts for left in starts]
        assert refused(check_images(folder(cut))) == right


# ---------------------------------------------------------------- warnings


def test_duplicates_are_found_by_their_pixels_whatever_the_file(folder: Folder) -> None:
    where = folder([white(0, side=64), white(1, side=64), white(2, side=64)])
    write_image(Image(white(1, side=64)), where / "copy.tif")
    report = check_images(where)
    assert report.duplicates == (("1.png", "copy.tif"),)
    (finding,) = (finding for finding in report.warnings if finding.code == "duplicates")
    assert finding.images == ("1.png", "copy.tif")


def test_clipped_areas_are_told(folder: Folder) -> None:
    burnt = white(0)
    burnt[:160] = 255
    report = check_images(folder([burnt, white(1)]))
    assert report.clipped_share == pytest.approx(0.25, abs=0.02)
    (finding,) = (finding for finding in report.warnings if finding.code == "clipped")
    assert finding.images == ("0.png",)


def test_thin_data_is_told_with_what_others_used(folder: Folder) -> None:
    report = check_images(folder([white(0)]))
    (finding,) = (finding for finding in report.warnings if finding.code == "thin")
    assert "0.1 megapixels" in finding.message
    assert "100 images" in finding.message


def exif(software: str = "", width: int = 0, height: int = 0) -> bytes:
    """An EXIF block with the software's name, and the size that the camera recorded."""
    name = software.encode() + b"\0"
    sub = 8 + 2 + 2 * 12 + 4
    data = sub + 2 + 2 * 12 + 4
    block = b"II*\0" + struct.pack("<I", 8)
    block += struct.pack("<HHHIIHHIII", 2, 305, 2, len(name), data, 34665, 4, 1, sub, 0)
    block += struct.pack("<HHHIIHHIII", 2, 40962, 4, 1, width, 40963, 4, 1, height, 0)
    return block + name


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (exif("Adobe Photoshop 25.0", 64, 64), "saved by Adobe Photoshop 25.0"),
        (exif("Camera 1.0", 6000, 4000), "recorded as 6000x4000, is 64x64"),
    ],
)
def test_what_exif_says_about_editing_is_passed_on(folder: Folder, block: bytes, said: str) -> None:
    where = folder([white(0, side=64)])
    pixels: Pixels = white(1, side=64)
    write_image(Image(pixels, metadata=Metadata(exif=block)), where / "edited.jpg")
    (finding,) = (finding for finding in check_images(where).warnings if finding.code == "edited")
    assert said in finding.message
    assert finding.images == ("edited.jpg",)


@pytest.mark.parametrize("block", [exif("Camera 1.0", 64, 64), b"II*\0broken"], ids=["untouched", "broken"])
def test_exif_that_says_nothing_of_editing_does_no_harm(folder: Folder, block: bytes) -> None:
    where = folder([white(0, side=64)])
    pixels: Pixels = white(1, side=64)
    write_image(Image(pixels, metadata=Metadata(exif=block)), where / "plain.jpg")
    assert "edited" not in codes(check_images(where))


# ---------------------------------------------------------------- errors


def test_folders_without_images_are_errors(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "notes.txt").write_text("no image")
    with pytest.raises(DatasetError, match=r"holds no images: expected \.png.*, got only notes\.txt"):
        check_images(tmp_path / "none")
    with pytest.raises(DatasetError, match="no such folder"):
        check_images(tmp_path / "nowhere")


def test_an_image_that_cannot_be_read_is_named(folder: Folder) -> None:
    where = folder([white(0, side=64)])
    (where / "bad.jpg").write_text("not an image")
    with pytest.raises(DatasetError, match=r"cannot be trained on: .*bad\.jpg") as caught:
        check_images(where)
    assert "bad.jpg or move it out of the folder" in str(caught.value)


def test_what_is_too_small_to_judge_is_named_and_alone_an_error(folder: Folder) -> None:
    where = folder([np.zeros((8, 8, 3), np.uint8)])
    with pytest.raises(DatasetError, match="at least 16 pixels on each side"):
        check_images(where)
    report = check_images(folder([np.zeros((8, 8, 3), np.uint8), white(0, side=64)]))
    (finding,) = (finding for finding in report.warnings if finding.code == "too-small")
    assert finding.images == ("0.png",)


# ---------------------------------------------------------------- real images


@pytest.mark.parametrize(
    ("name", "right"),
    [("polyu_test/noisy", []), ("sidd_dev/noisy", []), ("kodak24", ["no-noise"]), ("polyu_test/clean", ["no-noise"])],
)
def test_real_folders_are_told_apart(data_root: Path, name: str, right: list[str], tmp_path: Path) -> None:
    """A part of each; all of them are in the table of docs/concepts/data-check.md."""
    photographs = sorted((data_root / name).iterdir())
    tmp = tmp_path / "some"
    tmp.mkdir()
    for path in photographs[:: max(1, len(photographs) // 16)]:
        (tmp / path.name).symlink_to(path)
    report = check_images(tmp)
    assert refused(report)[:1] == right, data_report_text(report)
    if not right:
        assert 3 <= report.stride <= 6
